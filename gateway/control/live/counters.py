"""What was counted between two looks at the metrics: rates a second, and percentiles.

A look takes only what the live view shows, added up over the labels that it does not show. Percentiles are estimated
as Prometheus' `histogram_quantile` does: evenly within a bucket; what is beyond the last bound counts as that bound.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from gateway.telemetry.metrics.snapshot import BOUNDS, NAMES, SERIES, Parts, labels_of

ROUTE_SECONDS: Final = "http_request_duration_seconds"
ATTEMPT_SECONDS: Final = "upstream_request_duration_seconds"

_COUNTERS: Final = {
    "http_requests_5xx_total": ("route",),
    "http_requests_429_total": ("route",),
    "downstream_errors_total": ("to_service",),
    "retry_attempts_total": ("upstream",),
    "gateway_service_refusals_total": ("service", "reason"),
    "rate_limit_decisions_total": ("policy", "decision"),
    "load_shed_total": (),
    "fallback_requests_total": ("route", "to"),
    "priority_rejections_total": ("downstream", "priority"),
    "split_responses_total": ("route", "upstream", "status"),
    "hedges_total": ("route", "result"),
    "hedges_not_made_total": ("route", "reason"),
}
"""Counters, with the labels by which they are looked at."""
_GAUGES: Final = (
    *("gateway_upstream_in_flight", "gateway_upstream_queued", "gateway_upstream_limit"),
    *("adaptive_limit", "adaptive_limit_ceiling"),
    *("outbox_pending", "outbox_dead", "outbox_oldest_seconds", "saga_oldest_pending_seconds"),
)
"""Gauges with one label, or none."""
_STATES: Final = {
    "adaptive_limit_recent_seconds": ("upstream", "latency_group"),
    "adaptive_limit_baseline_seconds": ("upstream", "latency_group"),
    "saga_runs": ("workflow", "state"),
    "hedge_after_seconds": ("route", "upstream"),
}
"""Gauges with two labels."""
_HISTOGRAMS: Final = {ROUTE_SECONDS: "route", ATTEMPT_SECONDS: "upstream"}

Key = tuple[str, ...]


class Look:
    """All figures at one instant of a monotonic clock. Counters by family and labels, histograms as counts of their
    buckets, gauges by family and the one label that they have ("" for none), those with two labels as `states`."""

    __slots__ = ("at", "bounds", "buckets", "counts", "gauges", "states")

    def __init__(self, at: float, parts: Parts) -> None:
        self.at = at
        self.counts: dict[str, dict[Key, float]] = {}
        self.gauges: dict[str, dict[str, float]] = {}
        self.buckets: dict[str, dict[str, list[int]]] = {}
        self.bounds: dict[str, Sequence[float]] = {}
        for name, labels in _COUNTERS.items():
            self.counts[name] = _summed(parts.combined(name), labels)
        self.states = {name: _summed(parts.combined(name), labels) for name, labels in _STATES.items()}
        for name in _GAUGES:
            self.gauges[name] = {key: float(value) for key, value in parts.combined(name)[SERIES].items()}
        for name in _HISTOGRAMS:
            entry = parts.combined(name)
            self.bounds[name] = entry[BOUNDS] if len(entry) > BOUNDS else ()
            self.buckets[name] = {key: value[1:] for key, value in entry[SERIES].items()}


def _summed(entry: Sequence[Any], wanted: tuple[str, ...]) -> dict[Key, float]:
    names = entry[NAMES]
    at = [names.index(each) for each in wanted if each in names]
    found: dict[Key, float] = {}
    for key, value in entry[SERIES].items():
        labels = labels_of(key, names)
        short = tuple(labels[each] for each in at)
        found[short] = found.get(short, 0.0) + value
    return found


class Window:
    """The looks of the last `seconds`. With fewer than two of them every rate is 0 and nothing has percentiles."""

    def __init__(self, seconds: float = 5.0) -> None:
        self._seconds = seconds
        self._looks: deque[Look] = deque()

    def add(self, look: Look) -> None:
        """The latest look. One that is at the beginning of the window, or before it, is kept, and no other."""
        self._looks.append(look)
        while len(self._looks) > 2 and self._looks[1].at <= look.at - self._seconds:
            self._looks.popleft()

    @property
    def seconds(self) -> float:
        """How far the first look is back."""
        return self._looks[-1].at - self._looks[0].at if self._looks else 0.0

    def rate(self, name: str, *labels: str) -> float:
        """How often a second."""
        return self._over(lambda look: look.counts[name].get(labels, 0.0))

    def rates(self, name: str, first: str) -> dict[str, float]:
        """By the second label, of those whose first one is this. Those that there are none of are left out."""
        if not self._looks:
            return {}
        seconds = [key[1] for key in self._looks[-1].counts[name] if key[0] == first]
        found = {second: self.rate(name, first, second) for second in seconds}
        return {second: rate for second, rate in found.items() if rate > 0}

    def part(self, route: str, upstream: str) -> tuple[float, float]:
        """How many requests a second of a route that splits them went to this upstream, and how many of these ended in
        a 5xx."""
        name = "split_responses_total"
        keys = [key for key in self._looks[-1].counts[name] if key[:2] == (route, upstream)] if self._looks else []
        return sum(self.rate(name, *key) for key in keys), self.rate(name, route, upstream, "5xx")

    def firsts(self, name: str) -> list[str]:
        """The values that the first label has, each once."""
        return list(dict.fromkeys(key[0] for key in self._looks[-1].counts[name])) if self._looks else []

    def gauge(self, name: str, label: str = "") -> int:
        """What it is now."""
        return int(self._looks[-1].gauges[name].get(label, 0)) if self._looks else 0

    def states(self, name: str, first: str) -> dict[str, float]:
        """What each series is now whose first label is this, by the second one."""
        if not self._looks:
            return {}
        return {key[1]: value for key, value in self._looks[-1].states[name].items() if key[0] == first}

    def state_firsts(self, name: str) -> list[str]:
        """As `firsts`, of a gauge with two labels."""
        return list(dict.fromkeys(key[0] for key in self._looks[-1].states[name])) if self._looks else []

    def observed(self, name: str, labels: Iterable[str]) -> list[int]:
        """How often each bucket was met, over these series together. Empty where nothing is known of any."""
        columns = [new for label in labels if (new := self._buckets(name, label))]
        return [sum(column) for column in zip(*columns, strict=True)] if columns else []

    def observed_rate(self, name: str, labels: Iterable[str]) -> float:
        """How many a second."""
        seconds = self.seconds
        return sum(self.observed(name, labels)) / seconds if seconds > 0 else 0.0

    def quantiles(self, name: str, labels: Iterable[str], wanted: Sequence[float]) -> list[float | None]:
        """For each of `wanted`, the seconds within which this share of all was done."""
        buckets = self.observed(name, labels)
        bounds = self._looks[-1].bounds[name] if self._looks else ()
        return [quantile(each, bounds, buckets) for each in wanted]

    def _buckets(self, name: str, label: str) -> list[int]:
        if len(self._looks) < 2:
            return []
        last = self._looks[-1].buckets[name].get(label)
        if last is None:
            return []
        before = self._looks[0].buckets[name].get(label, [0] * len(last))
        # A worker that was killed may have taken the last counts with it.
        return [max(0, new - old) for new, old in zip(last, before, strict=True)]

    def _over(self, read: Callable[[Look], float]) -> float:
        seconds = self.seconds
        return max(0.0, read(self._looks[-1]) - read(self._looks[0])) / seconds if seconds > 0 else 0.0


def quantile(share: float, bounds: Sequence[float], buckets: Sequence[int]) -> float | None:
    """The value below which `share` (0 to 1) of the observations are. `buckets` has one more than `bounds`. None where
    nothing was observed."""
    total = sum(buckets)
    if not total or not bounds:
        return None
    rank = share * total
    below = 0
    for at, count in enumerate(buckets):
        if count and below + count >= rank:
            if at == len(bounds):
                return float(bounds[-1])
            low = bounds[at - 1] if at else 0.0
            return float(low + (bounds[at] - low) * (rank - below) / count)
        below += count
    return float(bounds[-1])
