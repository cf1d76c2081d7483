"""Everything that runs in one process, put together: the only module that knows every class.

Nothing is started here (`gateway.assembly.lifecycle` does that). The order is that of dependence: what is recorded,
what is shared with the fleet, the way of a request, the control plane, the listener.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gateway import __version__
from gateway.assembly.alerts import Alerting, build_alerting
from gateway.assembly.control import build_control, build_explain, control_paths
from gateway.assembly.faults import Faults, build_faults
from gateway.assembly.fleet import Fleet, build_fleet
from gateway.assembly.idempotency import Idempotency, build_idempotency
from gateway.assembly.identity import Identity, build_identity
from gateway.assembly.journal import build_journal
from gateway.assembly.outbox import Outbox, build_outbox
from gateway.assembly.sagas import Sagas, build_sagas
from gateway.assembly.telemetry import Telemetry, build_telemetry
from gateway.assembly.topology import build_topology, count_decisions, percents_of
from gateway.assembly.tracing import Tracing, build_tracing
from gateway.assembly.validation import Validation, build_validation
from gateway.config.model import GatewayConfig
from gateway.control.app import ControlPlane
from gateway.control.parts import SettingView
from gateway.control.paths import is_health_path
from gateway.ipc.channel import Channel
from gateway.journal.port import Journal
from gateway.policy.breaker import CircuitState
from gateway.policy.limit import ConcurrencyLimit
from gateway.proxy.exchanges.front import Front
from gateway.proxy.gates.in_flight import InFlightGate
from gateway.proxy.recorder import Recorder
from gateway.proxy.requests.identity import Identification
from gateway.proxy.requests.ids import Ids
from gateway.proxy.routes.parts import CallerParts
from gateway.proxy.routes.topology import Topology
from gateway.proxy.runtime import Runtime
from gateway.proxy.tunnels import tunnels
from gateway.proxy.tunnels.lines import TunnelLines
from gateway.proxy.upstreams.health_check import HealthChecker, checks_of
from gateway.telemetry.log.files import LogFiles
from gateway.telemetry.log.lines import LineWriter
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.services.figures import Figures
from gateway.views.process import LiveView
from gateway.wire.client.resolver import Resolver
from gateway.wire.message.request import Limits
from gateway.wire.server.body_rate import RateLimits
from gateway.wire.server.places import Places
from gateway.wire.server.registry import Server
from gateway.worker import gauges as worker_gauges
from gateway.worker.host import Host
from gateway.worker.one_service import OneService
from gateway.worker.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything that runs in one process."""

    config: GatewayConfig
    loop: asyncio.AbstractEventLoop
    telemetry: Telemetry
    fleet: Fleet
    alerting: Alerting
    topology: Topology
    runtime: Runtime
    view: LiveView
    control: ControlPlane
    front: Front
    places: Places
    server: Server
    health: HealthChecker
    one_service: OneService | None
    identity: Identity | None
    tunnel_lines: TunnelLines
    journal: Journal | None
    idempotency: Idempotency | None
    validation: Validation | None
    outbox: Outbox | None
    tracing: Tracing
    sagas: Sagas | None
    faults: Faults | None


def build(
    config: GatewayConfig,
    writer: LineWriter,
    files: LogFiles | None = None,
    supervisor: Supervisor | None = None,
    store: Channel | None = None,
    settings: Sequence[SettingView] = (),
) -> Gateway:
    """Everything, ready to be started on the running loop. `writer` takes the lines for standard output, `files` those
    for LOG_DIR. Without a `supervisor` this process is the whole gateway. `store` is the channel to the embedded store;
    without it this process has its own, and with Redis neither is used. `settings` are those that are shown."""
    loop = asyncio.get_running_loop()
    rng = random.Random()
    telemetry = build_telemetry(config, writer, files, rng)
    metrics = telemetry.metrics
    resolver = _resolver(metrics)
    fleet = _fleet(config, store, telemetry, resolver)
    view = LiveView(config.service, __version__, fleet.circuits, fleet.link, fleet.out, redis=config.redis is not None)
    figures = Figures(telemetry.errors, fleet.figures, fleet.circuits.reset)
    one_service = _one_service(supervisor, telemetry, view)
    alerting = build_alerting(config, metrics, figures, view, rng, one_service)

    journal, idempotency, outbox, sagas = _promises(config, metrics, loop)
    identity = build_identity(config, fleet, metrics, supervisor)
    tracing, runtime = _runtime(config, telemetry, rng, loop, None if supervisor is None else supervisor.slot)
    recorder = runtime.recorder
    shedding = config.shedding
    in_flight = InFlightGate(shedding, ConcurrencyLimit(shedding.limit, percents_of(shedding)), recorder, rng, loop)
    callers = None if identity is None else identity.parts
    claims = None if idempotency is None else idempotency.claims
    validation = build_validation(config, metrics)
    topology = build_topology(
        *(config, fleet, resolver, in_flight, recorder, metrics, rng, loop, callers, claims, validation),
        *(None if outbox is None else outbox.parts, None if sagas is None else sagas.parts),
    )
    count_decisions(topology, metrics, idempotency, identity)
    _serve(topology, runtime, metrics, outbox, sagas)
    fleet.out.on_change = lambda name, out: topology.upstreams[name].take_out(out)
    faults = build_faults(config, fleet, topology, runtime, figures, alerting.alerts.settings, metrics)
    _show(view, callers, journal, faults)

    identification = Identification(config.server.trusted_proxies, config.server.via_name, config.rate_limits.exempt)
    explain = build_explain(topology, runtime, identification, control_paths(config), identity)
    control = build_control(
        *(config, telemetry, fleet, view, figures, alerting, explain, one_service),
        *(supervisor, identity, idempotency, outbox, sagas, faults, settings),
    )
    front = _front(config, runtime, topology, identification, in_flight, control)
    places = _places(config, metrics, control)
    listening = _server(config, loop, front, places)
    view.watch(in_flight.limit, listening, control, runtime, topology)
    health = HealthChecker(checks_of(topology.upstreams.values()), rng, resolver)
    lines = _tunnels(topology, metrics)
    return Gateway(
        *(config, loop, telemetry, fleet, alerting, topology, runtime, view, control, front, places, listening),
        *(health, one_service, identity, lines, journal, idempotency, validation, outbox, tracing, sagas, faults),
    )


def _runtime(
    config: GatewayConfig, telemetry: Telemetry, rng: random.Random, loop: asyncio.AbstractEventLoop, slot: int | None
) -> tuple[Tracing, Runtime]:
    """What traces exchanges, and what all of them share."""
    ids = Ids(rng)
    tracing = build_tracing(config, telemetry.metrics, ids, rng, slot)
    traces = tracing.traces
    via_name = config.server.via_name
    recorder = Recorder(
        telemetry.metrics, telemetry.errors, telemetry.access_log, via_name, tracing.tracer, telemetry.busiest
    )
    watched = config.server.server_timing
    return tracing, Runtime(loop, recorder, ids, rng, config.retry_buffer_bytes, traces, watched=watched)


def _show(view: LiveView, callers: CallerParts | None, journal: Journal | None, faults: Faults | None) -> None:
    """Let the control plane see what not every gateway has."""
    view.tokens = None if callers is None else callers.authentication.tokens
    view.journal_state = None if journal is None else journal.state
    view.faults = None if faults is None else faults.fleet


def _promises(
    config: GatewayConfig, metrics: Metrics, loop: asyncio.AbstractEventLoop
) -> tuple[Journal | None, Idempotency | None, Outbox | None, Sagas | None]:
    """The journal, and what keeps its promises in it; None for what no route needs."""
    journal = build_journal(config, metrics)
    idempotency = build_idempotency(config, journal, loop)
    return journal, idempotency, build_outbox(config, journal, metrics), build_sagas(config, journal, metrics)


def _serve(topology: Topology, runtime: Runtime, metrics: Metrics, outbox: Outbox | None, sagas: Sagas | None) -> None:
    """Send what is in the journal, for the routes of this topology."""
    if outbox is not None:
        outbox.serve(topology, runtime, metrics)
    if sagas is not None:
        sagas.serve(topology, runtime, metrics)


def _tunnels(topology: Topology, metrics: Metrics) -> TunnelLines:
    """What is told of WebSocket tunnels."""
    of_routes = [(route.name, route.tunnels) for route in topology.routes if route.config.websocket]
    tunnels.register(metrics, of_routes)
    return TunnelLines(of_routes)


def _resolver(metrics: Metrics) -> Resolver:
    resolver = Resolver(clock=time.monotonic)

    def lookups() -> Iterator[tuple[tuple[str, str], float]]:
        for name in resolver.names():
            yield (name.host, "answered"), name.answered
            yield (name.host, "failed"), name.failed

    metrics.counter(
        "gateway_dns_lookups_total", "Look-ups of upstreams' names, by what came of them.", ("host", "outcome"), lookups
    )
    metrics.gauge(
        "gateway_dns_stale_seconds",
        "For how long a name's old addresses have been used because the name server does not answer; 0: it does.",
        ("host",),
        lambda: (((name.host,), name.stale_for) for name in resolver.names()),
        "max",
    )
    return resolver


def _fleet(config: GatewayConfig, channel: Channel | None, telemetry: Telemetry, resolver: Resolver) -> Fleet:
    def transitioned(upstream: str, old: CircuitState, new: CircuitState, cause: str) -> None:
        telemetry.metrics.circuit_transition(upstream, new.value)
        telemetry.history.record(upstream, old.value, new.value, cause)

    return build_fleet(config, channel, telemetry.errors, resolver, telemetry.metrics.redis_command, transitioned)


def _one_service(supervisor: Supervisor | None, telemetry: Telemetry, view: LiveView) -> OneService | None:
    if supervisor is None:
        return None
    host = Host(supervisor.slot)
    one_service = OneService(supervisor, host, telemetry.metrics, view, telemetry.history, telemetry.busiest)
    worker_gauges.register(telemetry.metrics, host, one_service.lag)
    return one_service


def _front(
    config: GatewayConfig,
    runtime: Runtime,
    topology: Topology,
    identification: Identification,
    in_flight: InFlightGate,
    control: ControlPlane,
) -> Front:
    return Front(
        runtime,
        topology,
        identification,
        in_flight,
        is_control_path=control_paths(config),
        is_probe=is_health_path,
        control_protocol=control.protocol if config.admin.port is None else control.health_protocol,
        via_name=config.server.via_name,
    )


def _places(config: GatewayConfig, metrics: Metrics, control: ControlPlane) -> Places:
    elsewhere: Callable[[], int] = (lambda: control.connections) if config.admin.port is None else (lambda: 0)
    places = Places(config.server.max_connections, elsewhere=elsewhere)
    metrics.counter(
        "gateway_connections_evicted_total",
        "Client connections closed while quiet, to make room at MAX_CONNECTIONS.",
        (),
        lambda: (((), places.evicted),),
    )
    return places


def _server(config: GatewayConfig, loop: asyncio.AbstractEventLoop, front: Front, places: Places) -> Server:
    server = config.server
    return Server(
        loop,
        front,
        limits=Limits(
            server.max_request_line_bytes,
            server.max_header_bytes,
            server.max_header_count,
            underscores=server.underscores == "pass",
        ),
        scheme="https" if server.tls is not None else "http",
        places=places,
        header_timeout=server.header_timeout,
        keepalive_timeout=server.keepalive_timeout,
        client_idle_timeout=server.client_idle_timeout,
        rates=RateLimits(
            server.min_request_body_data_rate,
            server.min_response_data_rate,
            server.data_rate_grace,
            server.request_body_timeout,
        ),
    )
