"""From a configuration to everything that runs in one process: the only module that knows every class.

Nothing is started here (`gateway.lifecycle` does that). The order is that of dependence: what is recorded, what is
shared with the fleet, the way of a request, the control plane, the listener.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gateway import __version__
from gateway.build_alerts import Alerting, build_alerting
from gateway.build_control import build_control, build_explain, control_paths
from gateway.build_faults import Faults, build_faults
from gateway.build_fleet import Fleet, build_fleet
from gateway.build_hooks import count_hooks
from gateway.build_idempotency import Idempotency, build_idempotency
from gateway.build_identity import Identity, build_identity
from gateway.build_journal import build_journal
from gateway.build_outbox import Outbox, build_outbox
from gateway.build_sagas import Sagas, build_sagas
from gateway.build_telemetry import Telemetry, build_telemetry
from gateway.build_tracing import Tracing, build_tracing
from gateway.build_validation import Validation, build_validation
from gateway.channel import Channel
from gateway.config.model import GatewayConfig
from gateway.config.shedding_model import SheddingConfig
from gateway.control.app import ControlPlane
from gateway.control.facts import SettingView
from gateway.control.paths import is_health_path
from gateway.idempotency.claims import Claims
from gateway.journal.port import Journal
from gateway.live_view import LiveView
from gateway.policy.breaker import CircuitState
from gateway.policy.limit import ConcurrencyLimit
from gateway.policy.priority import BY_PRIORITY, WHOLE
from gateway.proxy import fallback, load_gauges, mirror, split, tunnels, upstream_gauges
from gateway.proxy.front import Front
from gateway.proxy.gates.in_flight import InFlightGate
from gateway.proxy.health_check import HealthChecker, checks_of
from gateway.proxy.identity import Identification
from gateway.proxy.ids import Ids
from gateway.proxy.kinds import (
    CallerParts,
    OutboxParts,
    Parts,
    SagaParts,
    fallback_of,
    filters_of,
    gates_of,
    mirror_of,
    own_chains,
    query_key_of,
    withheld_of,
)
from gateway.proxy.priority_header import PriorityHeader
from gateway.proxy.recorder import Recorder
from gateway.proxy.runtime import Runtime
from gateway.proxy.topology import NoRoute, Route, Topology
from gateway.proxy.tunnel_lines import TunnelLines
from gateway.proxy.upstreams import Upstream
from gateway.telemetry.figures import Figures
from gateway.telemetry.lines import LineWriter
from gateway.telemetry.log_files import LogFiles
from gateway.telemetry.metrics import Metrics
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
    _count(topology, metrics, idempotency, identity)
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


def build_topology(
    config: GatewayConfig,
    fleet: Fleet,
    resolver: Resolver,
    in_flight: InFlightGate,
    recorder: Recorder,
    metrics: Metrics,
    rng: random.Random,
    loop: asyncio.AbstractEventLoop,
    callers: CallerParts | None = None,
    claims: Claims | None = None,
    validation: Validation | None = None,
    outbox: OutboxParts | None = None,
    sagas: SagaParts | None = None,
) -> Topology:
    """One generation of routes and upstreams. `callers` is for routes with authentication, `claims` for those with
    idempotency keys, `validation` for those that validate, `outbox` for those that deliver,
    `sagas` for those with a workflow."""
    upstreams = _upstreams(config, fleet, resolver, rng, loop)
    validating = None if validation is None else validation.parts
    parts = Parts(
        *(config, upstreams, in_flight, fleet.limiter, recorder, rng, loop, callers, claims, validating, outbox, sagas)
    )
    header = config.shedding.priority_header
    lowering = None if header is None else PriorityHeader(header)
    routes = []
    for route in config.routes:
        gates, per_attempt = gates_of(route, parts)
        filters = filters_of(route, parts, gates)
        cells, withheld = metrics.route(route.name), withheld_of(route, parts)
        routes.append(
            Route(
                *(route, upstreams[route.upstream], gates, per_attempt, filters, cells, withheld),
                *(fallback_of(route, gates, per_attempt, parts), lowering, mirror_of(route, parts)),
                query_key_of(route, parts),
                priorities=config.shedding.priorities,
            )
        )
    if validation is not None:
        validation.count(routes)
    # Of a request without a route nothing is known: where one route keeps its refusals private, so does this.
    public_refusals = all(route.cors.public_refusals for route in config.routes)
    metrics.counter(
        "upstream_connections_closed_total",
        "Connections to upstreams that were closed while no request used them.",
        ("upstream", "cause"),
        lambda: (
            ((name, cause.value), count)
            for name, upstream in upstreams.items()
            for cause, count in upstream.connections_closed()
        ),
    )
    upstream_gauges.register(metrics, upstreams.values())
    load_gauges.register(metrics, upstreams, parts.bulkheads, in_flight, priorities=config.shedding.priorities)
    no_route = NoRoute(metrics.route(""), public_refusals=public_refusals)
    return Topology(routes, upstreams, no_route, own_chains(parts))


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


def _upstreams(
    config: GatewayConfig, fleet: Fleet, resolver: Resolver, rng: random.Random, loop: asyncio.AbstractEventLoop
) -> dict[str, Upstream]:
    percents = percents_of(config.shedding)
    return {
        name: Upstream(
            *(each, fleet.circuits[name], ConcurrencyLimit(each.bulkhead, percents), loop, resolver),
            *(time.monotonic, rng),
        )
        for name, each in config.upstreams.items()
    }


def percents_of(shedding: SheddingConfig) -> tuple[int, ...]:
    """What each class of requests may hold of a limit."""
    return BY_PRIORITY if shedding.priorities else WHOLE


def _count(topology: Topology, metrics: Metrics, idempotency: Idempotency | None, identity: Identity | None) -> None:
    """Show what the gates, splits, mirrors and fallbacks of the routes have decided."""
    splits = [(route.name, route.split) for route in topology.routes if route.split is not None]
    if splits:
        split.register(metrics, splits)
    mirrors = [(route.name, route.mirror) for route in topology.routes if route.mirror is not None]
    if mirrors:
        mirror.register(metrics, mirrors)
    count_hooks(topology.routes, metrics)
    fallback.register(metrics, [(route.name, route.fallback) for route in topology.routes if route.fallback])
    if idempotency is not None:
        idempotency.count(topology.routes, metrics)
    if identity is not None:
        identity.count(topology.routes)


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
