"""The composition root: the only file that knows every class, and the life of the process.

    start: logs, store, upstreams, front, control plane, listener
    stop (SIGTERM, SIGINT): not ready -> pause -> no new connections -> what is in flight finishes -> everything closes

Each step of the stop is bounded; a second signal skips the waiting.
"""

import asyncio
import gc
import logging
import math
import os
import random
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import uvloop

from gateway import __version__, names
from gateway.config import Notice
from gateway.config.model import ErrorsConfig, GatewayConfig, LogConfig, RouteConfig
from gateway.control import api, root_page
from gateway.control.access import Access
from gateway.control.app import ControlPlane
from gateway.control.facts import Facts as ControlFacts
from gateway.control.history import CircuitHistory
from gateway.control.paths import is_control_path, is_control_path_or_root, is_health_path
from gateway.control.scrape import Scrape
from gateway.fleet.circuits import Circuits
from gateway.fleet.endpoints import EndpointsOut
from gateway.fleet.figures import FleetFigures
from gateway.fleet.limiter import EmbeddedLimiter, SharedLimiter
from gateway.fleet.link import Link
from gateway.fleet.sync import FleetSync
from gateway.live_view import FleetCommands, FleetEndpointCommands, LiveView, alert_facts
from gateway.open_files import connections_that_fit
from gateway.policy.breaker import CircuitState
from gateway.policy.client_share import ClientShare
from gateway.policy.limit import ConcurrencyLimit
from gateway.proxy.admission import Gates, LimitGate, RateLimitGate, Shedding, bulkhead_gate
from gateway.proxy.explain import Explain
from gateway.proxy.front import Front
from gateway.proxy.health_check import EndpointCheck, HealthChecker
from gateway.proxy.identity import Identification
from gateway.proxy.upstreams import Route, Upstream
from gateway.store.redis import RedisStore
from gateway.store.redis.figures import RedisFigures
from gateway.telemetry import app_log
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.alerts import AlertCheck, Alerts, AlertSettings, Facts
from gateway.telemetry.error_lines import ErrorLines
from gateway.telemetry.errors import ErrorLog
from gateway.telemetry.figures import Figures, Records
from gateway.telemetry.lines import LineWriter
from gateway.telemetry.log_files import LogFiles
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.rates import WIDTH
from gateway.telemetry.render import counted
from gateway.telemetry.webhook import Webhook
from gateway.wire.accept import Factory, FewHandshakes, Handshakes, Listener
from gateway.wire.body_rate import RateLimits
from gateway.wire.certificate import Certificate
from gateway.wire.dial import reachable
from gateway.wire.listener import listen
from gateway.wire.places import Places
from gateway.wire.request import Limits
from gateway.wire.resolver import Resolver
from gateway.wire.server import Server
from gateway.wire.tls_buffers import map_large_blocks

log = logging.getLogger("gateway")

# A connection that has been idle for this long while the gateway stops is not about to carry a request.
_QUIET = 1.0
_STOP_POLL = 0.02
# For the last answers to leave.
_FAREWELL = 0.1
# For the first exchange with Redis, before the gateway listens: until then it would give each client a full bucket.
_FIRST_EXCHANGE = 2.0


def run(config: GatewayConfig, notices: Iterable[Notice] = ()) -> int:
    """Serve until told to stop. Returns the exit status. `notices` about the configuration go to the log, once."""
    writer = LineWriter(sys.stdout.fileno())
    files = _log_files(config.log)
    restore = app_log.configure(
        config.log.level, config.log.format, writer.write, files.handlers() if files is not None else ()
    )
    for notice in notices:
        log.warning("Configuration: %s", notice, extra={"event": "configuration_notice"})
    try:
        return uvloop.run(_serve(config, writer, files))
    finally:
        restore()
        writer.close()
        if files is not None:
            files.close()


def _log_files(config: LogConfig) -> LogFiles | None:
    if config.dir is None:
        return None
    return LogFiles(config.dir, retention_days=config.retention_days, max_bytes=config.max_file_bytes)


async def _serve(config: GatewayConfig, writer: LineWriter, files: LogFiles | None) -> int:
    gateway = Gateway(config, writer, files)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    hurry = asyncio.Event()

    def told(name: str) -> None:
        log.info("%s received", name)
        if stopping.is_set():
            hurry.set()
        stopping.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, told, signum.name)
    loop.add_signal_handler(signal.SIGHUP, gateway.read_again)
    for signum in (signal.SIGUSR1, signal.SIGUSR2):
        # Other servers reopen their logs for it. Ours notices by itself that a file was moved.
        loop.add_signal_handler(signum, log.info, "%s received; it means nothing here", signum.name)
    try:
        await gateway.start()
    except OSError as error:
        log.critical("cannot listen on %s: %s", error.filename, os.strerror(error.errno) if error.errno else error)
        await gateway.close()
        return 1
    await stopping.wait()
    await gateway.drain(hurry)
    await gateway.close()
    log.info("stopped")
    return 0


class Gateway:
    """Everything that runs in one process."""

    def __init__(self, config: GatewayConfig, writer: LineWriter, files: LogFiles | None = None) -> None:
        self.config = config
        self._writer = writer
        loop = asyncio.get_running_loop()
        self._loop = loop
        rng = random.Random()
        clock = time.monotonic
        self._metrics = metrics = Metrics(
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
        self._errors = ErrorLog(
            config.service,
            config.upstreams,
            capacity=config.errors.recent_max,
            on_record=files.record if files is not None else None,
        )

        self._error_lines = ErrorLines(self._errors)

        self._history = CircuitHistory(config.upstreams)

        resolver = Resolver(clock=clock)
        _register_names(metrics, resolver)

        # What is shared with the fleet.
        self._link = Link(clock, starting=config.redis is not None)
        self._store: RedisStore | None = None
        self._sync: FleetSync | None = None
        self._fleet_figures: FleetFigures | None = None
        self._figure_store: RedisFigures | None = None
        self._limiter: EmbeddedLimiter | SharedLimiter
        labels = {
            name: [names.written(each.host, each.port) for each in upstream.endpoints]
            for name, upstream in config.upstreams.items()
        }
        if config.redis is None:
            self._out = EndpointsOut(labels, clock=clock)
            self._circuits = Circuits(config.upstreams.values(), clock=clock, on_transition=self._transitioned)
            self._limiter = EmbeddedLimiter(clock)
        else:
            replica = uuid.uuid4().hex[:12]
            self._store = RedisStore(config.redis, replica, metrics.redis_command)
            self._circuits = Circuits(
                config.upstreams.values(),
                self._store,
                self._link,
                clock,
                self._transitioned,
                partial(reachable, resolver.resolve),
            )
            self._out = EndpointsOut(labels, self._store, self._link, clock)
            self._sync = FleetSync(self._store, self._link, self._circuits, clock, followed=self._out)
            self._limiter = SharedLimiter(self._store, self._link, config.rate_limits.on_redis_failure, clock)
            self._figure_store = RedisFigures(config.redis, replica, metrics.redis_command)
            self._fleet_figures = FleetFigures(
                self._figure_store,
                self._link,
                self._errors.cells,
                Records(self._errors, replica),
                width=WIDTH,
                keep_records=config.errors.recent_max,
            )
        self.figures = Figures(self._errors, self._fleet_figures, self._circuits.reset)
        self._webhook = _webhook(config, rng)
        self.alerts = Alerts(
            _alert_settings(config.errors),
            config.service,
            on_change=self._webhook.deliver if self._webhook is not None else None,
        )
        self._alert_check = AlertCheck(self.alerts, self._alert_facts)
        _register_alerts(metrics, self.alerts, self._webhook)

        # The way of a request.
        self._upstreams = {
            name: Upstream(
                upstream, self._circuits[name], ConcurrencyLimit(upstream.bulkhead), loop, resolver, clock, rng
            )
            for name, upstream in config.upstreams.items()
        }
        self._out.on_change = lambda name, out: self._upstreams[name].take_out(out)
        metrics.counter(
            "upstream_connections_closed_total",
            "Connections to upstreams that were closed while no request used them.",
            ("upstream", "cause"),
            lambda: (
                ((name, cause.value), count)
                for name, upstream in self._upstreams.items()
                for cause, count in upstream.connections_closed()
            ),
        )
        shedding = Shedding(config.shedding, metrics, rng)
        self._in_flight = ConcurrencyLimit(config.shedding.limit)
        policies = config.rate_limits.policies
        share = config.shedding.client_share
        most = ClientShare(math.ceil(config.shedding.limit.limit * share)) if share < 1.0 else None
        in_flight = LimitGate(self._in_flight, shedding.refuse, loop, share=most)
        rate_limits = {name: RateLimitGate(self._limiter, policy, metrics) for name, policy in policies.items()}
        exempt = {name: RateLimitGate(self._limiter, policy, metrics, exempt=True) for name, policy in policies.items()}
        bulkheads = {
            name: bulkhead_gate(name, upstream.bulkhead, metrics, rng, loop)
            for name, upstream in self._upstreams.items()
        }

        def live(route: RouteConfig) -> Route:
            limit = route.rate_limit
            return Route(
                route,
                self._upstreams[route.upstream],
                policies[limit] if limit is not None else None,
                Gates(in_flight, rate_limits.get(limit or ""), bulkheads[route.upstream]),
                metrics.route(route.name),
                legacy_headers=config.rate_limits.legacy_headers,
                unlimited=Gates(in_flight, exempt.get(limit or ""), bulkheads[route.upstream]),
            )

        self._routes = [live(route) for route in config.routes]
        self._view = view = LiveView(
            config.service, __version__, self._circuits, self._link if self._store is not None else None, self._out
        )
        server = config.server
        identification = Identification(server.trusted_proxies, server.via_name, config.rate_limits.exempt)
        commands = FleetCommands(self._circuits, alone=self._store is None)
        scrape = Scrape(metrics)
        # Where a route takes `/`, for whichever host, it is the route's.
        root_is_ours = all(route.prefix != "/" for route in config.routes)
        ours = is_health_path
        if config.admin.port is None:
            ours = is_control_path_or_root if root_is_ours else is_control_path
        facts = ControlFacts(
            view=view,
            figures=self.figures,
            alerts=self.alerts,
            history=self._history,
            commands=commands,
            endpoint_commands=FleetEndpointCommands(self._out, alone=self._store is None),
            breakers={name: upstream.breaker for name, upstream in config.upstreams.items()},
            explainer=Explain(
                self._routes,
                self._in_flight,
                config.shedding,
                self._limiter,
                is_control_path=ours,
                stopping=lambda: self._front.refusing,
                clock=clock,
                is_exempt=identification.is_exempt,
            ),
            scrape=scrape,
        )
        access = Access(config.admin.token, clock, production=config.environment.lower() == "production")
        prefixes = [route.prefix for route in config.routes if route.host is None]
        more = [*api.routes(facts, access), *root_page.routes(config.service, prefixes)]
        self._control = ControlPlane(view, metrics, scrape=scrape, more=more, is_operator=access.is_operator)
        shared_port = config.admin.port is None
        self._front = Front(
            loop,
            self._routes,
            identification,
            shedding,
            metrics,
            _access_log(config.log, writer, files),
            is_control_path=ours,
            is_probe=is_health_path,
            control_protocol=self._control.protocol if shared_port else self._control.health_protocol,
            via_name=server.via_name,
            retry_buffer_bytes=config.retry_buffer_bytes,
            trace_sample_ratio=server.trace_sample_ratio,
            rng=rng,
            errors=self._errors,
        )
        self._places = Places(
            server.max_connections, elsewhere=(lambda: self._control.connections) if shared_port else lambda: 0
        )
        metrics.counter(
            "gateway_connections_evicted_total",
            "Client connections closed while quiet, to make room at MAX_CONNECTIONS.",
            (),
            lambda: (((), self._places.evicted),),
        )
        self._server = Server(
            loop,
            self._front,
            limits=Limits(
                server.max_request_line_bytes,
                server.max_header_bytes,
                server.max_header_count,
                underscores=server.underscores == "pass",
            ),
            scheme="https" if server.tls is not None else "http",
            places=self._places,
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
        view.watch(self._in_flight, self._server, self._control, self._front, self._upstreams, self._routes)
        self._health = HealthChecker(_checks(self._upstreams.values()), rng, resolver)
        self._certificate: Certificate | None = None
        self._listeners: list[Listener] = []
        self._admin_listeners: list[Listener] = []

    async def start(self) -> None:
        """Raises OSError, with the address as its `filename`, when a port cannot be had."""
        server, admin = self.config.server, self.config.admin
        places = self._places
        places.limit, places.reserve_limit = connections_that_fit(server.max_connections, _outgoing(self.config))
        sockets = _listening(server.host, server.port)
        admin_sockets = _listening(admin.host, admin.port) if admin.port is not None else []
        if server.tls is not None:
            map_large_blocks()
            self._certificate = Certificate(server.tls.cert_file, server.tls.key_file)
            self._certificate.start()
            self._view.listener_certificate = self._certificate
        await self._control.start()
        self._health.start()
        if self._sync is not None:
            self._sync.start()
            began = time.monotonic()
            await self._sync.joined(_FIRST_EXCHANGE)
            self._link.started(time.monotonic() - began)
        if self._fleet_figures is not None:
            self._fleet_figures.start()
        if self._webhook is not None:
            self._webhook.start()
        self._alert_check.start()
        self._error_lines.start()
        for sock in sockets:
            self._listeners.append(self._listener(sock, self._server, places))
        for sock in admin_sockets:
            self._admin_listeners.append(self._listener(sock, self._control.protocol, FewHandshakes()))
        for listener in (*self._listeners, *self._admin_listeners):
            await listener.start()
        self._view.starting = False
        # What exists now lives as long as the process: the collector need not look at it again, nor so often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        log.info(
            "listening on %s:%d with %s, %s and %s",
            server.host or "*",
            server.port,
            counted(len(self._routes), "route"),
            counted(len(self._upstreams), "upstream"),
            "the embedded store" if self._store is None else f"Redis ({self.config.redis.mode})",  # type: ignore[union-attr]
            extra={"version": __version__, "environment": self.config.environment},
        )

    def _listener(self, sock: socket.socket, factory: Factory, handshakes: Handshakes) -> Listener:
        certificate = self._certificate.context if self._certificate is not None else None
        timeout = self.config.server.header_timeout
        return Listener(self._loop, sock, factory, handshakes, certificate, timeout)

    def read_again(self) -> None:
        """SIGHUP: what can be renewed while the process runs, which is the certificate."""
        log.info("SIGHUP received: the certificate is read again, settings are not")
        if self._certificate is not None:
            self._certificate.load()

    async def drain(self, hurry: asyncio.Event) -> None:
        """Stop taking work and let what is in flight finish, within the configured times."""
        server = self.config.server
        self._view.draining = True
        self._server.draining = True
        log.info(
            "draining: %s and %s open",
            counted(self._front.exchanges, "exchange"),
            counted(len(self._front.tunnels), "tunnel"),
        )
        await _until(lambda: False, server.drain_delay, hurry)
        for listener in self._listeners:
            listener.close()
        self._front.close_tunnels()

        def quiet() -> bool:
            self._server.close_idle(_QUIET)
            pending = any(listener.pending for listener in self._listeners)
            busy = pending or self._front.tunnels or self._control.connections
            return self._server.empty and not busy

        if not await _until(quiet, server.drain_timeout, hurry):
            log.warning("gave up on %s that did not finish in time", counted(self._front.exchanges, "exchange"))
            self._front.refusing = True
            self._server.give_up()
            await asyncio.sleep(_FAREWELL)

    async def close(self) -> None:
        """Close everything. Idempotent, and enough after a start that failed half-way."""
        for listener in (*self._listeners, *self._admin_listeners):
            listener.close()
        self._server.abort()
        if self._certificate is not None:
            await self._certificate.stop()
        await self._control.stop()
        await self._health.stop()
        for upstream in self._upstreams.values():
            upstream.close()
        await self._alert_check.stop()
        self._error_lines.stop()
        if self._webhook is not None:
            await self._webhook.stop()
        if self._fleet_figures is not None:
            await self._fleet_figures.stop()
        await self._limiter.close()
        await self._circuits.close()
        if self._sync is not None:
            await self._sync.stop()
        self._out.close()
        if self._store is not None:
            await self._store.close()
        if self._figure_store is not None:
            await self._figure_store.close()
        self._server.deadlines.close()
        self._front.close()

    async def _alert_facts(self) -> Facts:
        return alert_facts(self._view, await self.figures.rates(self.config.errors.window), self._metrics)

    def _transitioned(self, upstream: str, old: CircuitState, new: CircuitState, cause: str) -> None:
        self._metrics.circuit_transition(upstream, new.value)
        self._history.record(upstream, old.value, new.value, cause)


def _access_log(config: LogConfig, writer: LineWriter, files: LogFiles | None) -> AccessLog | None:
    if not config.access_log:
        return None
    if files is None:
        return AccessLog(writer.write, config.format)
    return files.access_log(writer.write, config.format)


def _alert_settings(config: ErrorsConfig) -> AlertSettings:
    return AlertSettings(
        interval=config.check_interval,
        window=config.window,
        high_errors_per_minute=config.high_errors_per_minute,
        high_error_rate=config.high_error_rate,
        critical_error_rate=config.critical_error_rate,
        minimum_requests=config.minimum_requests,
        resolve_after=config.resolve_after,
        retention=config.retention_hours * 3600.0,
    )


def _webhook(config: GatewayConfig, rng: random.Random) -> Webhook | None:
    errors = config.errors
    if errors.webhook_url is None:
        return None
    source = {"gateway": config.service, "environment": config.environment}
    return Webhook(errors.webhook_url, errors.webhook_secret, source, rng, timeout=errors.webhook_timeout)


def _register_alerts(metrics: Metrics, alerts: Alerts, webhook: Webhook | None) -> None:
    metrics.gauge("gateway_alerts_active", "Alerts that are active in this process.", ("kind",), alerts.count_by_kind)
    if webhook is not None:
        metrics.counter(
            "gateway_alert_deliveries_total",
            "Alerts sent to the webhook, by what became of them; retried ones are attempts beyond the first.",
            ("outcome",),
            lambda: ((("sent",), webhook.sent), (("failed",), webhook.failed), (("retried",), webhook.retried)),
        )


def _register_names(metrics: Metrics, resolver: Resolver) -> None:
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


def _listening(host: str, port: int) -> list[socket.socket]:
    try:
        return listen(host, port)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{host or '*'}:{port}") from error


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


def _outgoing(config: GatewayConfig) -> int:
    """The most connections to upstreams, tunnels included."""
    pooled = sum(upstream.max_connections * len(upstream.endpoints) for upstream in config.upstreams.values())
    return pooled + sum(route.max_tunnels for route in config.routes if route.websocket)


async def _until(condition: Callable[[], bool], seconds: float, hurry: asyncio.Event) -> bool:
    """Wait for `condition`, for that many seconds at most or until told to hurry. Whether it came true."""
    end = time.monotonic() + seconds
    while not condition():
        left = end - time.monotonic()
        if left <= 0 or hurry.is_set():
            return False
        await asyncio.sleep(min(_STOP_POLL, left))
    return True
