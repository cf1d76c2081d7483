"""Quantiles of recent times against their definition, computed from the full history."""

import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.recent_times import RecentTimes

# Instants in 64ths of a second, so that the cells of test and code cannot differ by rounding.
_STEP = st.tuples(st.one_of(st.integers(0, 64), st.integers(0, 4000)), st.floats(0.0002, 100.0))


@given(st.lists(_STEP, min_size=1, max_size=120), st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 1.0]))
def test_a_quantile_is_that_of_the_window_within_one_bucket(steps: list[tuple[int, float]], part: float) -> None:
    times = RecentTimes(0.0)
    now = 0.0
    history: list[tuple[int, float]] = []
    for elapsed, seconds in steps:
        now += elapsed / 64
        times.add(seconds, now)
        cell = int(now // 10.0)
        history.append((cell, seconds))
        window = sorted(seconds for other, seconds in history if other > cell - 6)
        true = window[math.ceil(part * len(window) - 1e-9) - 1]
        assert times.count == len(window)
        assert true * (1 - 1e-9) <= times.quantile(part, now) <= true * 2.0 ** (1 / 16) * (1 + 1e-9)
