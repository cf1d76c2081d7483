"""Faults on demand, made from the configuration. Without FAULTS_ENABLED there is nothing of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.assembly.fleet import Fleet
from gateway.config.model import GatewayConfig
from gateway.fleet.fault_guard import FaultGuard
from gateway.fleet.faults import Active, FaultLimits, FleetFaults
from gateway.policy.faults import KINDS
from gateway.proxy.errands.rehearsal import Rehearsal
from gateway.proxy.routes.topology import Topology
from gateway.proxy.runtime import Runtime
from gateway.proxy.upstreams.faults import FaultCounts, UpstreamFaults
from gateway.telemetry.alerts.rules import AlertSettings, is_critical
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.services.figures import Figures
from gateway.views.faults import LiveFaults


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of the fleet, what ends them in time, and what the control plane sees of them."""

    fleet: FleetFaults
    guard: FaultGuard
    view: LiveFaults


def build_faults(
    config: GatewayConfig,
    fleet: Fleet,
    topology: Topology,
    runtime: Runtime,
    figures: Figures,
    thresholds: AlertSettings,
    metrics: Metrics,
) -> Faults | None:
    """Faults on demand, ready to be started; None where they are not enabled."""
    if not config.faults.enabled:
        return None
    limits = FaultLimits(config.faults.max_percent, config.faults.max_duration)
    names = list(topology.upstreams)
    faults = FleetFaults(names, fleet.store, fleet.link, limits, keys=config.redis is not None)
    fleet.following.add(faults)
    counts = FaultCounts()

    def changed(active: Sequence[Active]) -> None:
        for name, upstream in topology.upstreams.items():
            own = [each for each in active if each.fault.upstream == name]
            if not own:
                upstream.faults = None
                continue
            met = upstream.faults
            if met is None:
                met = UpstreamFaults(fleet.link, limits.percent, config.server.via_name, counts, runtime.rng)
                upstream.faults = met
            met.set(own)

    faults.on_change = changed

    async def critical(upstream: str) -> bool:
        return is_critical(await figures.rate(upstream, thresholds.window), thresholds)

    _count(faults, counts, names, metrics)
    routes = {route.name: route.service for route in topology.routes}
    view = LiveFaults(faults, routes, Rehearsal(runtime, topology.chains), critical)
    return Faults(faults, FaultGuard(faults, critical), view)


def _count(faults: FleetFaults, counts: FaultCounts, upstreams: Sequence[str], metrics: Metrics) -> None:
    def injected() -> Iterator[tuple[tuple[str, str], int]]:
        for name in upstreams:
            for kind in KINDS:
                yield (name, kind), counts.counts.get((name, kind), 0)

    def active() -> Iterator[tuple[tuple[str], int]]:
        now = [each.fault.upstream for each in faults.active]
        return (((name,), now.count(name)) for name in upstreams)

    metrics.counter(
        "faults_injected_total", "Attempts that a fault on demand has struck.", ("upstream", "kind"), injected
    )
    metrics.gauge("gateway_faults_active", "Faults on demand that an upstream has now.", ("upstream",), active, "max")
