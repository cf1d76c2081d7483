"""Ids of messages, and the signature of Standard Webhooks."""

import base64
import re

from gateway.journal.ids import RecordIds
from gateway.outbox.signing import signed_lines


def test_ids_are_unlike_and_grow_with_time_and_within_a_millisecond() -> None:
    now = 1_764_400_000.0
    ids = RecordIds("msg_", lambda: now)
    made = []
    for number in range(300):
        made.append(ids.new())
        if number % 3 == 0:
            now += 1.0
    assert made == sorted(made)
    assert len(set(made)) == 300
    assert all(re.fullmatch("msg_[0-9a-hjkmnp-tv-z]{26}", each) for each in made)
    assert RecordIds("msg_", lambda: now).new() not in made


def test_a_clock_that_is_set_back_does_not_turn_the_order() -> None:
    now = 1_764_400_000.0
    ids = RecordIds("msg_", lambda: now)
    first = ids.new()
    now -= 60.0
    assert ids.new() > first


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
