"""A table of cases for the trip rules, with the verdict that `gateway/policy/verdict.py` gives for each.

The stores are held to this table: the one in memory, which calls that module, and the one in Redis, which has to repeat
its rules in Lua. The table is made, and not written by hand, so that it has every count just below, at, and just above
every limit, for several settings, alone and with other replicas that agree or deny.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.policy.breaker import BreakerSettings
from gateway.policy.tally import Tally
from gateway.policy.verdict import Rule, cause, judge_fleet, total


@dataclass(frozen=True, slots=True)
class Replica:
    """What one replica reports: its window, and how many of its last calls failed in a row."""

    calls: int
    failures: int = 0
    slow_calls: int = 0
    consecutive: int = 0

    @property
    def tally(self) -> Tally:
        return Tally(self.calls, self.failures, self.slow_calls)


@dataclass(frozen=True, slots=True)
class VerdictCase:
    """`cause` is what the circuit must open with, None when it must stay closed."""

    settings: BreakerSettings
    replicas: tuple[Replica, ...]
    rule: Rule | None
    cause: str | None

    @property
    def denied(self) -> bool:
        """Whether the sum of the replicas trips, but the fleet does not."""
        whole = total([replica.tally for replica in self.replicas])
        return self.rule is None and judge_fleet(self.settings, 0, [whole]) is not None


def verdict_cases() -> list[VerdictCase]:
    """The table. Every case is in it once, in a fixed order."""
    found = {(settings, replicas): None for settings in _settings() for replicas in _fleets(settings)}
    return [_judged(settings, replicas) for settings, replicas in found]


def _judged(settings: BreakerSettings, replicas: tuple[Replica, ...]) -> VerdictCase:
    tallies = [replica.tally for replica in replicas]
    rule = judge_fleet(settings, sum(replica.consecutive for replica in replicas), tallies)
    return VerdictCase(settings, replicas, rule, None if rule is None else cause(rule, settings, total(tallies)))


# Failure rate, slow-call rate (None: the rule is off), minimum_calls. 0.07, 0.1 and 0.3 have no exact binary form, and
# 1.0 is the highest rate there is.
_LIMITS = (
    (0.07, None, 1),
    (0.07, 1.0, 10),
    (0.3, 0.1, 10),
    (0.3, None, 1),
    (0.5, None, 10),
    (0.5, 0.1, 1),
    (1.0, 1.0, 10),
    (1.0, 0.1, 1),
)


def _settings() -> Iterator[BreakerSettings]:
    for failure_rate, slow_rate, minimum in _LIMITS:
        yield BreakerSettings(
            failure_threshold=3,
            failure_rate_threshold=failure_rate,
            slow_call_threshold=None if slow_rate is None else 1.0,
            slow_call_rate_threshold=slow_rate or 0.5,
            minimum_calls=minimum,
            reset_timeout=30.0,
        )


def _fleets(settings: BreakerSettings) -> Iterator[tuple[Replica, ...]]:
    yield from _alone(settings)
    yield from _in_a_row(settings)
    yield from _with_others(settings)


def _alone(settings: BreakerSettings) -> Iterator[tuple[Replica, ...]]:
    """One replica, around minimum_calls and around both rates."""
    for calls in sorted({0, settings.minimum_calls - 1, settings.minimum_calls, settings.minimum_calls + 1, 100}):
        for failures in _around(calls, settings.failure_rate_threshold):
            yield (Replica(calls, failures),)
        for slow in _around(calls, settings.slow_call_rate_threshold):
            yield (Replica(calls, 0, slow),)
            yield (Replica(calls, calls, slow),)


def _in_a_row(settings: BreakerSettings) -> Iterator[tuple[Replica, ...]]:
    """Consecutive failures of one replica, or of several together; with and without healthy calls elsewhere."""
    threshold = settings.failure_threshold
    for run in (threshold - 1, threshold):
        yield (Replica(run, run, 0, run),)
        for first in range(run + 1):
            rest = run - first
            yield Replica(first, first, 0, first), Replica(rest, rest, 0, rest)
            yield Replica(first, first, 0, first), Replica(rest, rest, 0, rest), Replica(1000)


def _with_others(settings: BreakerSettings) -> Iterator[tuple[Replica, ...]]:
    """A bad replica, and one or two others that have too few calls to deny it, or just enough, or more."""
    minimum = settings.minimum_calls
    for others in sorted({0, minimum - 1, minimum, minimum + 1}):
        for failures in _around(others, settings.failure_rate_threshold):
            yield Replica(minimum, minimum), Replica(others, failures)
            half, rest = others // 2, others - others // 2
            low, high = min(failures, half), failures - min(failures, half)
            yield Replica(2 * minimum, 2 * minimum), Replica(half, low), Replica(rest, high)
        for slow in _around(others, settings.slow_call_rate_threshold):
            yield Replica(minimum, 0, minimum), Replica(others, 0, slow)
            yield Replica(minimum, minimum, minimum), Replica(others, 0, slow)


def _around(calls: int, rate: float) -> list[int]:
    """The counts just below, at, and just above `rate` of so many calls, with none and all of them."""
    least = math.ceil(calls * rate)
    return sorted({0, calls, *(count for count in (least - 1, least, least + 1) if 0 <= count <= calls)})
