"""The window of outcomes, by table and against a list that is filtered each time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.window import OutcomeWindow


def counts(window: OutcomeWindow) -> tuple[int, int, int]:
    return window.calls, window.failures, window.slow_calls


def test_starts_empty() -> None:
    assert counts(OutcomeWindow(10, 60.0)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("failed", "slow", "expected"),
    [(False, False, (1, 0, 0)), (True, False, (1, 1, 0)), (False, True, (1, 0, 1)), (True, True, (1, 1, 1))],
)
def test_counts_each_kind(failed: bool, slow: bool, expected: tuple[int, int, int]) -> None:
    window = OutcomeWindow(10, 60.0)
    window.record(0.0, failed, slow)
    assert counts(window) == expected


def test_the_oldest_makes_room() -> None:
    window = OutcomeWindow(3, 60.0)
    window.record(0.0, failed=True)
    for now in (1.0, 2.0, 3.0):
        window.record(now)
    assert counts(window) == (3, 0, 0)


def test_what_is_too_old_is_dropped_when_recording_and_when_asked() -> None:
    window = OutcomeWindow(10, 60.0)
    window.record(0.0, failed=True)
    window.record(1.0, failed=True)
    window.record(60.0)
    assert counts(window) == (2, 1, 0)
    window.expire(61.0)
    assert counts(window) == (1, 0, 0)
    window.expire(1000.0)
    assert counts(window) == (0, 0, 0)


def test_clear_forgets_everything() -> None:
    window = OutcomeWindow(2, 60.0)
    for now in (0.0, 1.0, 2.0):
        window.record(now, failed=True, slow=True)
    window.clear()
    assert counts(window) == (0, 0, 0)
    window.record(3.0)
    assert counts(window) == (1, 0, 0)


def test_repr_shows_the_counts() -> None:
    window = OutcomeWindow(2, 60.0)
    window.record(0.0, failed=True)
    assert repr(window) == "OutcomeWindow(calls=1, failures=1, slow_calls=0)"


@given(
    size=st.integers(1, 8),
    seconds=st.integers(1, 10),
    steps=st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.booleans(), st.booleans()), max_size=60),
)
def test_agrees_with_a_filtered_list(size: int, seconds: int, steps: list[tuple[int, bool, bool, bool]]) -> None:
    window = OutcomeWindow(size, float(seconds))
    kept: list[tuple[float, bool, bool]] = []
    now = 0.0
    for wait, failed, slow, recorded in steps:
        now += wait
        if recorded:
            window.record(now, failed, slow)
            kept.append((now, failed, slow))
        else:
            window.expire(now)
        kept = [entry for entry in kept[-size:] if entry[0] > now - seconds]
        assert counts(window) == (len(kept), sum(f for _, f, _ in kept), sum(s for _, _, s in kept))
