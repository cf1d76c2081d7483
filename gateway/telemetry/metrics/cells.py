"""Cells that the request path writes, and families that a scrape reads.

A cell is a plain number or a plain list of numbers; writing one allocates nothing that outlives the call. A family
ties cells to a metric's name, kind and labels, and computes what can be derived (a count from buckets, the 5xx total
from the totals by status) only when it is read.

Everything runs on the event loop's thread: writing and reading never interleave, so there are no locks.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Labels = tuple[str, ...]
"""Label values, in the order of the family's label names."""

Kind = Literal["counter", "gauge", "info"]

Combine = Literal["sum", "min", "max", "seen", "worker", "mine"]
"""How the series of several workers become one: see `gateway.telemetry.metrics.snapshot`. Histograms are summed."""

LATENCY_BOUNDS: Final[tuple[float, ...]] = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Seconds. From the added latency of the gateway itself up to its default total timeout."""

REDIS_BOUNDS: Final[tuple[float, ...]] = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
"""Seconds. From a round trip on one machine to beyond the default command timeout (0.05)."""


class Exemplar:
    """One observation whose trace somebody can look at. `at` is in seconds since the epoch."""

    __slots__ = ("at", "trace_id", "value")

    def __init__(self, trace_id: str, value: float, at: float) -> None:
        self.trace_id = trace_id
        self.value = value
        self.at = at


class Histogram:
    """Counts per bucket and the sum. `buckets` are not cumulative; the last one has no upper bound. `exemplars` are the
    latest by bucket, None without any."""

    __slots__ = ("bounds", "buckets", "exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.buckets = [0] * (len(self.bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, Exemplar] | None = None

    def observe(self, value: float) -> None:
        """HOT. A value equal to a bound belongs to that bound's bucket (`le`)."""
        at = 0
        # From the lowest: most values are small, and compiled code compares faster than it calls `bisect`.
        for bound in self.bounds:
            if value <= bound:
                break
            at += 1
        self.buckets[at] += 1
        self.total += value

    def exemplify(self, value: float, trace_id: str, at: float) -> None:
        """The trace of a value that was observed."""
        if self.exemplars is None:
            self.exemplars = {}
        bucket = 0
        for bound in self.bounds:
            if value <= bound:
                break
            bucket += 1
        self.exemplars[bucket] = Exemplar(trace_id, value, at)

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.buckets)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric whose series are single numbers. `name` is what a dashboard queries: counters end in `_total`,
    infos in `_info`. `read` yields each series once."""

    name: str
    kind: Kind
    documentation: str
    label_names: Labels
    read: Callable[[], Iterable[tuple[Labels, float]]]
    combine: Combine = "sum"


@dataclass(frozen=True, slots=True)
class HistogramFamily:
    """One histogram per set of labels. A series keeps its `bounds` for life."""

    name: str
    documentation: str
    label_names: Labels
    read: Callable[[], Iterable[tuple[Labels, Histogram]]]
