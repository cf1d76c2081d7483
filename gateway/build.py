"""From a configuration to everything that runs in one process: the only module that knows every class.

Nothing is started here (`gateway.lifecycle` does that). The order is that of dependence: what is recorded, what is
shared with the fleet, the way of a request, the control plane, the listener.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gateway import __version__
from gateway.build_alerts import Alerting, build_alerting
from gateway.build_fleet import Fleet, build_fleet
from gateway.build_identity import Identity, build_identity
from gateway.build_journal import build_journal
from gateway.channel import Channel
from gateway.config.model import GatewayConfig, LogConfig
from gateway.control import api, root_page
from gateway.control.access import Access
from gateway.control.app import ControlPlane
from gateway.control.callers import CallersView
from gateway.control.facts import ControlFacts
from gateway.control.history import CircuitHistory
from gateway.control.paths import is_control_path, is_control_path_or_root, is_health_path
from gateway.control.scrape import Scrape
from gateway.journal.port import Journal
from gateway.live_view import FleetCommands, FleetEndpointCommands, LiveView
from gateway.policy.breaker import CircuitState
from gateway.policy.limit import ConcurrencyLimit
from gateway.proxy import tunnels
from gateway.proxy.explain import Explain, nobody
from gateway.proxy.front import Front
from gateway.proxy.gates.in_flight import InFlightGate
from gateway.proxy.health_check import EndpointCheck, HealthChecker
from gateway.proxy.identity import Identification
from gateway.proxy.ids import Ids
from gateway.proxy.kinds import CallerParts, Parts, filters_of, gates_of, withheld_of
from gateway.proxy.recorder import Recorder
from gateway.proxy.runtime import Runtime
from gateway.proxy.topology import NoRoute, Route, Topology
from gateway.proxy.tunnel_lines import TunnelLines
from gateway.proxy.upstreams import Upstream
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.error_lines import ErrorLines
from gateway.telemetry.errors import ErrorLog
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
from gateway.worker.commands import SupervisorCommands
from gateway.worker.host import Host
from gateway.worker.one_service import OneService
from gateway.worker.supervisor import Supervisor
from gateway.worker.whole_callers import WholeCallers
from gateway.worker.whole_view import WholeView


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where everything is counted and written down."""

    metrics: Metrics
    errors: ErrorLog
    error_lines: ErrorLines
    history: CircuitHistory
    access_log: AccessLog | None


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


def build(
    config: GatewayConfig,
    writer: LineWriter,
    files: LogFiles | None = None,
    supervisor: Supervisor | None = None,
    store: Channel | None = None,
) -> Gateway:
    """Everything, ready to be started on the running loop. `writer` takes the lines for standard output, `files` those
    for LOG_DIR. Without a `supervisor` this process is the whole gateway. `store` is the channel to the embedded store;
    without it this process has a store of its own. With Redis neither is used."""
    loop = asyncio.get_running_loop()
    rng = random.Random()
    telemetry = _telemetry(config, writer, files)
    metrics = telemetry.metrics
    resolver = _resolver(metrics)
    fleet = _fleet(config, store, telemetry, resolver)
    view = LiveView(config.service, __version__, fleet.circuits, fleet.link, fleet.out, redis=config.redis is not None)
    figures = Figures(telemetry.errors, fleet.figures, fleet.circuits.reset)
    one_service = _one_service(supervisor, telemetry, view)
    alerting = build_alerting(config, metrics, figures, view, rng, one_service)

    journal = build_journal(config, metrics)
    recorder = Recorder(metrics, telemetry.errors, telemetry.access_log, config.server.via_name)
    ids = Ids(rng, config.server.trace_sample_ratio)
    runtime = Runtime(loop, recorder, ids, rng, config.retry_buffer_bytes)
    in_flight = InFlightGate(config.shedding, ConcurrencyLimit(config.shedding.limit), recorder, rng, loop)
    identity = build_identity(config, fleet.store, fleet.link, fleet.following, metrics)
    callers = None if identity is None else identity.parts
    view.tokens = None if callers is None else callers.authentication.tokens
    topology = build_topology(config, fleet, resolver, in_flight, recorder, metrics, rng, loop, callers)
    if identity is not None:
        identity.count(topology.routes)
    fleet.out.on_change = lambda name, out: topology.upstreams[name].take_out(out)

    server = config.server
    identification = Identification(server.trusted_proxies, server.via_name, config.rate_limits.exempt)
    shared_port = config.admin.port is None
    control_path = _control_paths(config)
    explain = _explain(topology, runtime, identification, control_path, identity)
    control = _control(config, telemetry, fleet, view, figures, alerting, explain, one_service, supervisor, identity)
    front = Front(
        runtime,
        topology,
        identification,
        in_flight,
        is_control_path=control_path,
        is_probe=is_health_path,
        control_protocol=control.protocol if shared_port else control.health_protocol,
        via_name=server.via_name,
    )
    places = _places(config, metrics, control)
    listening = _server(config, loop, front, places)
    view.watch(in_flight.limit, listening, control, runtime, topology)
    health = HealthChecker(_checks(topology.upstreams.values()), rng, resolver)
    return Gateway(
        *(config, loop, telemetry, fleet, alerting, topology, runtime, view),
        *(control, front, places, listening, health, one_service, identity),
        _tunnels(topology, metrics),
        journal,
    )


def _tunnels(topology: Topology, metrics: Metrics) -> TunnelLines:
    """What is told of WebSocket tunnels."""
    of_routes = [(route.name, route.tunnels) for route in topology.routes if route.config.websocket]
    tunnels.register(metrics, of_routes)
    return TunnelLines(of_routes)


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
) -> Topology:
    """One generation of routes and upstreams. `callers` is for routes with authentication."""
    upstreams = {
        name: Upstream(each, fleet.circuits[name], ConcurrencyLimit(each.bulkhead), loop, resolver, time.monotonic, rng)
        for name, each in config.upstreams.items()
    }
    parts = Parts(config, upstreams, in_flight, fleet.limiter, recorder, rng, loop, callers)
    routes = []
    for route in config.routes:
        gates, per_attempt = gates_of(route, parts)
        filters = filters_of(route, parts)
        cells, withheld = metrics.route(route.name), withheld_of(route, parts)
        routes.append(Route(route, upstreams[route.upstream], gates, per_attempt, filters, cells, withheld))
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
    return Topology(routes, upstreams, NoRoute(metrics.route(""), public_refusals=public_refusals))


def _telemetry(config: GatewayConfig, writer: LineWriter, files: LogFiles | None) -> Telemetry:
    metrics = Metrics(
        config.service,
        [route.name for route in config.routes],
        config.upstreams,
        __version__,
        policies=config.rate_limits.policies,
    )
    metrics.counter(
        "gateway_log_lines_dropped_total",
        "Log lines lost.",
        (),
        lambda: (((), writer.dropped + (files.dropped if files is not None else 0)),),
    )
    errors = ErrorLog(
        config.service,
        config.upstreams,
        capacity=config.errors.recent_max,
        on_record=files.record if files is not None else None,
    )
    access_log = _access_log(config.log, writer, files)
    return Telemetry(metrics, errors, ErrorLines(errors), CircuitHistory(config.upstreams), access_log)


def _access_log(config: LogConfig, writer: LineWriter, files: LogFiles | None) -> AccessLog | None:
    if not config.access_log:
        return None
    if files is None:
        return AccessLog(writer.write, config.format)
    return files.access_log(writer.write, config.format)


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
    one_service = OneService(supervisor, host, telemetry.metrics, view, telemetry.history)
    worker_gauges.register(telemetry.metrics, host, one_service.lag)
    return one_service


def _explain(
    topology: Topology,
    runtime: Runtime,
    identification: Identification,
    control_path: Callable[[bytes], bool],
    identity: Identity | None,
) -> Explain:
    return Explain(
        lambda: topology,
        is_control_path=control_path,
        stopping=lambda: runtime.stopping,
        clock=time.monotonic,
        is_exempt=identification.is_exempt,
        caller_of=nobody if identity is None else identity.caller_of,
    )


def _control(
    config: GatewayConfig,
    telemetry: Telemetry,
    fleet: Fleet,
    own: LiveView,
    figures: Figures,
    alerting: Alerting,
    explain: Explain,
    one_service: OneService | None,
    supervisor: Supervisor | None,
    identity: Identity | None,
) -> ControlPlane:
    view = own if one_service is None else WholeView(own, one_service.host)
    scrape = Scrape(telemetry.metrics, gather=one_service.parts if one_service is not None else None)
    facts = ControlFacts(
        view=view,
        figures=figures,
        alerts=alerting.alerts,
        history=telemetry.history,
        commands=FleetCommands(fleet.circuits),
        endpoint_commands=FleetEndpointCommands(fleet.out),
        breakers={name: upstream.breaker for name, upstream in config.upstreams.items()},
        explainer=explain,
        scrape=scrape,
        service_commands=SupervisorCommands(supervisor) if supervisor is not None else None,
        on_cleanup=one_service.cleanup_alerts if one_service is not None else lambda: None,
        callers=_callers(identity, one_service),
    )
    access = Access(config.admin.token, time.monotonic, production=config.environment.lower() == "production")
    prefixes = [route.prefix for route in config.routes if route.host is None]
    more = [*api.routes(facts, access), *root_page.routes(config.service, prefixes)]
    return ControlPlane(view, telemetry.metrics, own=own, scrape=scrape, more=more, is_operator=access.is_operator)


def _callers(identity: Identity | None, one_service: OneService | None) -> CallersView | None:
    """What the control plane sees of tenants: of all workers, where there may be several."""
    if identity is None or one_service is None:
        return None if identity is None else identity.view
    one_service.callers = identity.view
    return WholeCallers(identity.view, one_service.host)


def _control_paths(config: GatewayConfig) -> Callable[[bytes], bool]:
    """Which paths of the listener's port belong to the control plane."""
    if config.admin.port is not None:
        return is_health_path
    # Where a route takes `/`, for whichever host, it is the route's.
    root_is_ours = all(route.prefix != "/" for route in config.routes)
    return is_control_path_or_root if root_is_ours else is_control_path


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


def _checks(upstreams: Iterable[Upstream]) -> Iterator[EndpointCheck]:
    for upstream in upstreams:
        config = upstream.config
        if config.health_check is not None:
            for endpoint in upstream.endpoints:
                yield EndpointCheck(
                    upstream.name,
                    config.health_check,
                    endpoint,
                    authority=config.authority,
                    tls=upstream.tls,
                    server_name=config.tls.server_name if config.tls is not None else None,
                )
