"""One client connection: requests in, responses out, one at a time.

`gateway.wire.server.transitions` has its states, and `gateway.wire.server.transport_half` what faces the transport.
This half reads requests and finishes responses.

Requests that arrive early (pipelining) are held as bytes, up to a bound, beyond which the connection is not read. They
are parsed one by one, each in a turn of the loop of its own. Size limits are checked before anything is parsed.

A client that closes, or half-closes, while its request is in flight has gone: the exchange is told so.
"""

import asyncio
import time
from typing import Final

from mypy_extensions import mypyc_attr

from gateway.wire.kernel import peer_left
from gateway.wire.message.chunked import ChunkedError
from gateway.wire.message.head_reader import HeadReader
from gateway.wire.message.incoming_body import IncomingBody
from gateway.wire.message.request import Request, RequestError
from gateway.wire.server.registry import Server
from gateway.wire.server.tls_buffers import GROWN_KEEPALIVE
from gateway.wire.server.transitions import Event, State
from gateway.wire.server.transport_half import LOOK_INTERVAL, NEVER, RECORD, TransportHalf

# Held for later while an exchange is in flight.
_PIPELINE_BYTES: Final = 65_536
_LINGER_BYTES: Final = 4 * 1024 * 1024
_DRAIN_TIME: Final = 5.0

# HOT: looking up a member of an enum costs as much as a call.
_HEAD: Final = State.HEAD
_BODY: Final = State.BODY
_WAIT: Final = State.WAIT
_DRAIN: Final = State.DRAIN
_LINGER: Final = State.LINGER
_GONE: Final = State.GONE


@mypyc_attr(allow_interpreted_subclasses=True)
class ServerConnection(TransportHalf):
    """The protocol of one accepted connection (`asyncio.Protocol`); the front of `server` answers its requests."""

    __slots__ = ("_body", "_current", "_discarded", "_idle_since", "_keep_alive", "_opened_at", "_reader")

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        # For the life of the connection.
        self._reader = HeadReader(server.limits, server.kept_heads)
        self._opened_at = self._idle_since = 0.0
        self._discarded = 0
        # For the life of a request.
        self._current = b""
        self._keep_alive = False
        self._body: IncomingBody | None = None

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._opened_at = self._idle_since = time.monotonic()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived. HOT."""
        state = self.state
        if state is _HEAD and not self._held and not self.write_blocked:
            request = self._reader.again(data)
            if request is None:
                self._read_head(data)
            else:
                self._begin(request, data, len(data))
            return
        if state is _BODY:
            self._read_body(data)
            return
        if state is _GONE:
            # The transport may be another protocol's by now, which reads it as it likes.
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
            if self._discarded > _LINGER_BYTES and not self._undelivered():
                # Its kernel has the response. An abort could still make the client lose what it has not read of it.
                self.pause_reading()

    def resume_writing(self) -> None:
        """The client takes the response again."""
        self.write_blocked = False
        self._taking = None
        if self.state is _BODY or self.state is _WAIT:
            self._touch()
        if self.exchange is not None:
            self.exchange.resume_answer()
        elif self._held:
            self._schedule()

    def expire(self, now: float) -> None:
        """The deadline has passed (gateway.wire.deadlines)."""
        state = self.state
        if self._reading.stopped and state is not _LINGER and peer_left(self._transport):
            self.abort()
        elif self.write_blocked or ((state is _LINGER or state is _DRAIN) and self._undelivered()):
            self._taken_slowly(now)
        elif state is _HEAD:
            self._said_nothing(now)
        elif (state is _BODY or state is _WAIT) and self._reading.stopped:
            self.deadline = now + LOOK_INTERVAL
        elif state is _BODY:
            self._sent_slowly(now)
        elif state is _WAIT:
            self.deadline = NEVER
        else:
            self.abort()

    # The exchange's side.

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request after this response, as far as is known at its head."""
        if not self._keep_alive or self._server.draining:
            return False
        if self.state is _WAIT:
            return True
        body = self._body
        return self.state is _BODY and body is not None and body.short

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
            self._move(Event.ANSWERED)
            self.deadline = now + _DRAIN_TIME
            self.resume_reading()
        else:
            self._ready(now)

    def hand_over(self) -> tuple[asyncio.Transport, bytes]:
        """Give the transport away, with the bytes of the current request and all that follows it. Only from within
        `Front.begin` and `Front.overflow`; the transport's next protocol reports nothing back here."""
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
        """Since when its client has not had a request; None while it has one."""
        if self.state is _HEAD and self._reader.partial is None and not self._held:
            return self._idle_since
        return None

    @property
    def spoken(self) -> bool:
        """Whether a request has come from it, ever."""
        return self._idle_since != self._opened_at

    def close_if_idle(self, since: float) -> None:
        """Close if the client has not had a request after the instant `since`."""
        quiet_since = self.quiet_since
        if quiet_since is not None and quiet_since <= since and not self.unread:
            self._close()

    # Slow clients.

    def _said_nothing(self, now: float) -> None:
        """No request has come in its time: a head that has begun is refused, an idle connection is closed."""
        if self._reader.partial is not None:
            self._server.front.reject(
                self, RequestError(408, "request_timeout", "the request head did not arrive in time")
            )
        elif not self.unread:
            # What is unread is looked at by the next sweep, when it has been read.
            self._close()

    def _sent_slowly(self, now: float) -> None:
        """The request body is looked at."""
        upload = self._upload
        wrong = upload.look(now) if upload is not None else None
        if upload is not None and wrong is None:
            self.deadline = upload.deadline()
        else:
            self._body_failed(RequestError(408, "request_timeout", f"the request body {wrong or 'stands still'}"))

    def _taken_slowly(self, now: float) -> None:
        """The response is looked at."""
        taking = self._taking
        if taking is None:
            self._measure(now)
            return
        wrong = taking.look(now)
        if wrong is None:
            self.deadline = taking.deadline()
            return
        if self.exchange is not None:
            self.exchange.request_failed(RequestError(408, "response_timeout", f"the response {wrong}"))
        self.abort()

    # Reading requests.

    def _read_head(self, data: bytes) -> None:
        reader = self._reader
        begun = reader.partial is not None
        if len(data) > RECORD:
            self._grow()
        try:
            found = reader.feed(data)
            if found is None:
                if reader.partial is not None and not begun:
                    self.deadline = time.monotonic() + self._server.header_timeout
                self._give_way(len(data))
                return
            data, end = found
            request = reader.parse(data[:end], self.peer)
        except RequestError as error:
            self._server.front.reject(self, error)
            return
        places = self._server.places
        if self in places.reserve and not places.promote(self):
            self._keep_alive = False
            self._move(Event.REQUEST)
            self._current = data
            self._server.front.overflow(self, request)
            return
        self._begin(request, data, end)

    def _begin(self, request: Request, data: bytes, end: int) -> None:
        """A complete request head, which ends at `end` of `data`. HOT."""
        self._keep_alive = request.keep_alive
        if not request.has_body:
            # TRANSITIONS[HEAD][REQUEST]
            self.state = _WAIT
            self.deadline = NEVER
        else:
            self._expect_body(request, len(data) - end)
        self._current = data
        exchange = self._server.front.begin(self, request)
        self._current = b""
        if exchange is not None and (self.state is _WAIT or self.state is _BODY):
            self.exchange = exchange
        if len(data) > end:
            rest = data[end:]
            if self.state is _HEAD:
                self._hold(rest)
                self._schedule()
            else:
                self.data_received(rest)

    def _expect_body(self, request: Request, here: int) -> None:
        """A body follows the head; `here` bytes of what follows have arrived with it."""
        self._move(Event.UPLOAD)
        fields = request.fields
        length = fields.length or 0
        self._body = IncomingBody(chunked=fields.chunked, length=length)
        if fields.chunked or here < length:
            self._upload = upload = self._server.upload(time.monotonic())
            self.deadline = upload.deadline()

    def _read_body(self, data: bytes) -> None:
        exchange = self.exchange
        body = self._body
        if exchange is None or body is None:
            return
        size = len(data)
        upload = self._upload
        if upload is not None:
            upload.moved += size
        self._touch()
        try:
            data, rest = body.take(data)
        except ChunkedError as error:
            self._body_failed(RequestError(400, "bad_request", f"the chunked request body is malformed: {error}"))
            return
        if body.chunked:
            self._give_way(size)
        elif not body.done:
            if size >= self._reading.large:
                self._reading.passed()
                self._grow()
        elif size > RECORD:
            self._grow()
        done = body.done
        if done:
            self._upload = None
            self._body = None
            self._move(Event.UPLOADED)
            if not self.write_blocked:
                self.deadline = NEVER
            if rest:
                self._hold(rest)
        if data:
            exchange.request_body(data)
        if done and self.exchange is exchange:
            exchange.request_end()

    def _body_failed(self, error: RequestError) -> None:
        """Where the body ends is not known any more."""
        self._keep_alive = False
        exchange = self.exchange
        if exchange is not None:
            exchange.request_failed(error)
        else:
            self.abort()

    def _drain(self, data: bytes) -> None:
        """Throw away what is left of the request body; the next request may follow it."""
        body = self._body
        if body is None:
            return
        _, rest = body.take(data)
        if body.done:
            self._body = None
            self._held = rest
            self._ready(time.monotonic())

    def _ready(self, now: float) -> None:
        """For the next request. HOT."""
        # TRANSITIONS[WAIT][ANSWERED] and TRANSITIONS[DRAIN][DRAINED]
        self.state = _HEAD
        self._idle_since = now
        self.deadline = now + self._server.keepalive_timeout
        if self._grown:
            grown = self._server.grown
            grown.wait(self, now)
            if grown.many:
                self.deadline = now + GROWN_KEEPALIVE
        if self._unwanted:
            self.resume_reading()
        if self._held:
            self._schedule()

    def _hold(self, data: bytes) -> None:
        """Keep what has arrived early."""
        self._held += data
        if len(self._held) > _PIPELINE_BYTES:
            self._overfull = True
            self._read_or_not()

    def _schedule(self) -> None:
        self._server.loop.call_soon(self._next)

    def _next(self) -> None:
        """Parse what was held, and read on when what is left is not too much."""
        if self.state is _HEAD and self._held and not self.write_blocked:
            held, self._held = self._held, b""
            self._read_head(held)
            self._relieve()

    def _relieve(self) -> None:
        if self._overfull and len(self._held) <= _PIPELINE_BYTES and self.state is not _GONE:
            self._overfull = False
            self._read_or_not()

    def _leave(self) -> None:
        if self.state is not _GONE:
            self._reader.forget()
        super()._leave()
