"""The times of the last minute, and their quantiles."""

import pytest

from gateway.policy.recent_times import LEAST, WINDOW, RecentTimes


def test_without_a_time_there_is_no_quantile() -> None:
    times = RecentTimes(0.0)
    assert (times.count, times.quantile(0.95, 1.0)) == (0, 0.0)


@pytest.mark.parametrize("part", [0.5, 0.9, 0.95, 0.99, 1.0])
def test_a_quantile_is_at_most_one_bucket_above_the_true_one(part: float) -> None:
    times = RecentTimes(0.0)
    for number in range(1000, 0, -1):
        times.add(number / 1000, 1.0)
    assert part <= times.quantile(part, 1.0) <= part * 1.045


def test_what_is_shorter_or_longer_than_any_bucket_counts_as_the_nearest() -> None:
    times = RecentTimes(0.0)
    times.add(0.0, 0.0)
    assert times.quantile(1.0, 0.0) == LEAST
    times.add(86_400.0, 0.0)
    assert 120.0 < times.quantile(1.0, 0.0) < 130.0


def test_times_leave_the_window_whole_cells_at_a_time() -> None:
    times = RecentTimes(0.0)
    times.add(1.0, 0.0)
    times.add(0.1, 15.0)
    assert times.quantile(1.0, WINDOW - 0.1) >= 1.0
    assert times.quantile(1.0, WINDOW) == pytest.approx(0.1, rel=0.045)
    assert times.count == 1
    assert times.quantile(1.0, 10 * WINDOW) == 0.0
    assert times.count == 0


def test_after_a_long_pause_the_cells_are_in_step() -> None:
    times = RecentTimes(0.0)
    times.add(1.0, 3605.0)
    assert times.quantile(1.0, 3659.0) >= 1.0
    assert times.quantile(1.0, 3660.0) == 0.0
