"""The life of the process.

    start: logs, store, health checks, control plane, listeners
    stop (SIGTERM, SIGINT): not ready -> pause -> no new connections -> what is in flight finishes -> everything closes

Each step of the stop is bounded; a second signal skips the waiting.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial

import uvloop

from gateway import __version__
from gateway.build import Gateway, build
from gateway.config import Notice
from gateway.config.model import GatewayConfig, LogConfig
from gateway.open_files import connections_that_fit
from gateway.telemetry import app_log
from gateway.telemetry.lines import LineWriter
from gateway.telemetry.log_files import LogFiles
from gateway.telemetry.render import counted
from gateway.wire.server.accept import Factory, FewHandshakes, Handshakes, Listener
from gateway.wire.server.certificate import Certificate
from gateway.wire.server.connection import ServerConnection
from gateway.wire.server.listener import listen
from gateway.wire.server.tls_buffers import map_large_blocks

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
    gateway = Lifecycle(build(config, writer, files))
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


class Lifecycle:
    """Starts and ends what was built, once each."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._certificate: Certificate | None = None
        self._listeners: list[Listener] = []
        self._admin_listeners: list[Listener] = []

    async def start(self) -> None:
        """Raises OSError, with the address as its `filename`, when a port cannot be had."""
        gateway = self._gateway
        server, admin = gateway.config.server, gateway.config.admin
        places = gateway.places
        places.limit, places.reserve_limit = connections_that_fit(server.max_connections, _outgoing(gateway.config))
        sockets = _listening(server.host, server.port)
        admin_sockets = _listening(admin.host, admin.port) if admin.port is not None else []
        if server.tls is not None:
            map_large_blocks()
            self._certificate = Certificate(server.tls.cert_file, server.tls.key_file)
            self._certificate.start()
            gateway.view.listener_certificate = self._certificate
        await self._start_beside()
        for sock in sockets:
            self._listeners.append(self._listener(sock, partial(ServerConnection, gateway.server), places))
        for sock in admin_sockets:
            self._admin_listeners.append(self._listener(sock, gateway.control.protocol, FewHandshakes()))
        for listener in (*self._listeners, *self._admin_listeners):
            await listener.start()
        gateway.view.starting = False
        self._settle_down()

    async def _start_beside(self) -> None:
        """What runs beside the requests: control plane, health checks, the fleet, alerts."""
        gateway = self._gateway
        fleet = gateway.fleet
        await gateway.control.start()
        gateway.health.start()
        if fleet.sync is not None:
            fleet.sync.start()
            began = time.monotonic()
            await fleet.sync.joined(_FIRST_EXCHANGE)
            fleet.link.started(time.monotonic() - began)
        if fleet.figures is not None:
            fleet.figures.start()
        if gateway.alerting.webhook is not None:
            gateway.alerting.webhook.start()
        gateway.alerting.check.start()
        gateway.telemetry.error_lines.start()

    def _settle_down(self) -> None:
        config, topology = self._gateway.config, self._gateway.topology
        # What exists now lives as long as the process: the collector need not look at it again, nor so often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        store = "the embedded store" if config.redis is None else f"Redis ({config.redis.mode})"
        log.info(
            "listening on %s:%d with %s, %s and %s",
            config.server.host or "*",
            config.server.port,
            counted(len(topology.routes), "route"),
            counted(len(topology.upstreams), "upstream"),
            store,
            extra={"version": __version__, "environment": config.environment},
        )

    def _listener(self, sock: socket.socket, factory: Factory, handshakes: Handshakes) -> Listener:
        certificate = self._certificate.context if self._certificate is not None else None
        timeout = self._gateway.config.server.header_timeout
        return Listener(self._gateway.loop, sock, factory, handshakes, certificate, timeout)

    def read_again(self) -> None:
        """SIGHUP: what can be renewed while the process runs, which are certificates."""
        log.info("SIGHUP received: certificates are read again, settings are not")
        if self._certificate is not None:
            self._certificate.load()
        for upstream in self._gateway.topology.upstreams.values():
            try:
                upstream.read_certificates_again()
            except OSError as error:
                # ssl.SSLError is one, too. What was read before stays in use.
                log.error("the certificates for upstream %s cannot be read again: %s", upstream.name, error)  # noqa: TRY400 - the reason is in the message

    async def drain(self, hurry: asyncio.Event) -> None:
        """Stop taking work and let what is in flight finish, within the configured times."""
        gateway = self._gateway
        server = gateway.config.server
        gateway.view.draining = True
        gateway.server.draining = True
        log.info(
            "draining: %s and %s open",
            counted(gateway.runtime.exchanges, "exchange"),
            counted(len(gateway.runtime.tunnels), "tunnel"),
        )
        await _until(lambda: False, server.drain_delay, hurry)
        for listener in self._listeners:
            listener.close()
        gateway.runtime.close_tunnels()

        def quiet() -> bool:
            gateway.server.close_idle(_QUIET)
            pending = any(listener.pending for listener in self._listeners)
            busy = pending or gateway.runtime.tunnels or gateway.control.connections
            return gateway.server.empty and not busy

        if not await _until(quiet, server.drain_timeout, hurry):
            log.warning("gave up on %s that did not finish in time", counted(gateway.runtime.exchanges, "exchange"))
            gateway.runtime.stopping = True
            gateway.server.give_up()
            await asyncio.sleep(_FAREWELL)

    async def close(self) -> None:
        """Close everything. Idempotent, and enough after a start that failed half-way."""
        gateway = self._gateway
        for listener in (*self._listeners, *self._admin_listeners):
            listener.close()
        gateway.server.abort()
        if self._certificate is not None:
            await self._certificate.stop()
        await gateway.control.stop()
        await gateway.health.stop()
        for upstream in gateway.topology.upstreams.values():
            upstream.close()
        await gateway.alerting.check.stop()
        gateway.telemetry.error_lines.stop()
        if gateway.alerting.webhook is not None:
            await gateway.alerting.webhook.stop()
        if gateway.fleet.figures is not None:
            await gateway.fleet.figures.stop()
        await gateway.fleet.limiter.close()
        await gateway.fleet.circuits.close()
        if gateway.fleet.sync is not None:
            await gateway.fleet.sync.stop()
        gateway.fleet.out.close()
        if gateway.fleet.store is not None:
            await gateway.fleet.store.close()
        if gateway.fleet.figure_store is not None:
            await gateway.fleet.figure_store.close()
        gateway.server.deadlines.close()
        gateway.runtime.close()


def _listening(host: str, port: int) -> list[socket.socket]:
    try:
        return listen(host, port)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{host or '*'}:{port}") from error


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
