"""The balance of a body on its way: what it may do, and when it is looked at."""

import pytest

from gateway.wire.server.body_rate import BodyRate

NEVER = float("inf")


def rate(per_second: float = 100.0, *, idle: float = 60.0, balance: float = 5.0, timeout: float = 0.0) -> BodyRate:
    return BodyRate(per_second, idle, 0.0, balance=balance, timeout=timeout)


def run(body: BodyRate, seconds: float, sends: dict[float, int]) -> float | None:
    """When it is found wanting, if it is, with bytes that move at these times; each step is a tenth of a second."""
    for step in range(1, round(seconds * 10) + 1):
        now = step / 10
        if now in sends:
            body.moved += sends[now]
            body.last = now
        if now >= body.deadline() and body.look(now) is not None:
            return now
    return None


def steady(size: int, seconds: float) -> dict[float, int]:
    return {step / 10: size for step in range(1, round(seconds * 10) + 1)}


@pytest.mark.parametrize(
    ("size", "ended"),
    [(1, 5.5), (5, 10.0), (10, None), (11, None), (1000, None)],
)
def test_a_steady_stream(size: int, ended: float | None) -> None:
    """Ten times `size` bytes a second, of 100 that are asked for, with five seconds to begin with."""
    found = run(rate(), 120.0, steady(size, 120.0))
    assert found == (None if ended is None else pytest.approx(ended, abs=0.3))


def test_within_the_grace_nothing_has_to_come() -> None:
    assert run(rate(), 4.9, {}) is None
    assert run(rate(), 5.1, {}) == pytest.approx(5.0, abs=0.2)


def test_who_was_fast_may_pause_as_long_as_any_client_may() -> None:
    assert run(rate(), 60.0, {1.0: 1_000_000}) is None
    assert run(rate(), 65.0, {1.0: 1_000_000}) == pytest.approx(61.0, abs=0.2)


def test_what_was_sent_fast_does_not_pay_for_hours_of_dripping() -> None:
    dripping = {1.0: 1_000_000_000} | {step / 10: 1 for step in range(20, 3000, 10)}
    ended = run(rate(), 300.0, dripping)
    assert ended is not None
    assert ended < 75.0


def test_silence_is_bounded_without_a_rate() -> None:
    body = rate(0.0, idle=2.0)
    assert body.due == NEVER
    assert run(body, 10.0, {1.0: 1}) == pytest.approx(3.0, abs=0.15)


def test_the_time_of_the_gateway_does_not_count() -> None:
    body = rate(idle=3.0)
    body.stop(1.0)
    body.go(101.0)
    assert body.deadline() == pytest.approx(104.0)
    assert body.look(104.0) == "stands still"
    body = rate()
    body.stop(1.0)
    body.go(101.0)
    assert body.deadline() == pytest.approx(105.0)
    assert body.look(104.9) is None
    assert body.look(106.0) == "moves more slowly than 100 bytes a second"


def test_the_longest_time_of_all() -> None:
    body = rate(timeout=10.0)
    assert run(body, 30.0, steady(1000, 30.0)) == pytest.approx(10.0, abs=0.15)
    assert body.look(10.0) == "took longer than it may"
