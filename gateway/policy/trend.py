"""How long answers take lately, beside how long they usually take: what an adaptive limit is decided by.

    window      at least 1 s, for slow answers twice the fastest of them, at most 30 s; and at least 50 answers
    recent      the 90th percentile of a window: the median of those of the last three windows
    baseline    an exponential moving average of `recent` over ten windows
    growth      the correlation of the most in flight with the answers a second, and with `recent`, over twelve windows

These are the parts of failsafe-go's adaptive limiter (adaptivelimiter/adaptivelimiter.go). It estimates throughput as
in flight over time; here it is counted, because the estimate correlates with the number in flight by itself.
"""

import math
from typing import Final

MIN_SAMPLES: Final = 50
SHORTEST: Final = 1.0
LONGEST: Final = 30.0
BASELINE_AGE: Final = 10
WARM_UP: Final = 10
_QUANTILE: Final = 0.9
_MEDIAN_OF: Final = 3
_CORRELATED: Final = 12
_FEWEST_PAIRS: Final = 5
# Less variation than 1 % says nothing.
_LEAST_VARIATION: Final = 0.01


class MovingAverage:
    """An exponential moving average over about `age` values, which begins as the plain mean of the first ten. `value`
    is 0 before the first."""

    __slots__ = ("_count", "_factor", "value")

    def __init__(self, age: int) -> None:
        self.value = 0.0
        self._factor = 2.0 / (age + 1)
        self._count = 0

    def add(self, value: float, weight: float = 1.0) -> None:
        """Take one more value in; with a `weight` below 1 it counts less."""
        factor = self._factor
        if self._count < WARM_UP:
            self._count += 1
            factor = 1.0 / self._count
        self.value += (value - self.value) * factor * weight


class Correlation:
    """Of the last twelve pairs: `coefficient` from -1 to 1, 0 while it says nothing, and `variation`, the standard
    deviation of the second of each pair over its mean, None while there are fewer than five."""

    __slots__ = ("_pairs", "coefficient", "variation")

    def __init__(self) -> None:
        self._pairs: list[tuple[float, float]] = []
        self.coefficient = 0.0
        self.variation: float | None = None

    def add(self, x: float, y: float) -> None:
        """Take one more pair in. Both are above 0."""
        pairs = self._pairs
        pairs.append((x, y))
        if len(pairs) > _CORRELATED:
            del pairs[0]
        count = len(pairs)
        if count < _FEWEST_PAIRS:
            return
        mean_x = sum([pair[0] for pair in pairs]) / count
        mean_y = sum([pair[1] for pair in pairs]) / count
        spread_x = math.sqrt(sum([(pair[0] - mean_x) ** 2 for pair in pairs]) / count)
        spread_y = math.sqrt(sum([(pair[1] - mean_y) ** 2 for pair in pairs]) / count)
        variation = spread_y / mean_y
        self.variation = variation
        if spread_x < _LEAST_VARIATION * mean_x or variation < _LEAST_VARIATION:
            self.coefficient = 0.0
            return
        together = sum([(pair[0] - mean_x) * (pair[1] - mean_y) for pair in pairs]) / count
        self.coefficient = together / (spread_x * spread_y)

    def clear(self) -> None:
        """Forget all of it: it was about another state of the upstream."""
        self._pairs.clear()
        self.coefficient = 0.0
        self.variation = None


class Trend:
    """The answers of one group of requests whose times are comparable; all times in seconds.

    `recent` and `baseline` are 0 before the first window has ended. `busiest` is the most that was in flight when an
    answer of the present window came."""

    __slots__ = ("_begun", "_ends", "_percentiles", "_samples", "baseline", "busiest", "recent", "throughput", "times")

    def __init__(self, now: float) -> None:
        self.recent = 0.0
        self.baseline = MovingAverage(BASELINE_AGE)
        self.throughput = Correlation()
        self.times = Correlation()
        self.busiest = 0
        self._begun = now
        self._ends = now + SHORTEST
        self._samples: list[float] = []
        self._percentiles: list[float] = []

    def sample(self, seconds: float, in_flight: int, now: float) -> bool:
        """One answer. Returns whether the window is complete; `close` it then. HOT."""
        samples = self._samples
        samples.append(seconds)
        if in_flight > self.busiest:  # noqa: PLR1730 - a call of max costs more
            self.busiest = in_flight
        return now >= self._ends and len(samples) >= MIN_SAMPLES

    def close(self, now: float) -> None:
        """End the window: `recent` and the correlations are those with it. `begin` the next one when all is read."""
        samples = sorted(self._samples)
        count = len(samples)
        percentiles = self._percentiles
        percentiles.append(max(samples[int(_QUANTILE * (count - 1))], 1e-6))
        if len(percentiles) > _MEDIAN_OF:
            del percentiles[0]
        full = len(percentiles) == _MEDIAN_OF
        self.recent = recent = sorted(percentiles)[_MEDIAN_OF // 2] if full else percentiles[-1]
        in_flight = float(max(1, self.busiest))
        self.throughput.add(in_flight, count / max(now - self._begun, 1e-3))
        self.times.add(in_flight, recent)
        self._ends = now + min(LONGEST, max(SHORTEST, 2.0 * samples[0]))

    def begin(self, now: float) -> None:
        """Begin the next window, without samples."""
        self._samples = []
        self.busiest = 0
        self._begun = now
        self._ends = max(self._ends, now + SHORTEST)
