"""What happens to the upstreams of the simulation."""

import random
from collections.abc import Callable, Sequence
from typing import Final

from benchmarks.simulation.upstream import Scenario, Second

Service = Callable[[float, random.Random], float]

CUT: Final = 30
MENDED: Final = 90


def exponential(mean: float) -> Service:
    """Service times around `mean` seconds that vary as much as those of many servers do."""
    return lambda _now, rng: rng.expovariate(1.0 / mean)


def _two_kinds(_now: float, rng: random.Random) -> float:
    """Most answers are quick, 15 % take half a second."""
    return rng.expovariate(100.0) if rng.random() < 0.85 else max(0.3, rng.gauss(0.5, 0.02))


STEP = Scenario(
    "step",
    rate=lambda _now: 300.0,
    workers=lambda now: 2 if CUT <= now < MENDED else 20,
    service=exponential(0.05),
    seconds=150,
)
"""An upstream that can do 400 requests a second and is asked for 300 loses nine tenths of its capacity for a minute."""

SLOWER = Scenario(
    "slower",
    rate=lambda _now: 300.0,
    workers=lambda _now: 20,
    service=lambda now, rng: rng.expovariate(1.0 / (0.5 if CUT <= now < MENDED else 0.05)),
    seconds=150,
)
"""Likewise, because each request takes ten times as long."""

RAMP = Scenario(
    "ramp",
    rate=lambda now: min(800.0, 50.0 + 5.0 * now),
    workers=lambda _now: 20,
    service=exponential(0.05),
    seconds=200,
)
"""The load grows from an eighth of the capacity to twice as much."""

OSCILLATION = Scenario(
    "oscillation",
    rate=lambda _now: 500.0,
    workers=lambda now: 20 if int(now) // 20 % 2 == 0 else 8,
    service=exponential(0.05),
    seconds=200,
)
"""The capacity goes up and down every 20 s, and the load is always above it."""

OVERLOAD = Scenario(
    "overload", rate=lambda _now: 600.0, workers=lambda _now: 20, service=exponential(0.05), seconds=300
)
"""One and a half times what the upstream can do, for good."""

BIMODAL = Scenario("bimodal", rate=lambda _now: 200.0, workers=lambda _now: 40, service=_two_kinds, seconds=300)
"""Two kinds of requests, whose mixture is such that the 90th percentile lies between them."""

BIMODAL_GROUPED = Scenario(
    "bimodal, grouped",
    rate=lambda _now: 200.0,
    workers=lambda _now: 40,
    service=_two_kinds,
    seconds=300,
    grouped=True,
)
"""Likewise, and the slow ones are a latency group of their own."""

LOW_TRAFFIC = Scenario(
    "low traffic",
    rate=lambda now: 1.0 if now < 400 else 0.0,
    workers=lambda _now: 20,
    service=exponential(0.05),
    seconds=700,
)
"""One request a second, and then none."""

SLOW_START = Scenario(
    "slow start",
    rate=lambda _now: 1500.0,
    workers=lambda _now: 200,
    service=exponential(0.1),
    seconds=60,
)
"""An upstream that needs far more in flight (150) than the limit begins with (64)."""

CLASSES = Scenario(
    "classes",
    rate=lambda _now: 300.0,
    workers=lambda now: 2 if CUT <= now < MENDED else 20,
    service=exponential(0.05),
    seconds=150,
    classes=(0.05, 0.1, 0.5, 0.2, 0.15),
    queue=64,
)
"""As `step`, with requests of all priorities; 5 % of them are critical."""

SCENARIOS: Final = (
    STEP,
    SLOWER,
    RAMP,
    OSCILLATION,
    OVERLOAD,
    BIMODAL,
    BIMODAL_GROUPED,
    LOW_TRAFFIC,
    SLOW_START,
    CLASSES,
)


def goodput(seconds: Sequence[Second]) -> float:
    """Answers a second that came in time, on average."""
    return sum(each.answered for each in seconds) / len(seconds)


def percentile(seconds: Sequence[Second], share: float) -> float:
    """The time within which `share` of the answers came, in seconds; 0 without any."""
    times = sorted(time for each in seconds for time in each.times)
    return times[int(share * (len(times) - 1))] if times else 0.0


def recovered_after(seconds: Sequence[Second], since: int, rate: float) -> int | None:
    """Seconds from `since` until three in a row have at least 90 % of `rate` answers; None if they never do."""
    for start in range(since, len(seconds) - 2):
        if goodput(seconds[start : start + 3]) >= 0.9 * rate:
            return start - since
    return None
