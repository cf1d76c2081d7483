"""After how long a request is hedged, on a clock of numbers."""

import math
import random

import pytest

from gateway.policy.hedge import LONGEST_PUSHBACK, PUSHBACK, HedgeDelay, HedgeSettings

P95 = HedgeSettings(min_after=0.001, min_observations=100)


def told(delay: HedgeDelay, seconds: float, count: int, now: float) -> float:
    """So many answers after `seconds`, 100 a second; returns the instant of the last one."""
    for number in range(count):
        delay.answered(seconds, now + number / 100)
    return now + count / 100


def test_a_fixed_time_holds_from_the_first_request_on() -> None:
    delay = HedgeDelay(HedgeSettings(after=0.05), 0.0)
    assert delay.after(0.0) == 0.05
    told(delay, 3.0, 1000, 0.0)
    delay.given_up(3.0, 10.0)
    assert (delay.after(11.0), delay.observations(11.0)) == (0.05, 0)


def test_there_is_no_hedge_before_enough_is_known() -> None:
    delay = HedgeDelay(P95, 0.0)
    now = told(delay, 0.02, 99, 0.0)
    assert math.isinf(delay.after(now + 1.0))
    delay.answered(0.02, now + 1.0)
    assert delay.after(now + 2.0) == pytest.approx(0.02, rel=0.045)
    assert delay.observations(now + 2.0) == 100


def test_what_was_known_is_forgotten_after_a_minute_without_requests() -> None:
    delay = HedgeDelay(P95, 0.0)
    now = told(delay, 0.02, 200, 0.0)
    assert delay.after(now) < 1.0
    assert math.isinf(delay.after(now + 61.0))


def test_it_is_never_below_the_floor() -> None:
    delay = HedgeDelay(HedgeSettings(min_after=0.01), 0.0)
    now = told(delay, 0.002, 200, 0.0)
    assert delay.after(now) == 0.01


def test_another_quantile_may_be_asked_for() -> None:
    delay = HedgeDelay(HedgeSettings(quantile=0.99, min_after=0.001), 0.0)
    told(delay, 0.01, 970, 0.0)
    now = told(delay, 0.5, 30, 10.0)
    assert delay.after(now) >= 0.5
    assert (delay.settings.words, HedgeSettings(after=0.05).words) == ("p99", "0.05 s")


def test_a_client_that_leaves_early_says_nothing_and_one_that_leaves_late_counts_with_its_time() -> None:
    delay = HedgeDelay(P95, 0.0)
    delay.given_up(5.0, 0.0)
    assert delay.observations(0.0) == 0, "nothing is known yet that it could be compared with"
    now = told(delay, 0.1, 100, 0.0)
    delay.given_up(0.05, now)
    assert delay.observations(now) == 100
    delay.given_up(0.2, now)
    assert delay.observations(now) == 101


def test_an_upstream_that_asks_for_time_gets_it() -> None:
    delay = HedgeDelay(P95, 0.0)
    assert delay.held_off(0.0) == 0.0
    delay.pushed_back(5.0, 1.0)
    delay.pushed_back(2.0, 2.0)
    assert delay.held_off(2.0) == 4.0
    assert delay.held_off(6.0) == 0.0
    delay.pushed_back(None, 10.0)
    assert delay.held_off(10.0) == PUSHBACK
    delay.pushed_back(math.inf, 10.0)
    assert delay.held_off(10.0) == LONGEST_PUSHBACK


class Upstream:
    """Answers within 10 to 20 ms, `slow` of them after a second; every request is hedged once its time has come."""

    def __init__(self, slow: float) -> None:
        self._rng = random.Random(7)
        self._slow = slow
        self.delay = HedgeDelay(P95, 0.0)
        self.scale = 1.0

    def run(self, seconds: float, begun: float) -> float:
        """100 requests a second. Returns the part of them that was hedged in the last third of the time."""
        delay, hedged, counted = self.delay, 0, 0
        for number in range(int(seconds * 100)):
            now = begun + number / 100
            first, after = self._time(), delay.after(now)
            if first <= after:
                delay.answered(first, now)
            else:
                second = self._time()
                delay.given_up(after + second, now) if after + second < first else delay.answered(first, now)
            if number >= seconds * 100 * 2 / 3:
                counted += 1
                hedged += first > after
        return hedged / counted

    def _time(self) -> float:
        return self.scale * (1.0 if self._rng.random() < self._slow else self._rng.uniform(0.01, 0.02))


@pytest.mark.parametrize("slow", [0.0, 0.02, 0.08])
def test_what_is_hedged_away_does_not_change_the_time(slow: float) -> None:
    """As many requests are hedged after five minutes as after one: one in twenty."""
    upstream = Upstream(slow)
    upstream.run(60.0, 0.0)
    first = upstream.delay.after(60.0)
    later = upstream.run(240.0, 60.0)
    if slow <= 0.05:
        assert upstream.delay.after(300.0) == pytest.approx(first, rel=0.1)
        assert 0.02 <= later <= 0.065
    else:
        # More than one answer in twenty is slow, so it is they who are waited for.
        assert first >= 1.0
        assert later == 0.0


def test_answers_that_become_slower_are_followed_within_seconds_and_faster_ones_within_the_window() -> None:
    upstream = Upstream(0.02)
    upstream.run(60.0, 0.0)
    upstream.scale = 10.0
    upstream.run(6.0, 60.0)
    assert upstream.delay.after(66.5) >= 0.1
    upstream.scale = 1.0
    upstream.run(70.0, 67.0)
    assert upstream.delay.after(137.5) <= 0.025
