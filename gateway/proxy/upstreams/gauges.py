"""The load of each upstream as gauges: requests in flight, those that wait for a place, and how many there may be."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from gateway.proxy.upstreams.upstream import Upstream
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.cells import Labels

Reading = tuple[str, str, Callable[[Upstream], int]]

GAUGES: Final[tuple[Reading, ...]] = (
    (
        "gateway_upstream_in_flight",
        "Requests that hold a place at an upstream.",
        lambda upstream: upstream.bulkhead.in_flight,
    ),
    (
        "gateway_upstream_queued",
        "Requests that wait for a place at an upstream.",
        lambda upstream: upstream.bulkhead.queued,
    ),
    (
        "gateway_upstream_limit",
        "Requests that may hold a place at an upstream at once, as its bulkhead has it now.",
        lambda upstream: upstream.bulkhead.limit,
    ),
)
"""Name, documentation, and what reads the number."""


def register(metrics: Metrics, upstreams: Iterable[Upstream]) -> None:
    """Add them to `metrics`, once."""
    known = tuple(upstreams)
    for name, documentation, read in GAUGES:
        metrics.gauge(name, documentation, ("upstream",), partial(_series, known, read))


def _series(upstreams: tuple[Upstream, ...], read: Callable[[Upstream], int]) -> Iterator[tuple[Labels, float]]:
    return (((each.name,), read(each)) for each in upstreams)
