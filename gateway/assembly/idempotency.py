"""From the configuration to everything that idempotency keys need besides the gates, and how they are counted."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.config.model import GatewayConfig
from gateway.idempotency.capacity import Capacity
from gateway.idempotency.claims import Claims
from gateway.journal import idempotency as records
from gateway.journal.cleaning import Cleaner
from gateway.journal.port import Journal
from gateway.proxy.routes.topology import Route
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.views.idempotency import LiveIdempotency

_CONFLICTS = ("in_progress", "reused", "unknown")


@dataclass(frozen=True, slots=True)
class Idempotency:
    """What routes with idempotency keys share, and what runs beside the requests for it."""

    claims: Claims
    capacity: Capacity
    cleaner: Cleaner
    view: LiveIdempotency

    def start(self) -> None:
        """Begin to count and to clean; the journal is open."""
        self.capacity.start()
        self.cleaner.start()

    async def stop(self) -> None:
        """End that. The journal is still open."""
        self.claims.close()
        await self.cleaner.stop()
        await self.capacity.stop()

    def count(self, routes: Iterable[Route], metrics: Metrics) -> None:
        """Show what the gates of these routes have decided, and what is kept."""
        counted = {route.name: route.keeping.counts for route in routes if route.keeping is not None}
        metrics.counter(
            "idempotency_requests_total",
            "Requests for which a route looks at idempotency keys, by what became of them.",
            ("route", "outcome"),
            lambda: (
                ((route, outcome), count) for route, counts in counted.items() for outcome, count in counts.items()
            ),
        )
        metrics.counter(
            "idempotency_conflicts_total",
            "Requests refused because of another one with their key.",
            ("route",),
            lambda: (((route,), sum(counts[each] for each in _CONFLICTS)) for route, counts in counted.items()),
        )
        metrics.gauge(
            "idempotency_records",
            "Records of idempotency keys in the journal, as of the last count.",
            (),
            lambda: (((), self.capacity.records),),
            "max",
        )
        metrics.gauge(
            "idempotency_record_bytes",
            "Bytes of answers in them.",
            (),
            lambda: (((), self.capacity.bytes),),
            "max",
        )
        metrics.counter(
            "idempotency_evicted_total",
            "Records deleted before their time, to make room.",
            (),
            lambda: (((), self.capacity.evicted),),
        )
        metrics.counter(
            "idempotency_late_total",
            "Requests that ended after somebody else had taken their record: they have changed nothing.",
            (),
            lambda: (((), self.claims.late),),
        )


def build_idempotency(
    config: GatewayConfig, journal: Journal | None, loop: asyncio.AbstractEventLoop
) -> Idempotency | None:
    """None where no route looks at keys."""
    if journal is None or not any(route.idempotency for route in config.routes):
        return None
    limits = config.idempotency
    capacity = Capacity(journal, limits)
    cleaner = Cleaner(journal, (records.delete_over,), limits.cleanup_interval)
    view = LiveIdempotency(journal, limits, cleaner, capacity)
    return Idempotency(Claims(journal, capacity, loop), capacity, cleaner, view)
