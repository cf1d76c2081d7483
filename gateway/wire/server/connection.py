"""One client connection: requests in, responses out, one at a time.

A small state machine over HTTP/1.1 keep-alive:

    HEAD   a request head is awaited, or partly here
    BODY   the head has been handed to the front; its body is arriving
    WAIT   the whole request is here; the response is not finished
    DRAIN  the response is finished; the little that is left of the request body is read and thrown away
    LINGER our side is closed; input is thrown away for a moment, so that a reset cannot overtake the response
    GONE   closed, or handed over to another protocol

Requests that arrive early (pipelining) are held as bytes, up to a bound, beyond which the connection is not read;
they are parsed one by one, each in a turn of the loop of its own. Size limits are checked before anything is parsed.

A client that closes, or half-closes, while its request is in flight has gone: the exchange is told so.
"""

import asyncio
import contextlib
import socket
import struct
import time
from enum import Enum
from typing import cast

from gateway import names
from gateway.wire.kernel import acknowledged, peer_left, unread
from gateway.wire.message.chunked import ChunkedDecoder, ChunkedError
from gateway.wire.message.head_reader import HeadReader
from gateway.wire.message.request import Request, RequestError
from gateway.wire.ports import Connection, Exchange
from gateway.wire.reading import Reading
from gateway.wire.server.body_rate import BodyRate
from gateway.wire.server.registry import Server
from gateway.wire.server.tls_buffers import GROWN_KEEPALIVE, MAX_GROWN

_NEVER = float("inf")
# Held for later while an exchange is in flight; and what is read of a body that nobody wants, to save the connection.
_PIPELINE_BYTES = 65_536
_DRAIN_BYTES = 65_536
# The most that one record of TLS carries (RFC 8446 section 5.1).
_RECORD = 16_384
_LINGER_BYTES = 4 * 1024 * 1024
_LINGER_TIME = 2.0
_DRAIN_TIME = 5.0
_LOOK_INTERVAL = 1.0


class State(Enum):
    HEAD = "head"
    BODY = "body"
    WAIT = "wait"
    DRAIN = "drain"
    LINGER = "linger"
    GONE = "gone"


# HOT: looking up a member of an enum costs as much as a call.
_HEAD, _BODY, _WAIT, _DRAIN, _LINGER, _GONE = State
_CARRYING = (_BODY, _WAIT)


class ServerConnection(Connection):
    __slots__ = (
        "_acknowledged",
        "_current",
        "_decoder",
        "_discarded",
        "_download",
        "_grown",
        "_held",
        "_idle_since",
        "_keep_alive",
        "_opened_at",
        "_overfull",
        "_reader",
        "_reading",
        "_remaining",
        "_server",
        "_transport",
        "_unwanted",
        "_upload",
        "deadline",
        "exchange",
        "state",
    )

    def __init__(self, server: Server) -> None:
        # For the life of the process.
        self._server = server
        # For the life of the connection.
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.peer = ""
        self.peer_port = 0
        self.state = _HEAD
        self.deadline = _NEVER
        self.write_blocked = False
        self._reader = HeadReader(server.limits, server.kept_heads)
        self._opened_at = self._idle_since = 0.0
        # Reading stops while the exchange does not want the body, or more is held for later than may be.
        self._reading: Reading = cast(Reading, None)
        self._unwanted = False
        self._overfull = False
        # How fast the response goes out, while it is not taken as fast as it comes.
        self._download: BodyRate | None = None
        self._acknowledged = 0
        self._grown = False
        # The front's, for what it keeps per connection (the client's identity).
        self.scratch: object = None
        # For the life of a request.
        self.exchange: Exchange | None = None
        self._held = b""
        self._current = b""
        self._keep_alive = False
        self._remaining = 0
        self._decoder: ChunkedDecoder | None = None
        self._upload: BodyRate | None = None
        self._discarded = 0

    def __repr__(self) -> str:
        return f"<ServerConnection {self.peer} {self.state.value}>"

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        server = self._server
        self._reading = Reading(self._transport, server.loop)
        peer = transport.get_extra_info("peername")
        if peer:
            host, self.peer_port = peer[0], peer[1]
            self.peer = names.peer(host)
        self._opened_at = self._idle_since = now = time.monotonic()
        # A connection has to say something in the time of a head, not of a keep-alive pause.
        self.deadline = now + server.header_timeout
        server.deadlines.add(self)
        server.places.enter(self)

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state is _HEAD and not self._held and not self.write_blocked:
            request = self._reader.again(data)
            if request is None:
                self._head(data)
            else:
                self._begin(request, data, len(data))
            return
        if state is _BODY:
            self._body(data)
            return
        self._give_way(len(data))
        if state is _WAIT or state is _HEAD:
            # In HEAD not before what came first; and nothing is begun for a client that does not take what it asked
            # for.
            self._hold(data)
        elif state is _DRAIN:
            self._drain(data)
        elif state is _LINGER:
            self._discarded += len(data)
            if self._discarded > _LINGER_BYTES:
                self.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()

    def pause_writing(self) -> None:
        self.write_blocked = True
        self._measure(time.monotonic())
        if self.exchange is not None:
            self.exchange.pause_answer()

    def resume_writing(self) -> None:
        self.write_blocked = False
        self._download = None
        if self.state in _CARRYING:
            self._touch()
        if self.exchange is not None:
            self.exchange.resume_answer()
        elif self._held:
            self._schedule()

    def expire(self, now: float) -> None:
        """The deadline has passed (gateway.wire.deadlines)."""
        state = self.state
        if self._reading.stopped and peer_left(self._transport):
            self.abort()
        elif self.write_blocked or (state is _LINGER and self._transport.get_write_buffer_size()):
            self._taken_slowly(now)
        elif state is _HEAD:
            if self._reader.begun:
                self._server.front.reject(
                    self, RequestError(408, "request_timeout", "the request head did not arrive in time")
                )
            else:
                self._close()
                if self._grown:
                    # Its buffers are not freed before the client has closed its side of TLS.
                    self.deadline = now + _LINGER_TIME
        elif state in _CARRYING and self._reading.stopped:
            self.deadline = now + _LOOK_INTERVAL
        elif state is _BODY:
            self._sent_slowly(now)
        elif state is _WAIT:
            self.deadline = _NEVER
        else:
            self.abort()

    # The exchange's side.

    @property
    def scheme(self) -> str:
        return self._server.scheme

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request after this response, as far as is known at its head."""
        if not self._keep_alive or self._server.draining:
            return False
        if self.state is _WAIT:
            return True
        return self.state is _BODY and self._decoder is None and self._remaining <= _DRAIN_BYTES

    def write(self, data: bytes) -> None:
        if len(data) > _RECORD and self._server.scheme == "https":
            # OpenSSL's buffer grows to what is written at once, and never shrinks while the connection lives.
            self._grow()
            view = memoryview(data)
            for start in range(0, len(data), _RECORD):
                self._transport.write(view[start : start + _RECORD])
        else:
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Backpressure: the request body is not wanted for now."""
        if not self._unwanted and self.state is not _GONE:
            self._unwanted = True
            self._read_or_not()

    def resume_reading(self) -> None:
        if self._unwanted and self.state is not _GONE:
            self._unwanted = False
            if self.state is _BODY:
                self._touch()
            self._read_or_not()

    def answer(self, response: bytes, now: float, keep_alive: bool) -> None:
        """Write a whole response and finish the request. HOT."""
        self.write(response)
        if keep_alive and self.state is _WAIT:
            self.exchange = None
            self._ready(now)
        else:
            self.finish(now, keep_alive=keep_alive)

    def finish(self, now: float, *, keep_alive: bool) -> None:
        """The response is written to its end. `keep_alive` is what its head promised."""
        self.exchange = None
        if self.state is _GONE:
            return
        if not keep_alive:
            if self.state is _WAIT and not self._held:
                self._close()
            else:
                self._linger(now)
        elif self.state is _BODY:
            self._upload = None
            self.state = _DRAIN
            self.deadline = now + _DRAIN_TIME
            self.resume_reading()
        else:
            self._ready(now)

    def break_off(self, *, reset: bool) -> None:
        """The response cannot be finished: let the client see that it is truncated. With `reset` what is still
        buffered is lost, which is needed where an orderly close would be taken for the end of the body."""
        self.exchange = None
        if reset:
            self._reset()
        else:
            self._close()

    def give_up(self) -> None:
        """The gateway stops and waits no longer: an exchange without an answer gets one, one with half of it ends."""
        if self.exchange is not None:
            self.exchange.gateway_stops()

    def abort(self) -> None:
        """Close at once."""
        if self.state is not _GONE:
            exchange, self.exchange = self.exchange, None
            self._leave()
            self._transport.abort()
            if exchange is not None:
                exchange.client_gone()

    def hand_over(self) -> tuple[asyncio.Transport, bytes]:
        """Give the transport away, with the bytes of the current request and all that follows it. Only from within
        `Front.begin`; the transport's next protocol reports nothing back here."""
        self.exchange = None
        self._leave()
        self._reading.leave()
        return self._transport, self._current

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """Give the transport away after the request (a tunnel), with what has arrived after it."""
        self.exchange = None
        self._leave()
        held, self._held = self._held, b""
        self._reading.leave()
        return self._transport, held

    # What the places ask (gateway.wire.server.places).

    @property
    def quiet_since(self) -> float | None:
        if self.state is _HEAD and not self._reader.begun and not self._held:
            return self._idle_since
        return None

    @property
    def spoken(self) -> bool:
        return self._idle_since != self._opened_at

    @property
    def unread(self) -> bool:
        return unread(self._transport)

    def close_if_idle(self, since: float) -> None:
        quiet_since = self.quiet_since
        if quiet_since is not None and quiet_since <= since and not self.unread:
            self._close()

    # Reading requests.

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
                self.deadline = now + _LOOK_INTERVAL

    def _give_way(self, size: int) -> None:
        """To others, after a read of `size` bytes if that is large."""
        reading = self._reading
        if size >= reading.large:
            reading.rest()
            self._grow()

    def _grow(self) -> None:
        """The buffers of the transport may have grown for good (gateway.wire.server.tls_buffers)."""
        if not self._grown and self._server.scheme == "https":
            self._grown = True
            self._server.grown += 1

    def _touch(self) -> None:
        """The client has moved; but while it takes nothing of the response, only its taking counts."""
        if not self.write_blocked:
            upload = self._upload
            if upload is None:
                self.deadline = time.monotonic() + self._server.client_idle_timeout
            else:
                upload.last = time.monotonic()
                self.deadline = upload.deadline()

    def _sent_slowly(self, now: float) -> None:
        """The request body is looked at."""
        upload = self._upload
        wrong = upload.look(now) if upload is not None else None
        if upload is not None and wrong is None:
            self.deadline = upload.deadline()
        else:
            self._body_error(RequestError(408, "request_timeout", f"the request body {wrong or 'stands still'}"))

    def _measure(self, now: float) -> None:
        """From now on the client's taking of the response is what counts."""
        self._download = download = self._server.download(now)
        self._acknowledged = acknowledged(self._transport)
        self.deadline = download.deadline()

    def _taken_slowly(self, now: float) -> None:
        """The response is looked at. The buffer here may stand still for long while the kernel's is being emptied by a
        slow reader, so what counts is what the client's kernel has confirmed."""
        download = self._download
        if download is None:
            self._measure(now)
            return
        taken = acknowledged(self._transport)
        if taken != self._acknowledged:
            download.moved = taken - self._acknowledged
            download.last = now
            self._acknowledged = taken
        wrong = download.look(now)
        if wrong is None:
            self.deadline = download.deadline()
            return
        if self.exchange is not None:
            self.exchange.request_failed(RequestError(408, "response_timeout", f"the response {wrong}"))
        self.abort()

    def _head(self, data: bytes) -> None:
        reader = self._reader
        begun = reader.begun
        if len(data) > _RECORD:
            self._grow()
        try:
            found = reader.feed(data)
            if found is None:
                if reader.begun and not begun:
                    self.deadline = time.monotonic() + self._server.header_timeout
                self._give_way(len(data))
                return
            data, end = found
            request = reader.parse(data[:end])
        except RequestError as error:
            self._server.front.reject(self, error)
            return
        places = self._server.places
        if self in places.reserve and not places.promote(self):
            self._keep_alive = False
            self.state = _WAIT
            self._current = data
            self._server.front.overflow(self, request)
            return
        self._begin(request, data, end)

    def _begin(self, request: Request, data: bytes, end: int) -> None:
        """A complete request head, which ends at `end` of `data`."""
        self._keep_alive = request.keep_alive
        if not request.has_body:
            self.state = _WAIT
            self.deadline = _NEVER
        else:
            self.state = _BODY
            if request.fields.chunked:
                self._decoder = ChunkedDecoder()
                whole = False
            else:
                self._decoder = None
                self._remaining = request.fields.length or 0
                whole = len(data) - end >= self._remaining
            if not whole:
                self._upload = upload = self._server.upload(time.monotonic())
                self.deadline = upload.deadline()
        self._current = data
        exchange = self._server.front.begin(self, request)
        self._current = b""
        if exchange is not None and self.state in _CARRYING:
            self.exchange = exchange
        if len(data) > end:
            rest = data[end:]
            if self.state is _HEAD:
                self._hold(rest)
                self._schedule()
            else:
                self.data_received(rest)

    def _body(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        upload = self._upload
        if upload is not None:
            upload.moved += len(data)
        self._touch()
        decoder = self._decoder
        if decoder is None:
            rest = b""
            left = self._remaining - len(data)
            if left > 0:
                if len(data) >= self._reading.large:
                    self._reading.passed()
                    self._grow()
            elif len(data) > _RECORD:
                self._grow()
            if left < 0:
                data, rest = data[:left], data[left:]
                left = 0
            self._remaining = left
            done = left == 0
        else:
            self._give_way(len(data))
            try:
                data, rest = decoder.feed(data)
            except ChunkedError as error:
                self._body_error(RequestError(400, "bad_request", f"the chunked request body is malformed: {error}"))
                return
            done = decoder.done
        if done:
            self._upload = None
            self.state = _WAIT
            if not self.write_blocked:
                self.deadline = _NEVER
            if rest:
                self._hold(rest)
        if data:
            exchange.request_body(data)
        if done and self.exchange is exchange:
            exchange.request_end()

    def _body_error(self, error: RequestError) -> None:
        """Where the body ends is not known any more."""
        self._keep_alive = False
        exchange = self.exchange
        if exchange is not None:
            exchange.request_failed(error)
        else:
            self.abort()

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > _PIPELINE_BYTES:
            self._overfull = True
            self._read_or_not()

    def _drain(self, data: bytes) -> None:
        left = self._remaining - len(data)
        self._remaining = max(0, left)
        if left <= 0:
            if left < 0:
                self._held = data[left:]
            self._ready(time.monotonic())

    def _ready(self, now: float) -> None:
        """For the next request."""
        self.state = _HEAD
        self._idle_since = now
        self.deadline = now + self._server.keepalive_timeout
        if self._grown and self._server.grown > MAX_GROWN:
            self.deadline = now + GROWN_KEEPALIVE
        if self._unwanted:
            self.resume_reading()
        if self._held:
            self._schedule()

    def _relieve(self) -> None:
        """Read on when what is held is no longer too much."""
        if self._overfull and len(self._held) <= _PIPELINE_BYTES and self.state is not _GONE:
            self._overfull = False
            self._read_or_not()

    def _schedule(self) -> None:
        self._server.loop.call_soon(self._next)

    def _next(self) -> None:
        """Parse what was held."""
        if self.state is _HEAD and self._held and not self.write_blocked:
            held, self._held = self._held, b""
            self._head(held)
            self._relieve()

    # Ending.

    def _linger(self, now: float) -> None:
        """Close our side first and give what the client is still sending somewhere to go (RFC 9112 section 9.6)."""
        transport = self._transport
        if not transport.can_write_eof():
            self._close()
            return
        self.state = _LINGER
        self.deadline = now + _LINGER_TIME
        self._held = b""
        self._unwanted = self._overfull = False
        self._read_or_not()
        transport.write_eof()

    def _close(self) -> None:
        """Close after what is buffered has been written, within the client's time to take it."""
        if self.state is _GONE:
            return
        self.state = _LINGER
        self.deadline = time.monotonic() + self._server.client_idle_timeout
        self._transport.close()

    def _reset(self) -> None:
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    def _leave(self) -> None:
        self.state = _GONE
        self._reader.forget()
        if self._grown:
            self._grown = False
            self._server.grown -= 1
        self._server.places.leave(self)
        self._server.deadlines.discard(self)
