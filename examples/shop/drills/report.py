"""What a drill has found, and what the report says of all of them.

Every check has a name, what was seen, and whether that is good. Figures of the service levels are collected over all
drills, and the worst one counts.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Level:
    """A service level of the runbook: seconds that something may take, or a share."""

    name: str
    limit: float
    unit: str


TRANSIENT: Final = Level("recovery from a transient error", 5.0, "s")
BREAKER: Final = Level("recovery of a circuit breaker", 30.0, "s")
COMPENSATION: Final = Level("compensation of an order", 10.0, "s")
AVAILABILITY: Final = Level("availability", 0.999, "share")
ERROR_RATE: Final = Level("error rate", 0.05, "share")


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    good: bool
    seen: str


@dataclass
class Drill:
    """One incident. `slack` multiplies every limit of time: a machine that is busy with other things is slow."""

    title: str
    slack: float = 1.0
    checks: list[Check] = field(default_factory=list)
    figures: list[tuple[Level, float]] = field(default_factory=list)
    skipped: str | None = None
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether all checks are."""
        return all(check.good for check in self.checks)

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.skipped is not None:
            return "SKIP"
        return "PASS" if self.good else "FAIL"

    def check(self, name: str, good: bool, seen: object = "") -> None:
        """Note whether something is as it must be."""
        self.checks.append(Check(name, good, str(seen)))

    def within(self, name: str, seconds: float | None, level: Level) -> None:
        """Note how long something took that has a service level; None if it did not come at all."""
        limit = level.limit * self.slack
        if seconds is None:
            self.check(name, False, f"not within {limit:g} s")
            return
        self.figures.append((level, seconds))
        self.check(name, seconds < limit, f"after {seconds:.2f} s, allowed {limit:g} s")

    def lines(self) -> list[str]:
        """For people."""
        why = f": {self.skipped}" if self.skipped else f" ({self.seconds:.1f} s)"
        return [
            f"{self.verdict}  {self.title}{why}",
            *(
                f"      {'ok  ' if each.good else 'FAIL'}  {each.name}{f': {each.seen}' * bool(each.seen)}"
                for each in self.checks
            ),
        ]


def percentile(values: Sequence[float], number: int) -> float:
    """The value that so many of a hundred do not exceed; 0 where there are too few to say."""
    return statistics.quantiles(values, n=100)[number - 1] if len(values) > 1 else 0.0


@dataclass
class Orders:
    """What customers have met in all drills: orders that were to be placed, and requests that it took."""

    wanted: int = 0
    placed: int = 0
    requests: int = 0
    failed_requests: int = 0


def service_levels(drills: Sequence[Drill], orders: Orders, slack: float) -> list[Check]:
    """The table of the runbook with what was seen, the worst of each."""
    rows = []
    for level in (TRANSIENT, BREAKER, COMPENSATION):
        seen = [value for drill in drills for of, value in drill.figures if of is level]
        limit = level.limit * slack
        worst = max(seen, default=0.0)
        text = f"{worst:.2f} s at most in {len(seen)} cases, target below {limit:g} s" if seen else "not seen"
        rows.append(Check(level.name, worst < limit, text))
    availability = orders.placed / orders.wanted if orders.wanted else 1.0
    text = f"{availability:.2%} of {orders.wanted} orders were placed, target at least {AVAILABILITY.limit:.1%}"
    rows.append(Check(AVAILABILITY.name, availability >= AVAILABILITY.limit, text))
    # An outage that takes longer fails more requests.
    limit = min(1.0, ERROR_RATE.limit * slack)
    error_rate = orders.failed_requests / orders.requests if orders.requests else 0.0
    text = f"{error_rate:.2%} of {orders.requests} requests failed, target below {limit:.0%}"
    rows.append(Check(ERROR_RATE.name, error_rate < limit, text))
    return rows


def summary(drills: Sequence[Drill], levels: Sequence[Check]) -> list[str]:
    """The end of the report."""
    failed = [drill.title for drill in drills if not drill.good] + [level.name for level in levels if not level.good]
    return [
        "",
        "Service levels over all drills:",
        *(f"{'PASS' if level.good else 'FAIL'}  {level.name}: {level.seen}" for level in levels),
        "",
        f"failed: {', '.join(failed)}" if failed else "all drills passed",
    ]
