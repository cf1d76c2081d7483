"""Accepting connections: counted from the first moment, and none left behind when the listener closes.

Without TLS the event loop accepts, which costs least. With TLS the event loop would tell of a connection only when its
handshake is over, so that silent connections could take every open file uncounted. There this module accepts: each
handshake has a place from the start (`gateway.wire.server.places`), ends with the time limit of a handshake, and
becomes a connection by handing its transport to the protocol that the factory makes. The certificate is looked up for
each handshake, so that a renewed one is served at once.

A listener whose socket ends with it takes first what the kernel has accepted and nobody has read (the accept queue):
the clients of these connections have been told that they are connected, may have sent a request, and would see a reset.
The same is true of a client whose handshake is not complete here: it was told with the SYN-ACK, and its ACK is on its
way, for as long as the way takes or the machine is busy. So newcomers are refused first (`begin_no_more`), and the
listener closes when the handshakes that had begun are over. One whose socket was handed on to another process leaves
that to the other.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final, Protocol

from gateway.alarm import Within
from gateway.wire.kernel import handshakes_under_way, refuse_new_connections

log = logging.getLogger("gateway")

# Handshakes are begun in batches, so that a burst of them does not hold up the connections that exist.
_AT_ONCE: Final = 16
# No more files may be open, or no memory is left: accepting is tried again after this.
_BREATHER: Final = 0.1
_NEVER: Final = 1e9
_LOGGED_EVERY: Final = 10.0
# The event loop calls listen(2) again, so that it must be as long as where the socket was opened.
_BACKLOG: Final = 4096
# Of the event loop, from accepting a connection to telling its protocol. uvloop takes one.
_TURNS: Final = 3
Factory = Callable[[], asyncio.Protocol]


async def accepted_are_known() -> None:
    """Wait until what the event loop has accepted by now is with its protocol. Before that nobody knows of such a
    connection, and whoever looks takes the server for empty."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


class Handshakes(Protocol):
    """Who keeps account of the handshakes of a listener."""

    def enter_handshake(self, handshake: "Handshake") -> None:
        """One begins. It may be aborted at any time from here on, this call included."""
        ...

    def leave_handshake(self, handshake: "Handshake") -> None:
        """It is over, one way or the other."""
        ...


class Handshake(asyncio.Protocol):
    """One TLS handshake, as the server. Afterwards the transport belongs to the protocol of the factory."""

    __slots__ = ("_factory", "_handshakes", "_sock", "quiet_since", "task")

    spoken = False

    def __init__(self, sock: socket.socket, handshakes: Handshakes, factory: Factory, now: float) -> None:
        self._sock = sock
        self._handshakes = handshakes
        self._factory = factory
        self.quiet_since = now
        self.task: asyncio.Task[None] | None = None

    @property
    def unread(self) -> bool:
        """Whether bytes of a request have arrived: not before the handshake is complete."""
        return False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is complete."""
        self._handshakes.leave_handshake(self)
        protocol = self._factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    def abort(self) -> None:
        """End the handshake; its socket is closed."""
        self._handshakes.leave_handshake(self)
        if self.task is not None:
            self.task.cancel()

    def over(self, task: asyncio.Task[None]) -> None:
        """The task has ended: the handshake is complete, has failed or was aborted."""
        self._handshakes.leave_handshake(self)
        if task.cancelled() or task.exception() is not None:
            # What never got a transport has nobody else who closes it.
            self._sock.close()


class FewHandshakes:
    """Keeps account of the handshakes of a listener that few people use: when there are too many, the oldest ends."""

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._open: dict[Handshake, None] = {}

    def enter_handshake(self, handshake: Handshake) -> None:
        if len(self._open) >= self._limit:
            next(iter(self._open)).abort()
        self._open[handshake] = None

    def leave_handshake(self, handshake: Handshake) -> None:
        self._open.pop(handshake, None)


class Listener:
    """A listening socket and what it accepts. `certificate` None means plain connections."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        factory: Factory,
        handshakes: Handshakes,
        certificate: Callable[[], ssl.SSLContext] | None,
        handshake_timeout: float,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._factory = factory
        self._handshakes = handshakes
        self._certificate = certificate
        self._handshake_timeout = handshake_timeout
        self._server: asyncio.Server | None = None
        self._breather: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._logged_at = -_LOGGED_EVERY
        self.closed = False

    @property
    def pending(self) -> int:
        """Accepted, and not yet with the protocol of the factory."""
        return len(self._tasks)

    async def start(self) -> None:
        """Accept from now on."""
        if self._certificate is None:
            # The event loop closes the socket that it is given; ours stays open for `close`.
            self._server = await self._loop.create_server(self._factory, sock=self._sock.dup(), backlog=_BACKLOG)
        else:
            self._loop.add_reader(self._sock, self._accept)

    def begin_no_more(self) -> None:
        """Have the kernel refuse newcomers. Who has begun a TCP handshake is accepted."""
        if not self.closed:
            refuse_new_connections(self._sock)

    @property
    def handshakes_under_way(self) -> bool:
        """Whether a client takes itself for connected whose connection cannot be accepted yet. Asks the kernel."""
        return not self.closed and handshakes_under_way(self._sock.getsockname()[1])

    def close(self, *, take_what_waits: bool) -> None:
        """Accept no more. With `take_what_waits` the socket ends here, for every process that has it, after what is in
        its accept queue has been taken; otherwise it is left to the next owner. Idempotent."""
        if self.closed:
            return
        self.closed = True
        if self._breather is not None:
            self._breather.cancel()
        if self._server is not None:
            self._server.close()
        elif self._certificate is not None:
            self._loop.remove_reader(self._sock)
        if take_what_waits:
            refuse_new_connections(self._sock)
            with contextlib.suppress(OSError):
                while True:
                    self._begin(self._sock.accept()[0])
            # The supervisor has the same socket: a kernel that knows no `refuse_new_connections` would go on to accept.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _accept(self) -> None:
        try:
            for _ in range(_AT_ONCE):
                self._begin(self._sock.accept()[0])
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            self._rest(error)

    def _rest(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._logged_at >= _LOGGED_EVERY:
            self._logged_at = now
            log.warning("cannot accept connections: %s", error.strerror)
        self._loop.remove_reader(self._sock)
        self._breather = self._loop.call_later(_BREATHER, self._loop.add_reader, self._sock, self._accept)

    def _begin(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if self._certificate is None:
            task = self._loop.create_task(self._connect(sock))
        else:
            handshake = Handshake(sock, self._handshakes, self._factory, time.monotonic())
            handshake.task = task = self._loop.create_task(self._shake(sock, handshake, self._certificate()))
            task.add_done_callback(handshake.over)
            self._handshakes.enter_handshake(handshake)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(self._factory, sock)

    async def _shake(self, sock: socket.socket, handshake: Handshake, context: ssl.SSLContext) -> None:
        try:
            # uvloop's own limit would take a stall of this process for a silent peer.
            async with Within(self._handshake_timeout):
                await self._loop.connect_accepted_socket(
                    lambda: handshake, sock, ssl=context, ssl_handshake_timeout=_NEVER
                )
        except TimeoutError:
            sock.close()
        except OSError:
            # Whatever a peer sends instead of a handshake is its own affair.
            return
