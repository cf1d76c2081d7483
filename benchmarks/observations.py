"""What was measured: a series of values, one per round, for each case, proxy and metric. And what follows from them.

value   = median over the rounds
spread  = 1.4826 · median(|x - median|) / median      (robust; for normal noise the relative deviation)
ratio   = x(proxy, round) / x(yardstick, same round), then the median: what disturbs a round disturbs both
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

# The median absolute deviation of normal noise, as a multiple of its standard deviation, inverted.
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` ends in its unit."""

    name: str
    title: str
    digits: int


CPU = Metric("cpu_us", "CPU µs/req", 1)
CPU_AT_REST = Metric("cpu_ms_per_second", "CPU ms/s", 1)
VS_NGINX = Metric("vs_nginx", "x nginx", 2)
REDIS_CPU = Metric("redis_cpu_us", "Redis µs/req", 1)
RATE = Metric("per_second", "req/s", 0)
P50 = Metric("p50_ms", "p50 ms", 2)
P99 = Metric("p99_ms", "p99 ms", 2)
RESIDENT = Metric("resident_mib", "RSS MiB", 1)
FAILED = Metric("failed", "failed", 0)
REFUSED = Metric("refused_percent", "refused %", 1)
GOODPUT = Metric("goodput_percent", "goodput %", 1)
CRITICAL_SERVED = Metric("critical_served_percent", "critical %", 1)
TOO_LATE = Metric("too_late_percent", "too late %", 1)
RECOVERY = Metric("recovery_seconds", "recovery s", 0)
REDIS_SENT = Metric("redis_sent_per_request", "to Redis/req", 4)
REDIS_EXECUTED = Metric("redis_executed_per_request", "in Redis/req", 4)
P99_ADDED = Metric("p99_added_ms", "p99 added ms", 3)
P50_ADDED = Metric("p50_added_ms", "p50 added ms", 3)
P999 = Metric("p999_ms", "p99.9 ms", 2)
THROUGHPUT = Metric("mib_per_second", "MiB/s", 0)
PEAK_GROWTH = Metric("peak_growth_mib", "RSS growth MiB", 1)
CPU_PER_MIB = Metric("cpu_us_per_mib", "CPU µs/MiB", 0)
CONNECTIONS = Metric("connections", "connections", 0)
IDLE_BYTES = Metric("idle_bytes", "bytes each", 0)
VS_UNTRACED = Metric("vs_untraced", "x untraced", 2)
VS_UNWATCHED = Metric("vs_unwatched", "x unwatched", 3)
VS_FORWARDING = Metric("vs_forwarding", "x forwarding", 2)
VS_FEW = Metric("vs_few", "x few", 3)

METRICS = {
    metric.name: metric
    for metric in (
        *(
            CPU,
            CPU_AT_REST,
            VS_NGINX,
            VS_FORWARDING,
            VS_UNTRACED,
            VS_UNWATCHED,
            VS_FEW,
            REDIS_CPU,
            RATE,
            P50,
            P99,
            P999,
            P50_ADDED,
            P99_ADDED,
        ),
        *(THROUGHPUT, CPU_PER_MIB, PEAK_GROWTH, CONNECTIONS, IDLE_BYTES),
        *(GOODPUT, CRITICAL_SERVED, TOO_LATE, RECOVERY),
        *(REDIS_SENT, REDIS_EXECUTED, RESIDENT, REFUSED, FAILED),
    )
}


def spread(values: Sequence[float]) -> float:
    """Relative, robust; 0 for fewer than two values or a median of 0."""
    if len(values) < 2:
        return 0.0
    middle = median(values)
    if not middle:
        return 0.0
    return _MAD_TO_SIGMA * median(abs(value - middle) for value in values) / abs(middle)


class Observations:
    """Of one workload. Cases and proxies keep the order in which they first appear."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], dict[str, dict[int, float]]] = {}

    def add(self, case: str, proxy: str, round_number: int, metric: Metric, value: float) -> None:
        """One value; another one of the same round replaces it."""
        self._series.setdefault((case, proxy), {}).setdefault(metric.name, {})[round_number] = value

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._series)

    def __bool__(self) -> bool:
        return bool(self._series)

    def values(self, case: str, proxy: str, metric: Metric) -> list[float]:
        """By round; empty when it was not measured."""
        return list(self._series.get((case, proxy), {}).get(metric.name, {}).values())

    def median(self, case: str, proxy: str, metric: Metric) -> float | None:
        values = self.values(case, proxy, metric)
        return median(values) if values else None

    def metrics(self) -> list[Metric]:
        """Those with a value anywhere, in the order of `METRICS`."""
        present = {name for series in self._series.values() for name in series}
        return [metric for name, metric in METRICS.items() if name in present]

    def relate(
        self, metric: Metric, ratio: Metric, yardstick: tuple[str, str], peers: Sequence[str] | None = None
    ) -> None:
        """Add `ratio`: every series of `metric` against the one of `yardstick` (case, proxy; an empty case means the
        series' own), round by round. Rounds that either of the two lacks are left out. `peers` None means all."""
        for (case, proxy), series in self._series.items():
            if peers is not None and proxy not in peers:
                continue
            base = self._series.get((yardstick[0] or case, yardstick[1]), {}).get(metric.name, {})
            for round_number, value in series.get(metric.name, {}).items():
                if base.get(round_number):
                    self.add(case, proxy, round_number, ratio, value / base[round_number])

    def as_json(self) -> list[dict[str, object]]:
        return [
            {
                "case": case,
                "proxy": proxy,
                "metrics": {
                    name: {"median": median(rounds.values()), "spread": spread(list(rounds.values())), "rounds": rounds}
                    for name, rounds in series.items()
                },
            }
            for (case, proxy), series in self._series.items()
        ]
