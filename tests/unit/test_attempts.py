"""Failed attempts by address."""

import pytest

from gateway.policy.attempts import Attempts


def test_ten_failures_are_free_and_one_comes_back_every_six_seconds() -> None:
    attempts = Attempts()
    for _ in range(10):
        assert attempts.wait("a", 0.0) == 0.0
        attempts.failed("a", 0.0)
    assert attempts.wait("a", 0.0) == pytest.approx(6.0)
    assert attempts.wait("b", 0.0) == 0.0
    assert attempts.wait("a", 6.0) == 0.0
    attempts.failed("a", 6.0)
    assert attempts.wait("a", 9.0) == pytest.approx(3.0)


def test_what_fails_beyond_the_last_one_makes_the_address_wait_longer_but_not_for_ever() -> None:
    attempts = Attempts(burst=3, every=1.0)
    for _ in range(100):
        attempts.failed("a", 0.0)
    assert attempts.wait("a", 0.0) == pytest.approx(4.0)
    assert attempts.wait("a", 4.0) == 0.0


def test_the_table_is_bounded_and_forgets_whoever_failed_longest_ago() -> None:
    attempts = Attempts(burst=1, most=2)
    for client in ("a", "b", "a", "c"):
        attempts.failed(client, 0.0)
    assert len(attempts) == 2
    assert attempts.wait("b", 0.0) == 0.0
    assert attempts.wait("a", 0.0) > 0.0
