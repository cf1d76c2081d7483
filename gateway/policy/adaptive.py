"""An adaptive concurrency limit: as many requests at once as the upstream answers without queueing them.

When an upstream is asked for more than it can do, its queue grows, and with it the time of every answer, while it
answers no more of them than before. Vegas reads the length of that queue off the times (Brakmo and Peterson, 1995):

    queue = limit * (1 - baseline / recent)            the two times are those of `gateway.policy.trend`

    recent < 0.75 baseline                             grow; what was learnt of the throughput is forgotten
    queue > 6 log10(limit)                             shrink, unless more in flight has brought more answers
    full, and more in flight brought no more answers   shrink
    queue < 3 log10(limit)                             grow, if at least half of the limit was in use
    otherwise                                          stay

A step is log10(limit), which is 1 below 100; a tenth of the limit where requests found no place (growing) or where
the queue is long (shrinking). The limit stays within `min` and its ceiling, and shrinks to five times what was in
flight. It is never lowered to measure anything. The rule is that of failsafe-go's adaptive limiter, whose steps are
always log10(limit): a limit of 64 takes a minute to follow an upstream that has lost nine tenths of its capacity.

The baseline learns from every window, half as fast from those in which the limit shrinks or stays: a lasting change
(a release that is slower) becomes the new normal within a minute, and a queue that lasts does not at once.

Without an answer for 60 s nothing is known any more: then half of the way back to `initial` is gone every 30 s.

Several groups of requests may each have a trend of their own; the most pessimistic of them decides.
"""

import math
from dataclasses import dataclass
from typing import Final

from gateway.policy.trend import SHORTEST, Trend

QUIET: Final = 60.0
"""Seconds without an answer after which the limit drifts back."""
_HALF_WAY: Final = 30.0
_MOST_OF_IN_FLIGHT: Final = 5
_ALPHA: Final = 3
_BETA: Final = 6
_TENTH: Final = 0.1
_FIFTH: Final = 0.2
_BETTER: Final = 0.75
_GROWS: Final = 0.5
_LEARNT_WHILE_FULL: Final = 0.5
# The throughput says nothing against the limit where it correlates this much, the times speak against it from there on.
_WEAK: Final = 0.3
_STRONG: Final = 0.5
_STEADY: Final = 0.2
# A group that has judged longer ago than this has no say.
_HEARD: Final = 30.0

DEFAULT_GROUP: Final = "default"
"""The group of requests of which nobody says how they compare."""

SHRINK: Final = -1
STAY: Final = 0
GROW: Final = 1


@dataclass(frozen=True, slots=True)
class AdaptiveSettings:
    """With `enforce` False the limit is computed and shown, and changes nothing."""

    enforce: bool = True
    min: int = 8
    initial: int = 64

    def words(self, ceiling: int) -> str:
        """Between what, and from where on, for people."""
        least, initial = min(self.min, ceiling), min(self.initial, ceiling)
        return f"{least} to {ceiling} from {initial}" + ("" if self.enforce else ", observed")


class Group:
    """Requests whose times are comparable. `verdict` is that of the last window, which ended at `judged_at`."""

    __slots__ = ("judged_at", "name", "trend", "verdict")

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.trend = Trend(now)
        self.verdict = GROW
        self.judged_at = -math.inf


class AdaptiveLimit:
    """`value` is the limit, which may be a fraction. Whoever finds no place free sets `full`; each window begins with
    it unset.

    All instants are those of one monotonic clock."""

    __slots__ = ("_ceiling", "_grown_at", "_held", "_initial", "_last", "_least", "full", "groups", "settings", "value")

    def __init__(self, settings: AdaptiveSettings, ceiling: int, now: float) -> None:
        self.settings = settings
        self.groups: list[Group] = []
        self.full = False
        self._ceiling = float(ceiling)
        self._least = float(min(settings.min, ceiling))
        self._initial = min(max(float(settings.initial), self._least), self._ceiling)
        self.value = self._held = self._initial
        self._last = now
        self._grown_at = -math.inf

    def __repr__(self) -> str:
        return f"<AdaptiveLimit {self.value:.1f} of {self._ceiling:.0f}>"

    @property
    def ceiling(self) -> int:
        """The most that the limit may become."""
        return int(self._ceiling)

    @property
    def limit(self) -> int:
        """The limit in whole requests."""
        return int(self.value)

    def group(self, name: str) -> Group:
        """The group of this name; it is made when it is first asked for."""
        for each in self.groups:
            if each.name == name:
                return each
        made = Group(name, self._last)
        self.groups.append(made)
        return made

    def sample(self, group: Group, seconds: float, in_flight: int, now: float) -> bool:
        """The head of an answer came after `seconds`, when `in_flight` requests were. Returns whether the limit may
        have changed. HOT."""
        drifted = now - self._last > QUIET
        if drifted:
            self.drift(now)
            self._held = self.value
            for each in self.groups:
                each.trend.begin(now)
        self._last = now
        if not group.trend.sample(seconds, in_flight, now):
            return drifted
        self._judge(group, now)
        return True

    def drift(self, now: float) -> bool:
        """Without answers the limit goes back to `initial`. Returns whether it may have changed."""
        quiet = now - self._last - QUIET
        if quiet <= 0.0:
            return False
        self.value = self._initial + (self._held - self._initial) * math.pow(0.5, quiet / _HALF_WAY)
        return True

    def _judge(self, group: Group, now: float) -> None:
        """A window of the group has ended: change the limit by what it says."""
        trend = group.trend
        trend.close(now)
        in_flight = trend.busiest
        full = self.full or in_flight >= int(self.value)
        verdict, long_queue = self._verdict(trend, full=full)
        group.verdict = verdict
        group.judged_at = now
        if verdict == GROW and not self._all_grow(now):
            verdict = STAY
        old = self.value
        step = _log(old)
        if verdict == SHRINK:
            # Down to the length of the queue that is still welcome, but a tenth of the limit at a time.
            new = old - (max(step, min(long_queue, old * _TENTH)) if long_queue > 0.0 else step)
        elif verdict == GROW and in_flight * 2 >= old and now - self._grown_at >= SHORTEST * 0.5:
            better = trend.recent < _BETTER * trend.baseline.value
            new = old + max(step, old * (_FIFTH if better else _TENTH) if full else 0.0)
            self._grown_at = now
        else:
            new = old
        most = float(_MOST_OF_IN_FLIGHT * in_flight)
        if new > most:
            new = old - step if old > most else most
        self.value = self._held = min(self._ceiling, max(self._least, new))
        self._learn(trend, verdict)
        trend.begin(now)
        self.full = False

    def _verdict(self, trend: Trend, *, full: bool) -> tuple[int, float]:
        """What the window says, and by how much the queue is longer than it may be, 0 where it is not."""
        recent, baseline = trend.recent, trend.baseline.value or trend.recent
        if recent < _BETTER * baseline:
            trend.throughput.clear()
            trend.times.clear()
            return GROW, 0.0
        step = _log(self.value)
        queue = math.ceil(self.value * (1.0 - baseline / recent))
        answers, times = trend.throughput.coefficient, trend.times.coefficient
        if queue > _BETA * step:
            if full and answers > _GROWS:
                return STAY, 0.0
            return SHRINK, (queue - _ALPHA * step) * 0.5
        if full and (answers < 0.0 or (times > _STRONG and self._no_more(trend, answers))):
            return SHRINK, 0.0
        return (GROW if queue < _ALPHA * step else STAY), 0.0

    def _no_more(self, trend: Trend, answers: float) -> bool:
        """Whether the answers a second have hardly changed with what was in flight."""
        variation = trend.throughput.variation
        return answers < _WEAK or (answers < _GROWS and variation is not None and variation < _STEADY)

    def _learn(self, trend: Trend, verdict: int) -> None:
        recent, baseline = trend.recent, trend.baseline
        eager = baseline.value == 0.0 or verdict == GROW or recent < baseline.value
        baseline.add(recent, 1.0 if eager else _LEARNT_WHILE_FULL)

    def _all_grow(self, now: float) -> bool:
        """Whether no group that was heard of lately speaks against it."""
        return all(each.verdict == GROW or now - each.judged_at >= _HEARD for each in self.groups)


def _log(limit: float) -> float:
    """The whole part of log10, and at least 1."""
    return float(max(1, int(math.log10(max(1.0, limit)))))
