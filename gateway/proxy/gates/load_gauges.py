"""What metrics say of adaptive limits, and of who was refused by which limit.

The values of several workers are added up where they are numbers of requests, because each has its share of what is
written for the host. Of times the greatest is shown.
"""

import time
from collections.abc import Iterator, Mapping

from gateway.policy.adaptive import AdaptiveLimit
from gateway.policy.priority import PRIORITIES
from gateway.policy.trend import Trend
from gateway.proxy.gates.bulkhead import BulkheadGate
from gateway.proxy.gates.in_flight import InFlightGate
from gateway.proxy.gates.places import PlaceGate
from gateway.proxy.upstreams.upstream import Upstream
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.cells import Labels


def register(
    metrics: Metrics,
    upstreams: Mapping[str, Upstream],
    bulkheads: Mapping[str, BulkheadGate],
    in_flight: InFlightGate,
    *,
    priorities: bool,
) -> None:
    """Show them where somebody has configured an adaptive limit, or priorities."""
    adaptive = {name: each.adaptive for name, each in upstreams.items() if each.adaptive is not None}
    if adaptive:
        _adaptive(metrics, adaptive)
    if priorities:
        gates: dict[Labels, PlaceGate] = {("bulkhead", name): gate for name, gate in bulkheads.items()}
        _rejections(metrics, {("in_flight", ""): in_flight, **gates})


def _adaptive(metrics: Metrics, adaptive: Mapping[str, AdaptiveLimit]) -> None:
    def limits() -> Iterator[tuple[Labels, float]]:
        now = time.monotonic()
        for name, each in adaptive.items():
            each.drift(now)
            yield (name,), each.limit

    metrics.gauge(
        "adaptive_limit",
        "What the adaptive limit of an upstream has found, whether it is in force or only observed.",
        ("upstream",),
        limits,
    )

    metrics.gauge(
        "adaptive_limit_ceiling",
        "The most that the adaptive limit of an upstream may become, as it is configured.",
        ("upstream",),
        lambda: (((name,), each.ceiling) for name, each in adaptive.items()),
    )

    def groups() -> Iterator[tuple[Labels, Trend]]:
        return (((name, group.name), group.trend) for name, each in adaptive.items() for group in each.groups)

    metrics.gauge(
        "adaptive_limit_recent_seconds",
        "The time within which nine of ten answers of a latency group came lately; 0: too few have come.",
        ("upstream", "latency_group"),
        lambda: ((labels, trend.recent) for labels, trend in groups()),
        "max",
    )
    metrics.gauge(
        "adaptive_limit_baseline_seconds",
        "The time within which nine of ten answers of a latency group usually come; 0: too few have come.",
        ("upstream", "latency_group"),
        lambda: ((labels, trend.baseline.value) for labels, trend in groups()),
        "max",
    )


def _rejections(metrics: Metrics, gates: Mapping[Labels, PlaceGate]) -> None:
    metrics.counter(
        "priority_rejections_total",
        "Requests refused by a limit, by their priority.",
        ("policy", "downstream", "priority"),
        lambda: (
            ((*labels, PRIORITIES[number]), count)
            for labels, gate in gates.items()
            for number, count in enumerate(gate.rejected)
        ),
    )
