"""The half of a client connection that faces its transport: reading on and off, how fast bytes move, and how it ends.

It knows no messages. The other half is in `gateway.wire.server.connection`.

Reading stops while the exchange does not want the request body, or while more has arrived early than is held for
later. While nothing is read nobody tells that the client has left, so that is looked for once a second.

A connection closes in one of four ways. `_close` writes what is buffered, then closes. `_linger` closes our direction
only, and gives what the client is still sending somewhere to go. `_reset` loses what is buffered, on purpose. `abort`
closes at once.
"""

import asyncio
import contextlib
import socket
import struct
import time
from typing import Final, cast

from mypy_extensions import mypyc_attr

from gateway.syntax import hosts
from gateway.wire.kernel import unread, unsent
from gateway.wire.ports import Connection, Exchange
from gateway.wire.reading import Reading
from gateway.wire.server.body_rate import BodyRate
from gateway.wire.server.registry import Server
from gateway.wire.server.slowness import Taking
from gateway.wire.server.transitions import TRANSITIONS, Event, State

NEVER: Final = float("inf")
RECORD: Final = 16_384
"""The most that one record of TLS carries (RFC 8446 section 5.1)."""
LINGER_TIME: Final = 2.0
"""Seconds for which input is thrown away after our side is closed."""
LOOK_INTERVAL: Final = 1.0
"""Seconds from one look for a client that has left to the next, while its connection is not read."""

_CLOSE_NOTIFY_TIME: Final = 0.05

# HOT: looking up a member of an enum costs as much as a call.
_BODY: Final = State.BODY
_LINGER: Final = State.LINGER
_GONE: Final = State.GONE
_WAIT: Final = State.WAIT


@mypyc_attr(allow_interpreted_subclasses=True)
class TransportHalf(Connection):
    """`state` changes by `_move` alone, but for the two moves that gateway.wire.server.transitions names. `deadline` is
    an instant of the monotonic clock (gateway.wire.deadlines). `exchange` is the one in flight."""

    __slots__ = (
        "_grown",
        "_held",
        "_overfull",
        "_reading",
        "_server",
        "_taking",
        "_transport",
        "_unwanted",
        "_upload",
        "deadline",
        "exchange",
        "state",
    )

    # From `connection_made` on.
    _transport: asyncio.Transport
    _reading: Reading

    def __init__(self, server: Server) -> None:
        # For the life of the connection.
        self._server = server
        self.peer = ""
        self.scratch = None
        self.state = State.HEAD
        self.deadline = NEVER
        self.write_blocked = False
        # Why nothing is read: the exchange does not want the body, or more is held than may be.
        self._unwanted = False
        self._overfull = False
        # What has arrived early, for later requests.
        self._held = b""
        # How fast the response goes out, while it is not taken as fast as it comes.
        self._taking: Taking | None = None
        self._grown = False
        # For the life of a request.
        self.exchange: Exchange | None = None
        self._upload: BodyRate | None = None

    def __repr__(self) -> str:
        return f"<ServerConnection {self.peer} {self.state.value}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, or wait in the reserve."""
        self._transport = cast(asyncio.Transport, transport)
        server = self._server
        self._reading = Reading(self._transport, server.loop)
        peer = transport.get_extra_info("peername")
        if peer:
            self.peer = hosts.peer(peer[0])
        # A connection has to say something in the time of a head, not of a keep-alive pause.
        self.deadline = time.monotonic() + server.header_timeout
        server.deadlines.add(self)
        server.places.enter(self)

    def eof_received(self) -> bool:
        """A client that closes, or half-closes, while its request is in flight has gone: let the transport close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed; the exchange hears of it."""
        self._leave()
        self._reading.end()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()

    def expire(self, now: float) -> None:
        """The deadline has passed (gateway.wire.deadlines)."""
        raise NotImplementedError

    def _move(self, event: Event) -> None:
        """To the state that follows. A KeyError is a fault of this program, never of a client."""
        self.state = TRANSITIONS[self.state][event]

    @property
    def scheme(self) -> str:
        """`http`, or `https` over TLS."""
        return self._server.scheme

    @property
    def unread(self) -> bool:
        """Whether bytes have arrived that are not yet read. Asks the kernel."""
        return unread(self._transport)

    # Writing.

    def write(self, data: bytes) -> None:
        """Write a part of the response. HOT."""
        if len(data) > RECORD and self._server.scheme == "https":
            # OpenSSL's buffer grows to what is written at once, and never shrinks while the connection lives.
            self._grow()
            view = memoryview(data)
            for start in range(0, len(data), RECORD):
                self._transport.write(view[start : start + RECORD])
        else:
            self._transport.write(data)

    def pause_writing(self) -> None:
        """The client is behind: from now on its taking of the response is what counts."""
        self.write_blocked = True
        self._measure(time.monotonic())
        if self.exchange is not None:
            self.exchange.pause_answer()

    def _measure(self, now: float) -> None:
        self._taking = taking = Taking(self._server.download(now), self._transport)
        self.deadline = taking.deadline()

    # Reading.

    def pause_reading(self) -> None:
        """The request body is not wanted for now."""
        if not self._unwanted and self.state is not _GONE:
            self._unwanted = True
            self._read_or_not()

    def resume_reading(self) -> None:
        """The request body is wanted again."""
        if self._unwanted and self.state is not _GONE:
            self._unwanted = False
            if self.state is _BODY:
                self._touch()
            self._read_or_not()

    def _read_or_not(self) -> None:
        reading = self._reading
        upload = self._upload
        if not (self._unwanted or self._overfull):
            reading.start()
            if upload is not None:
                upload.go(time.monotonic())
        elif not reading.stopped:
            reading.stop()
            now = time.monotonic()
            if upload is not None:
                upload.stop(now)
            if not self.write_blocked:
                # While the connection is not read, nobody hears of its end: it is looked at now and then.
                self.deadline = now + LOOK_INTERVAL

    def _touch(self) -> None:
        """The client has moved. But while it takes nothing of the response, only its taking counts."""
        if not self.write_blocked:
            upload = self._upload
            if upload is None:
                self.deadline = time.monotonic() + self._server.client_idle_timeout
            else:
                upload.last = time.monotonic()
                self.deadline = upload.deadline()

    def _give_way(self, size: int) -> None:
        """To other connections, after a read of `size` bytes if that is large."""
        reading = self._reading
        if size >= reading.large:
            reading.rest()
            self._grow()

    def _grow(self) -> None:
        """The buffers of the transport may have grown for good (gateway.wire.server.tls_buffers)."""
        if not self._grown and self._server.scheme == "https":
            self._grown = True
            self._server.grown.enter(self)

    # Ending.

    def break_off(self, *, reset: bool) -> None:
        """The response cannot be finished: let the client see that it is truncated. With `reset` what is still
        buffered is lost."""
        self.exchange = None
        if reset:
            self._reset()
        else:
            self._close()

    def give_up(self) -> None:
        """The gateway stops and waits no longer: the exchange ends, with an answer if it has none yet."""
        if self.exchange is not None:
            self.exchange.gateway_stops()

    def abort(self) -> None:
        """Close at once."""
        if self.state is not _GONE:
            exchange, self.exchange = self.exchange, None
            self._leave()
            self._reading.end()
            self._transport.abort()
            if exchange is not None:
                exchange.client_gone()

    def _linger(self, now: float) -> None:
        """Close our side first and give what the client is still sending somewhere to go (RFC 9112 section 9.6)."""
        transport = self._transport
        if not transport.can_write_eof():
            self._close()
            return
        self._move(Event.CLOSE)
        self.deadline = now + LINGER_TIME
        self._held = b""
        self._unwanted = self._overfull = False
        self._read_or_not()
        transport.write_eof()

    def _close(self) -> None:
        """Close after what is buffered has been written, within the client's time to take it."""
        if self.state is _GONE or self.state is _LINGER:
            return
        self._move(Event.CLOSE)
        now = time.monotonic()
        self.deadline = now + self._server.client_idle_timeout
        if self._grown:
            # Its buffers are not freed before the client has closed its side of TLS.
            self.deadline = now + LINGER_TIME
            self._server.grown.wait(self, now)
        self._transport.close()

    def _undelivered(self) -> bool:
        """Whether the client has still to take something of what was written. What the kernel has of it counts, too: a
        socket that is closed with unread bytes loses it."""
        left = unsent(self._transport)
        return left > 0 if left >= 0 else self._transport.get_write_buffer_size() > 0

    def give_back(self, *, patient: bool) -> bool:
        """See `gateway.wire.server.tls_buffers.Grown`."""
        state = self.state
        if state is _BODY or state is _WAIT or state is _GONE:
            return False
        if patient and (self._undelivered() or (state is not _LINGER and (self.quiet_since is None or self.unread))):
            return False
        if patient and state is not _LINGER:
            # Time for the message of TLS that it is closed, which the client need not answer.
            self._close()
            self._server.loop.call_later(_CLOSE_NOTIFY_TIME, self.abort)
        else:
            self.abort()
        return True

    def _reset(self) -> None:
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    def _leave(self) -> None:
        """Give up the place, and whatever the listener counts."""
        if self.state is _GONE:
            return
        self._move(Event.LEAVE)
        if self._grown:
            self._grown = False
            self._server.grown.leave(self)
        self._server.places.leave(self)
        self._server.deadlines.discard(self)
