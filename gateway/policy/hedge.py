"""When a request that is still without an answer is sent a second time, beside the first one.

    after = the fixed time                                         `after: 50ms`
    after = max(min_after, quantile of the recent times)           `after: p95`; never, below `min_observations`

The times are those from sending an attempt to the head of its answer (`gateway.policy.recent_times`). What hedging does
to an upstream must not change what is measured of it, or the time would shrink window by window:

    a first attempt, or a retry, with an answer   its time
    one that was given up for its hedge, or that  the time that was waited, where that is at least `after`: its own
    its client has left                           would have been longer, and a quantile asks only for the order; a
                                                  hedge is made at `after` and not before, so none is lost
    one whose client has left before that         nothing: it may have been about to answer
    a hedge                                       nothing: those that are beaten would be missing, and they are the slow

"The Tail at Scale" (Dean and Barroso, 2013) defers the second request to the 95th percentile, so that the load grows by
5 %. Where all answers become slower at once more requests are late, until the window has seen it: the retry budget
bounds how many are sent twice meanwhile.
"""

import math
from dataclasses import dataclass
from typing import Final

from gateway.policy.recent_times import RecentTimes

PUSHBACK: Final = 1.0
"""Seconds without hedges after a 429 that does not say for how long."""
LONGEST_PUSHBACK: Final = 3600.0
# How long a quantile is taken for the present one.
_KEPT: Final = 0.25


@dataclass(frozen=True, slots=True)
class HedgeSettings:
    """`after` in seconds, None: the `quantile` of the recent times, at least `min_after` seconds, once there are
    `min_observations`."""

    after: float | None = None
    quantile: float = 0.95
    min_after: float = 0.01
    min_observations: int = 100

    @property
    def words(self) -> str:
        """When, as it is configured."""
        return f"p{self.quantile * 100:g}" if self.after is None else f"{self.after:g} s"


class HedgeDelay:
    """Of one route and upstream. Instants are of one monotonic clock; all in seconds."""

    __slots__ = ("_after", "_held_off_until", "_right_until", "_times", "settings")

    def __init__(self, settings: HedgeSettings, now: float) -> None:
        self.settings = settings
        self._times: RecentTimes | None = None
        self._after = math.inf
        self._right_until = now
        self._held_off_until = -math.inf
        if settings.after is None:
            self._times = RecentTimes(now)
        else:
            self._after = settings.after
            self._right_until = math.inf

    def __repr__(self) -> str:
        return f"<HedgeDelay {self.settings.words}: {self._after:g}>"

    def after(self, now: float) -> float:
        """How long an attempt may be without an answer before it is hedged; infinite while too little is known.
        HOT."""
        times = self._times
        if now >= self._right_until and times is not None:
            self._right_until = now + _KEPT
            settings = self.settings
            quantile = times.quantile(settings.quantile, now)
            enough = times.count >= settings.min_observations
            self._after = max(settings.min_after, quantile) if enough else math.inf
        return self._after

    def observations(self, now: float) -> int:
        """How many times `after` rests upon; 0 where it is fixed."""
        times = self._times
        if times is None:
            return 0
        times.quantile(1.0, now)
        return times.count

    def answered(self, seconds: float, now: float) -> None:
        """The head of an answer came after so long, or the time limit. HOT."""
        if self._times is not None:
            self._times.add(seconds, now)

    def given_up(self, seconds: float, now: float) -> None:
        """So long was waited, and then nobody wanted the answer any more."""
        if self._times is not None and seconds >= self.after(now):
            self._times.add(seconds, now)

    def pushed_back(self, seconds: float | None, now: float) -> None:
        """The upstream asks to be left alone for so long; None: for a while."""
        wait = PUSHBACK if seconds is None else min(seconds, LONGEST_PUSHBACK)
        self._held_off_until = max(self._held_off_until, now + wait)

    def held_off(self, now: float) -> float:
        """The seconds for which there is no hedge, because the upstream has asked for it; 0 for none."""
        return max(0.0, self._held_off_until - now)
