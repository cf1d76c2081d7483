"""Ids of messages, and the signature of Standard Webhooks."""

import base64
import re

from gateway.outbox.ids import new_id
from gateway.outbox.signing import signed_lines


def test_ids_are_unlike_and_grow_with_time() -> None:
    made = [new_id(1_764_400_000.0 + number) for number in range(100)]
    assert made == sorted(made)
    assert all(re.fullmatch("msg_[0-9a-hjkmnp-tv-z]{26}", each) for each in made)
    assert len({new_id(1.0) for _ in range(1000)}) == 1000


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of the specification's libraries."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    lines = signed_lines("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', [secret])
    assert lines == (
        b"webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek\r\n"
        b"webhook-timestamp: 1614265330\r\n"
        b"webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=\r\n"
    )


def test_without_a_secret_there_is_no_signature() -> None:
    assert b"signature" not in signed_lines("msg_a", 1, b"", [])
