"""From the configuration to the outbox: what the gates of routes need, the relay, cleaning, and what is counted."""

import logging
import random
from collections.abc import Iterator
from functools import partial

from gateway.config.model import GatewayConfig
from gateway.journal import outbox as messages
from gateway.journal.cleaning import Cleaner
from gateway.journal.depth import Depth
from gateway.journal.outbox_backlog import Backlog, backlog
from gateway.journal.port import Journal
from gateway.outbox.relay import Relay
from gateway.proxy.errands.own_requests import OwnRequests
from gateway.proxy.routes.parts import OutboxParts
from gateway.proxy.routes.topology import Topology
from gateway.proxy.runtime import Runtime
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.views.outbox import LiveOutbox

log = logging.getLogger("gateway.outbox")

_CLEANING: float = 60.0


class Outbox:
    """What routes that deliver share, and what runs beside the requests for it. `serve` comes before `start`. Where no
    route delivers, the messages that are in the journal are seen."""

    relay: Relay

    def __init__(self, config: GatewayConfig, journal: Journal, metrics: Metrics) -> None:
        limits = config.outbox
        self._routed = frozenset(route.name for route in config.routes if route.deliver is not None)
        self._orphans: frozenset[str] = frozenset()
        self.depth = depth = Depth(journal, backlog, Backlog(), limits.max_pending, self._counted, limits.max_bytes)
        self.parts = OutboxParts(journal, depth)
        self.view = LiveOutbox(journal, limits, self._routed)
        self._journal = journal
        sweeps = (
            partial(messages.delete_ended, "delivered", limits.delivered_retention),
            partial(messages.delete_ended, "dead", limits.dead_retention),
        )
        self._cleaner = Cleaner(journal, sweeps, _CLEANING)
        self._register(metrics)

    def _register(self, metrics: Metrics) -> None:
        depth = self.depth
        metrics.gauge(
            "outbox_pending",
            "Messages in the journal that wait to be delivered, as of the last count.",
            (),
            lambda: (((), depth.last.pending),),
            "max",
        )
        metrics.gauge(
            "outbox_pending_bytes",
            "Bytes of the heads and bodies of these messages.",
            (),
            lambda: (((), depth.last.bytes),),
            "max",
        )
        metrics.gauge(
            "outbox_oldest_seconds",
            "Age of the oldest of them.",
            (),
            lambda: (((), depth.last.oldest),),
            "max",
        )
        metrics.gauge(
            "outbox_dead",
            "Messages in the journal that were given up.",
            (),
            lambda: (((), depth.last.dead),),
            "max",
        )
        metrics.gauge(
            "outbox_orphaned",
            "Messages that wait for a route that does not deliver in this gateway, or that it does not have.",
            ("target",),
            self._orphaned,
            "max",
        )

    def _orphaned(self) -> Iterator[tuple[tuple[str], float]]:
        found = {(name,): 0.0 for name in self._routed}
        for each in self.depth.last.targets:
            if each.pending and each.target not in self._routed:
                found[each.target,] = each.pending
        yield from found.items()

    def _counted(self, found: Backlog) -> None:
        """Log a target that no route delivers to once, until no message for it waits."""
        orphans = frozenset(each.target for each in found.targets if each.pending) - self._routed
        for name in sorted(orphans - self._orphans):
            log.warning(
                "outbox: no route %s delivers any more, and messages for it wait",
                name,
                extra={"event": "outbox_orphaned", "target": name},
            )
        self._orphans = orphans

    def serve(self, topology: Topology, runtime: Runtime, metrics: Metrics) -> None:
        """Deliver for the routes of this topology."""
        requests = OwnRequests(runtime, topology.upstreams, topology.chains)
        self.relay = relay = Relay(self._journal, requests, topology.routes, random.Random())
        gates = [(route.name, route.deliver) for route in topology.routes if route.deliver is not None]

        def attempts() -> Iterator[tuple[tuple[str, str], float]]:
            for target in relay.targets:
                for outcome, count in target.counts.items():
                    yield (target.route, outcome), count

        metrics.counter(
            "outbox_attempts_total",
            "Attempts to deliver a message, by what came of them.",
            ("target", "outcome"),
            attempts,
        )
        metrics.counter(
            "outbox_requests_total",
            "Requests on routes that deliver, by what became of them.",
            ("route", "outcome"),
            lambda: (((name, outcome), count) for name, gate in gates for outcome, count in gate.counts.items()),
        )

    def start(self) -> None:
        """Begin to count, to deliver and to clean; the journal is open."""
        self.depth.start()
        self.relay.start()
        self._cleaner.start()

    async def stop(self) -> None:
        """End that. The journal is still open."""
        await self.relay.stop()
        await self._cleaner.stop()
        await self.depth.stop()


def build_outbox(config: GatewayConfig, journal: Journal | None, metrics: Metrics) -> Outbox | None:
    """None without a journal."""
    return None if journal is None else Outbox(config, journal, metrics)
