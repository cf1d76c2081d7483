"""The life of what serves requests in one worker.

    prepare: store, health checks, control plane, certificates    accept: listeners
    drain: no new connections -> what is in flight finishes       close: everything closes

A worker that is replaced hands its listening sockets on and is not in a hurry; when the service ends, the gateway says
that it is not ready, pauses, and then closes its sockets. Each step is bounded; `hurry` skips the waiting.
"""

import asyncio
import gc
import logging
import socket
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final

from gateway.assembly.gateway import Gateway
from gateway.config.model import GatewayConfig
from gateway.ipc.socket_purposes import ADMIN, LISTENER
from gateway.proxy.upstreams.certificates import UpstreamCertificates
from gateway.system.open_files import connections_that_fit
from gateway.telemetry.log.render import counted
from gateway.wire.server.accept import Factory, FewHandshakes, Handshakes, Listener, accepted_are_known
from gateway.wire.server.certificate import Certificate
from gateway.wire.server.connection import ServerConnection
from gateway.wire.server.tls_buffers import map_large_blocks

log = logging.getLogger("gateway")

# A connection that has been idle for this long is not about to carry a request. Where only the worker ends there is no
# hurry, and a client that has just connected may take its time.
_QUIET: Final = 1.0
_QUIET_WHEN_REPLACED: Final = 5.0
_STOP_POLL: Final = 0.02
# For the last packet of TCP handshakes that have begun. Under a flood of SYNs some are always under way.
_LAST_ACKS: Final = 1.0
# For the last answers to leave, and for the Close frames of tunnels.
_FAREWELL: Final = 0.1
# For the first exchange with the store, before the gateway listens: until then it would give each client a full bucket.
_FIRST_EXCHANGE: Final = 2.0
# For spans that wait, before the process ends.
_LAST_SPANS: Final = 3.0
# For the keys of issuers: until they are there, requests with tokens have to wait.
_FIRST_KEYS: Final = 2.0


class Lifecycle:
    """Starts and ends what was built, once each. `sockets` listen already; they belong to the lifecycle from now on."""

    def __init__(self, gateway: Gateway, sockets: Mapping[str, list[socket.socket]]) -> None:
        self._gateway = gateway
        self._sockets = sockets
        self._certificate: Certificate | None = None
        self._upstream_certificates = UpstreamCertificates(gateway.topology.upstreams.values())
        self._listeners: dict[str, list[Listener]] = {}
        self._stands_in: dict[int, list[Listener]] = {}
        """The listeners among them that belong to other slots."""

    async def prepare(self) -> None:
        """Everything but accepting. Raises OSError when a certificate cannot be used."""
        gateway = self._gateway
        server = gateway.config.server
        places = gateway.places
        places.limit, places.reserve_limit = connections_that_fit(server.max_connections, _outgoing(gateway.config))
        if server.tls is not None:
            map_large_blocks()
            self._certificate = Certificate(server.tls.cert_file, server.tls.key_file)
            self._certificate.start()
            gateway.view.listener_certificate = self._certificate
        self._upstream_certificates.start()
        await self._start_beside()
        self._listeners = self._listeners_on(self._sockets)
        _settle_down()

    async def accept(self) -> None:
        """Serve from now on."""
        for listener in self._every_listener():
            await listener.start()
        self._gateway.view.starting = False

    async def stand_in(self, slot: int, sockets: Mapping[str, list[socket.socket]]) -> None:
        """Accept on the sockets of another slot, too, until `give_back`."""
        self.give_back(slot)
        self._stands_in[slot] = added = []
        for purpose, listeners in self._listeners_on(sockets).items():
            # Those that were given back, and have nothing under way any more, are forgotten.
            kept = [each for each in self._listeners[purpose] if not each.closed or each.pending]
            self._listeners[purpose] = kept + listeners
            added += listeners
        for listener in added:
            try:
                await listener.start()
            except OSError as error:
                log.warning("cannot accept for worker %d: %s", slot, error.strerror)

    def give_back(self, slot: int) -> None:
        """The slot has a worker again, which accepts what waits."""
        for listener in self._stands_in.pop(slot, ()):
            listener.close(take_what_waits=False)

    async def _start_beside(self) -> None:
        """What runs beside the requests: control plane, health checks, the fleet, alerts."""
        gateway = self._gateway
        fleet = gateway.fleet
        await gateway.control.start()
        gateway.health.start()
        fleet.sync.start()
        began = time.monotonic()
        await fleet.sync.joined(_FIRST_EXCHANGE)
        fleet.link.started(time.monotonic() - began)
        fleet.figures.start()
        if gateway.identity is not None:
            await gateway.identity.start(_FIRST_KEYS)
        if gateway.journal is not None:
            await gateway.journal.start()
        if gateway.idempotency is not None:
            gateway.idempotency.start()
        if gateway.validation is not None:
            gateway.validation.start()
        if gateway.outbox is not None:
            gateway.outbox.start()
        if gateway.sagas is not None:
            gateway.sagas.start()
        if gateway.faults is not None:
            gateway.faults.guard.start()
        if gateway.alerting.webhook is not None:
            gateway.alerting.webhook.start()
        if gateway.tracing.exporter is not None:
            gateway.tracing.exporter.start()
        if gateway.one_service is not None:
            await gateway.one_service.start()
        gateway.alerting.check.start()
        gateway.telemetry.error_lines.start()
        gateway.tunnel_lines.start()

    def _listeners_on(self, sockets: Mapping[str, list[socket.socket]]) -> dict[str, list[Listener]]:
        gateway = self._gateway
        requests = partial(ServerConnection, gateway.server)
        return {
            LISTENER: [self._listener(sock, requests, gateway.places) for sock in sockets.get(LISTENER, ())],
            ADMIN: [self._listener(sock, gateway.control.protocol, FewHandshakes()) for sock in sockets.get(ADMIN, ())],
        }

    def _listener(self, sock: socket.socket, factory: Factory, handshakes: Handshakes) -> Listener:
        certificate = self._certificate.context if self._certificate is not None else None
        timeout = self._gateway.config.server.header_timeout
        return Listener(self._gateway.loop, sock, factory, handshakes, certificate, timeout)

    async def stop_accepting(self, hurry: asyncio.Event, closing: Collection[str], *, final: bool) -> None:
        """Take no new connections.

        The sockets of the purposes in `closing` end with this worker: what the kernel has accepted on them is served,
        and so is who takes himself for connected by then. All others were handed on, or stay with the service manager,
        and their next owner accepts what waits. `final`: the service ends, so `/readyz` says so first, for the time
        that a load balancer needs to notice.
        """
        gateway = self._gateway
        gateway.server.draining = True
        if gateway.outbox is not None:
            await gateway.outbox.relay.pause()
        if gateway.sagas is not None:
            await gateway.sagas.pause()
        log.info(
            "draining: %s and %s open",
            counted(gateway.runtime.exchanges, "exchange"),
            counted(len(gateway.runtime.tunnels), "tunnel"),
        )
        if final:
            gateway.view.draining = True
            await _until(lambda: False, gateway.config.server.drain_delay, hurry)
        # The control plane's own port shows the end of the service to the last.
        ending = {purpose: each for purpose, each in self._listeners.items() if purpose != ADMIN or not final}
        last = [listener for purpose, listeners in ending.items() if purpose in closing for listener in listeners]
        for listener in last:
            listener.begin_no_more()
        await _until(lambda: not any(listener.handshakes_under_way for listener in last), _LAST_ACKS, hurry)
        for purpose, listeners in ending.items():
            for listener in listeners:
                listener.close(take_what_waits=purpose in closing)
        await accepted_are_known()
        await gateway.control.drain()

    async def finish(self, hurry: asyncio.Event, *, final: bool) -> None:
        """Let what is in flight finish, within the configured times."""
        gateway = self._gateway
        server, runtime = gateway.config.server, gateway.runtime
        if final:
            runtime.close_tunnels()
        if not await _until(partial(self._quiet, final=final), server.drain_timeout, hurry):
            log.warning("gave up on %s that did not finish in time", counted(runtime.exchanges, "exchange"))
            runtime.stopping = True
            gateway.server.give_up()
            for each in list(runtime.alone):
                each.gateway_stops()
            await asyncio.sleep(_FAREWELL)
        if not final and runtime.tunnels:
            await _until(lambda: not runtime.tunnels, server.tunnel_drain, hurry)
            runtime.close_tunnels()
            await _until(lambda: not runtime.tunnels, _QUIET, hurry)

    def _quiet(self, *, final: bool) -> bool:
        """Whether nothing is left to wait for. Tunnels have a time of their own where only the worker ends."""
        gateway = self._gateway
        gateway.server.close_idle(_QUIET if final else _QUIET_WHEN_REPLACED)
        if any(listener.pending for listener in self._every_listener()) or gateway.control.connections:
            return False
        if gateway.outbox is not None and gateway.outbox.relay.under_way:
            return False
        if gateway.sagas is not None and gateway.sagas.under_way:
            return False
        return gateway.server.empty and not gateway.runtime.alone and not (final and gateway.runtime.tunnels)

    def _every_listener(self) -> list[Listener]:
        return [listener for listeners in self._listeners.values() for listener in listeners]

    async def close(self) -> None:
        """Close everything. Idempotent, and enough after a start that failed half-way."""
        gateway = self._gateway
        for listener in self._every_listener():
            listener.close(take_what_waits=False)
        gateway.server.abort()
        if self._certificate is not None:
            await self._certificate.stop()
        await self._upstream_certificates.stop()
        await gateway.control.stop()
        await gateway.health.stop()
        gateway.topology.close()
        await gateway.alerting.check.stop()
        if gateway.one_service is not None:
            gateway.one_service.stop()
        gateway.telemetry.error_lines.stop()
        gateway.tunnel_lines.stop()
        if gateway.alerting.webhook is not None:
            await gateway.alerting.webhook.stop()
        await gateway.fleet.figures.stop()
        if gateway.identity is not None:
            await gateway.identity.stop()
        if gateway.idempotency is not None:
            await gateway.idempotency.stop()
        if gateway.outbox is not None:
            await gateway.outbox.stop()
        if gateway.sagas is not None:
            await gateway.sagas.stop()
        if gateway.journal is not None:
            await gateway.journal.close()
        if gateway.validation is not None:
            await gateway.validation.stop()
        if gateway.faults is not None:
            await gateway.faults.guard.stop()
            await gateway.faults.fleet.stop()
        await gateway.fleet.limiter.close()
        await gateway.fleet.circuits.close()
        await gateway.fleet.sync.stop()
        gateway.fleet.out.close()
        await gateway.fleet.store.close()
        await gateway.fleet.figure_store.close()
        gateway.server.deadlines.close()
        gateway.runtime.close()
        if gateway.tracing.exporter is not None:
            await gateway.tracing.exporter.stop(_LAST_SPANS)


def _settle_down() -> None:
    """What exists now lives as long as the process: the collector need not look at it again, nor so often. It was off
    until now (`gateway.worker.__main__`).

    It does not look even once. The imports have left some 3,000 objects of 150,000 that nobody needs, less than a
    megabyte, and to find those would take a tenth of the time of a start."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 20)


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
