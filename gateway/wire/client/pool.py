"""The connections to one endpoint.

Decisions are synchronous: `take` hands out an idle connection or nothing; `request` leaves a waiter and starts a
connection if one may be started. Whatever comes first serves the oldest waiter: a connection that comes back, or a
new one. So the number of connections never exceeds `max_connections`, and one slow handshake holds up nobody who
could have had an idle one.

The newest idle connection is taken first, which lets the oldest expire.
"""

import asyncio
import contextlib
import logging
import random
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final

from mypy_extensions import mypyc_attr

from gateway.alarm import Within
from gateway.syntax import hosts
from gateway.wire.client.connect import SocketAddress, attempt_delay, connect
from gateway.wire.client.connection import ConnectionOwner, UpstreamConnection
from gateway.wire.client.fault import Fault, fault_of, why_not
from gateway.wire.client.lifetime import Closed, Lifetime
from gateway.wire.client.resolver import Resolver

log = logging.getLogger("gateway.pool")

_SWEEP_INTERVAL: Final = 1.0
_LIFETIME: Final = Lifetime()


class ConnectFailure(Enum):
    """Why no connection came about. The values are the error types of RFC 9209."""

    REFUSED = "connection_refused"
    TIMEOUT = "connection_timeout"
    DNS = "dns_error"
    TLS = "tls_protocol_error"
    CERTIFICATE = "tls_certificate_error"
    UNREACHABLE = "destination_ip_unroutable"
    LOCAL = "connection_limit_reached"
    """This host lacks something, or forbids the connection: nobody else is to blame (gateway.wire.client.fault)."""

    @property
    def reached(self) -> bool:
        """Whether it was the upstream itself that would not: it took the connection, and TLS did not come about."""
        return self is ConnectFailure.TLS or self is ConnectFailure.CERTIFICATE


Resume = Callable[[UpstreamConnection | ConnectFailure], None]


class Waiter:
    """A place in the queue for a connection; `cancel` gives it up."""

    __slots__ = ("_queue", "_resume")

    def __init__(self, resume: Resume, queue: "deque[Waiter]") -> None:
        self._resume: Resume | None = resume
        self._queue = queue
        queue.append(self)

    @property
    def cancelled(self) -> bool:
        """Whether it has been served or given up."""
        return self._resume is None

    def cancel(self) -> None:
        """Nothing is wanted any more. Leaves the queue: nobody may come for a long time who would find it there."""
        self._resume = None
        # It is not in the queue when a connection is on its way to it.
        with contextlib.suppress(ValueError):
            self._queue.remove(self)

    def serve(self, result: UpstreamConnection | ConnectFailure) -> None:
        """Call whoever waits, once."""
        resume, self._resume = self._resume, None
        if resume is not None:
            resume(result)


@mypyc_attr(allow_interpreted_subclasses=True)
class EndpointPool(ConnectionOwner):
    """`host` and `port` are those of the endpoint, `tls` is None for plain connections. `connect_timeout` is in seconds
    and covers name, connection and TLS handshake.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        resolver: Resolver,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        max_connections: int = 256,
        lifetime: Lifetime = _LIFETIME,
        rng: random.Random | None = None,
        connect_timeout: float = 2.0,
    ) -> None:
        self.host = host
        self.port = port
        self.label = hosts.written(host, port)
        self._loop = loop
        self._resolver = resolver
        self._tls = tls
        self._server_name = (server_name or host) if tls is not None else None
        self._max = max_connections
        self._lifetime = lifetime
        self._rng = rng or random.Random()
        self.closed = dict.fromkeys(Closed, 0)
        """Connections that were closed while no request used them, by cause."""
        self._connect_timeout = connect_timeout
        self._idle: list[UpstreamConnection] = []
        self._members: set[UpstreamConnection] = set()
        self._waiters: deque[Waiter] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self._sweep_timer: asyncio.TimerHandle | None = None
        # As of the last sweep: idle times need not be better than its interval, and the clock costs.
        self._now = 0.0
        # What the name last resolved to; connections to addresses that left it are not used again.
        self._addresses: frozenset[str] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._closed = False
        self.lacking = ""
        """What this host lacked, or forbade, when the last connection failed for its own fault; for the answer."""

    def __repr__(self) -> str:
        return (
            f"<EndpointPool {self.label} idle={len(self._idle)} open={len(self._members)} "
            f"connecting={len(self._connecting)} waiting={len(self._waiters)}>"
        )

    @property
    def full(self) -> bool:
        """Whether a newcomer has to wait for somebody else's connection."""
        return len(self._members) >= self._max

    @property
    def has_room(self) -> bool:
        """Whether a newcomer gets a connection without waiting for somebody else's. Idle ones that have ended, or on
        which something has come that nobody asked for, are closed on the way."""
        connection = self.take()
        if connection is not None:
            self._idle.append(connection)
            return True
        return not self._waiters and len(self._members) + len(self._connecting) < self._max

    @property
    def open(self) -> int:
        """How many connections there are, idle and busy."""
        return len(self._members)

    def take(self) -> UpstreamConnection | None:
        """An idle connection that can be used, or None. HOT."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.closed:
                continue
            cause = connection.fault()
            if cause is None:
                return connection
            connection.retire(cause)
        return None

    def request(self, resume: Resume) -> Waiter:
        """Ask for a connection when `take` had none. `resume` is called once, later, unless the waiter is cancelled."""
        waiter = Waiter(resume, self._waiters)
        self._connect_for_waiters()
        return waiter

    # Called by the connections.

    def release(self, connection: UpstreamConnection) -> None:
        """A connection is free again: for the oldest waiter, or idle. HOT."""
        if self._closed:
            connection.close()
            return
        cause = self._over(connection)
        if cause is not None:
            connection.retire(cause)
            return
        if self._waiters:
            # Not from within the reading of the response that just ended: its sink is to hear of the end first.
            self._loop.call_soon(self._serve, self._waiters.popleft(), connection)
            return
        connection.idle_since = self._now
        self._idle.append(connection)
        if self._sweep_timer is None:
            self._now = connection.idle_since = time.monotonic()
            self._sweep_timer = self._loop.call_later(_SWEEP_INTERVAL, self._sweep)

    def retired(self, cause: Closed) -> None:
        """A connection was closed while no request used it."""
        self.closed[cause] += 1

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection is closed, or belongs to somebody else from here on."""
        self._members.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiters:
            self._connect_for_waiters()

    def close(self) -> None:
        """Close idle connections, give up connecting; busy ones close when they come back."""
        self._closed = True
        for task in list(self._connecting):
            task.cancel()
        if self._refreshing is not None:
            self._refreshing.cancel()
        for connection in list(self._idle):
            connection.close()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None

    def _over(self, connection: UpstreamConnection) -> Closed | None:
        """Why a connection that a request has just left is not used for another. HOT."""
        if connection.uses >= connection.max_uses:
            return Closed.REQUESTS
        if self._now >= connection.expires:
            return Closed.AGE
        if self._addresses is not None and connection.address not in self._addresses:
            return Closed.ADDRESS
        return None

    def _serve(self, waiter: Waiter, connection: UpstreamConnection) -> None:
        if not connection.closed and (cause := connection.fault()) is not None:
            connection.retire(cause)
        if connection.closed:
            # Closed by the upstream in the meantime: the waiter keeps its place at the front.
            if not waiter.cancelled:
                self._waiters.appendleft(waiter)
                self._connect_for_waiters()
        elif waiter.cancelled:
            self.release(connection)
        else:
            waiter.serve(connection)

    def _connect_for_waiters(self) -> None:
        if self._closed:
            return
        wanted = len(self._waiters) - len(self._connecting)
        room = self._max - len(self._members) - len(self._connecting)
        for _ in range(min(wanted, room)):
            task = self._loop.create_task(self._connect())
            self._connecting.add(task)

    async def _connect(self) -> None:
        connection: UpstreamConnection | None = None
        failure = ConnectFailure.UNREACHABLE
        try:
            async with Within(self._connect_timeout):
                connection = await self._open()
        except (OSError, MemoryError) as error:
            failure = self._failure(error)
        except Exception:
            # A defect of the gateway. Whoever waits is to hear of it now and not at the end of its time.
            log.exception("connecting to %s failed", self.label)
            self.lacking = "the gateway failed to connect; its log says why"
            failure = ConnectFailure.LOCAL
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._connecting.discard(task)
        if connection is not None:
            self._members.add(connection)
            connection.expires, connection.max_uses = self._lifetime.draw(time.monotonic(), self._rng)
            if connection.closed:
                self.forget(connection)
                connection, failure = None, ConnectFailure.REFUSED
        if self._closed:
            if connection is not None:
                connection.close()
            return
        waiter = self._waiters.popleft() if self._waiters else None
        if connection is None:
            if waiter is not None:
                waiter.serve(failure)
            self._connect_for_waiters()
        elif waiter is not None:
            waiter.serve(connection)
        else:
            self.release(connection)

    def _failure(self, error: OSError | MemoryError) -> ConnectFailure:
        if fault_of(error) is Fault.LOCAL:
            self.lacking = why_not(error)
            return ConnectFailure.LOCAL
        if isinstance(error, ssl.SSLCertVerificationError):
            log.warning("certificate of %s refused: %s", self.label, error.verify_message)
            return ConnectFailure.CERTIFICATE
        if isinstance(error, ssl.SSLError):
            return ConnectFailure.TLS
        if isinstance(error, TimeoutError):
            return ConnectFailure.TIMEOUT
        if isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError):
            return ConnectFailure.TLS if self._tls is not None else ConnectFailure.REFUSED
        if isinstance(error, ConnectionError):
            return ConnectFailure.REFUSED
        return ConnectFailure.DNS if isinstance(error, socket.gaierror) else ConnectFailure.UNREACHABLE

    async def _open(self) -> UpstreamConnection:
        addresses = await self._resolver.resolve(self.host, self.port)
        self._addresses = frozenset(address[0] for address in addresses)
        return await connect(
            addresses,
            self._protocol,
            delay=attempt_delay(len(addresses), self._connect_timeout),
            tls=self._tls,
            server_name=self._server_name,
            note=self._resolver.note,
        )

    def _protocol(self, address: SocketAddress) -> UpstreamConnection:
        return UpstreamConnection(self, address[0])

    async def _refresh(self) -> None:
        """Resolve again, although nothing has to be connected, and leave the addresses that are gone."""
        try:
            self._addresses = addresses = await self._resolver.hosts(self.host, self.port)
        except OSError:
            return
        for connection in [c for c in self._idle if c.address not in addresses]:
            connection.retire(Closed.ADDRESS)

    def _sweep(self) -> None:
        """Close what has been idle for too long, or is too old."""
        self._sweep_timer = None
        self._now = now = time.monotonic()
        horizon = now - self._lifetime.idle
        for connection in list(self._idle):
            until = connection.usable_until
            if connection.idle_since < horizon or (until is not None and now >= until):
                connection.retire(Closed.IDLE)
            elif now >= connection.expires:
                connection.retire(Closed.AGE)
        if (self._refreshing is None or self._refreshing.done()) and not self._resolver.is_fresh(self.host, self.port):
            self._refreshing = self._loop.create_task(self._refresh())
        if self._idle:
            self._sweep_timer = self._loop.call_later(_SWEEP_INTERVAL, self._sweep)
