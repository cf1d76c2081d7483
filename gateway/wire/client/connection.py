"""One connection to an endpoint: requests out, responses in, one at a time.

The connection knows framing and nothing of why a request is sent. It tells its `ResponseSink` what arrives, in this
order: any number of `informational`, then `response_head`, any number of `response_body`, then `response_end`, or,
where head and body came in one piece, `response_whole`; at any point `upstream_lost` may come instead, and nothing
after it. When a response is complete the connection goes back to its pool before the sink hears of the end, provided
that both sides still agree about where they are: the request was sent to its end, the response left no byte over, and
both allow keep-alive (RFC 9112 section 9.3).

Bytes that arrive while nobody waits for a response poison the connection: it is closed.
"""

import asyncio
import time
from typing import Final

from mypy_extensions import mypyc_attr

from gateway.wire.client.lifetime import Closed
from gateway.wire.client.response_sink import Loss, Nobody, ResponseSink
from gateway.wire.client.transport_half import TransportHalf
from gateway.wire.leftovers import NO_FILE
from gateway.wire.message.chunked import ChunkedError
from gateway.wire.message.incoming_body import IncomingBody
from gateway.wire.message.keep_alive import KeepAlive
from gateway.wire.message.response import Framing, Response, ResponseError
from gateway.wire.message.response_head_reader import ResponseHeadReader

# An answer that nobody wants any more is read to its end if that is cheaper than a new connection.
_DISCARD_BYTES: Final = 65_536
_DISCARD_TIME: Final = 1.0
_MAX_INFORMATIONAL: Final = 16
# The kernels take this much of an upload, and far more, from an upstream that reads nothing of what it refuses.
_TAKEN_UNREAD: Final = 65_536
# HOT: looking up a member of an enum costs as much as a call.
_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED
_CLOSE: Final = Framing.CLOSE
_NOBODY: Final = Nobody()
_NEVER: Final = float("inf")


@mypyc_attr(allow_interpreted_subclasses=True)
class ConnectionOwner:
    """The pool, as its connections see it. A class and no protocol, as `ResponseSink` is."""

    def release(self, connection: "UpstreamConnection") -> None:
        """The response is complete, and the connection can carry another request. HOT."""
        raise NotImplementedError

    def forget(self, connection: "UpstreamConnection") -> None:
        """The connection is closed, or belongs to somebody else from here on."""
        raise NotImplementedError

    def retired(self, cause: Closed) -> None:
        """A connection was closed while no request used it."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class UpstreamConnection(TransportHalf):
    """The protocol of one connection to an endpoint (`asyncio.Protocol`), which belongs to `owner`.

    `address` is the IP address. `uses` counts the requests, `received` says that a byte of the present response has
    come. `expires` and `max_uses` bound its life (gateway.wire.client.lifetime), and `idle_since` is its owner's. All
    times are instants of the monotonic clock.
    """

    __slots__ = (
        "_body",
        "_discard_left",
        "_framing",
        "_heads",
        "_idle_limit",
        "_in_body",
        "_informational",
        "_keep_alive",
        "_owner",
        "_request_open",
        "_sink",
        "_to_head",
        "address",
        "expires",
        "idle_since",
        "max_uses",
        "received",
        "uses",
    )

    def __init__(self, owner: ConnectionOwner, address: str) -> None:
        super().__init__()
        self._owner = owner
        self._heads = ResponseHeadReader()
        self.address = address
        self.uses = 0
        self.idle_since = 0.0
        # The pool bounds them (gateway.wire.client.lifetime).
        self.expires = self.max_uses = _NEVER
        self._idle_limit: float | None = None
        # The current exchange of messages.
        self._sink: ResponseSink | None = None
        self._to_head = False
        self._request_open = False
        self._in_body = False
        self._framing = _NONE
        self._body: IncomingBody | None = None
        self._keep_alive = False
        self._informational = 0
        self._discard_left = 0
        self.received = False

    def __repr__(self) -> str:
        state = "closed" if self.closed else "busy" if self._sink is not None else "idle"
        return f"<UpstreamConnection {self.address} {state} uses={self.uses}>"

    @property
    def reused(self) -> bool:
        """Whether the current request is not the first on this connection."""
        return self.uses > 1

    # What the sink does.

    def send(self, sink: ResponseSink, head: bytes, *, to_head: bool, more: bool) -> None:
        """Start a request. `more` says that a body follows, in `write` and `end_request`."""
        self._sink = sink
        self.uses += 1
        self._to_head = to_head
        self._request_open = more
        self.received = False
        self._informational = 0
        self._transport.write(head)

    def end_request(self) -> None:
        """The request body is written to its end."""
        self._request_open = False

    def discard(self) -> None:
        """The sink loses interest in the response whose head it got: read it to its end, or close."""
        if self.closed or self._request_open or self._sink is None:
            self.abort()
            return
        self._sink = _NOBODY
        self._discard_left = _DISCARD_BYTES
        self.resume_reading()
        asyncio.get_running_loop().call_later(_DISCARD_TIME, self._give_up, self.uses)

    def abort(self) -> None:
        """Close at once; the sink hears nothing more."""
        self._sink = None
        if not self.closed:
            self.closed = True
            self._owner.forget(self)
            self._transport.abort()

    def close(self) -> None:
        """Close a connection that no request uses. What is left of a request that was answered early goes nowhere."""
        self._sink = None
        if not self.closed:
            self.closed = True
            self._owner.forget(self)
            transport = self._transport
            if transport.get_write_buffer_size():
                transport.abort()
            else:
                transport.close()

    def retire(self, cause: Closed) -> None:
        """Close an idle connection, and have it counted why."""
        if not self.closed:
            self._owner.retired(cause)
            self.close()

    def detach(self) -> asyncio.Transport:
        """Give the transport away after `switched`; the connection is over for its pool."""
        self._sink = None
        self.closed = True
        self._owner.forget(self)
        self._reading.leave()
        return self._transport

    # What the transport does.

    def data_received(self, data: bytes) -> None:
        """A piece of a response, or something that nobody asked for. HOT."""
        sink = self._sink
        if sink is None:
            self.retire(Closed.UNASKED)
            return
        self.received = True
        try:
            if self._in_body:
                self._read_body(sink, data)
                return
            heads = self._heads
            last = heads.last
            if last is not None and not self._to_head and not heads.partial and data.startswith(heads.last_head):
                self._begin(sink, last, data[len(heads.last_head) :])
            else:
                self._read_head(sink, data)
        except (ResponseError, ChunkedError) as error:
            loss = Loss.TRUNCATED if self._in_body else Loss.PROTOCOL
            self._lose(loss, str(error))

    def eof_received(self) -> bool:
        """The upstream's end in order: a FIN, or over TLS a close_notify. Nothing more will come, and the connection
        is of no further use, whatever is still to be written to it."""
        if self.closed:
            return False
        if self._sink is None:
            self.retire(Closed.UPSTREAM)
        else:
            self._ended(orderly=True)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed. What had arrived before is read first."""
        self._reading.end()
        if not self.closed:
            self.closed = True
            if self._sink is None:
                self._owner.retired(Closed.UPSTREAM)
            self._owner.forget(self)
        try:
            self._end_with(exc)
        finally:
            self._close_spare()

    def _end_with(self, exc: Exception | None) -> None:
        if self._sink is None:
            return
        # Over TLS an end without a close_notify comes without an exception, and without eof_received before it. That
        # a plain write failed because the connection is broken, rather than reset, means that a FIN had come first.
        orderly = isinstance(exc, BrokenPipeError) and not self._tls
        if exc is not None or self._tls:
            for data in self._left_over():
                if data:
                    self.data_received(data)
                else:
                    orderly = True
        self._ended(orderly=orderly)

    def _ended(self, *, orderly: bool) -> None:
        """Nothing more will come. Only an orderly end completes a body that lasts until the connection's end (RFC 9112
        section 8): over TLS that takes a close_notify, for anybody can cut a connection."""
        sink = self._sink
        if sink is None:
            return
        if self._in_body:
            if self._framing is _CLOSE and orderly:
                self._done(b"")
                sink.response_end()
            else:
                self._lose(Loss.TRUNCATED, "the connection closed within the response body")
        elif self.received:
            self._lose(Loss.PROTOCOL, "the connection closed within the response head")
        else:
            self._lose(Loss.RESET, "the connection closed before a response")

    def pause_writing(self) -> None:
        """The upstream takes no more of the request for now."""
        self.write_blocked = True
        if self._sink is not None:
            self._sink.request_blocked()

    def resume_writing(self) -> None:
        """The upstream takes more of the request."""
        self.write_blocked = False
        if self._sink is not None:
            self._sink.request_ready()

    # Reading a response.

    def _give_up(self, use: int) -> None:
        if self._sink is _NOBODY and self.uses == use:
            self.abort()

    def _lose(self, loss: Loss, detail: str) -> None:
        sink = self._sink
        self.abort()
        if sink is not None:
            sink.upstream_lost(loss, detail)

    def _read_head(self, sink: ResponseSink, data: bytes) -> None:
        """What is not the last head once more: informational responses, a new head, or a part of one."""
        heads = self._heads
        while data:
            found = heads.read(data, self._to_head)
            if found is None:
                if len(data) >= self._reading.large:
                    self._reading.rest()
                return
            response, data = found
            if response.status >= 200:
                self._begin(sink, response, data)
                return
            if response.status == 101:
                sink.switched(response, data)
                return
            self._informational += 1
            if self._informational > _MAX_INFORMATIONAL:
                raise ResponseError("more informational responses than anybody needs")
            sink.informational(response)
            if self._sink is not sink:
                return

    def _begin(self, sink: ResponseSink, response: Response, data: bytes) -> None:
        """A final head is complete; `data` follows it. HOT."""
        framing = response.framing
        self._keep_alive = response.keep_alive
        if response.status >= 300 and self._uploaded > _TAKEN_UNREAD:
            self._keep_alive = False
        if response.promise is not None:
            self._promised(response.promise)
        self._framing = framing
        if len(data) == response.length and (framing is _LENGTH or framing is _NONE):
            self._done(b"")
            sink.response_whole(response, data)
            return
        self._in_body = True
        if framing is _LENGTH or framing is _CHUNKED:
            self._body = IncomingBody(chunked=framing is _CHUNKED, length=response.length)
        sink.response_head(response)
        # The sink may have discarded or closed the connection; who reads on is whoever it left.
        after = self._sink
        if after is None:
            return
        if framing is _NONE:
            self._done(data)
            after.response_end()
        elif data:
            self._read_body(after, data)
        else:
            # The body may be long in coming; whoever waits for the head has it now.
            after.response_pause()

    def _promised(self, promise: KeepAlive) -> None:
        if promise.idle is not None:
            self._idle_limit = promise.idle
        if promise.requests is not None:
            # Some servers count down, others say the same each time: the least is right for both.
            self.max_uses = min(self.max_uses, self.uses + promise.requests)

    def _read_body(self, sink: ResponseSink, data: bytes) -> None:
        body = self._body
        size = len(data)
        rest = b""
        if sink is _NOBODY:
            self._discard_left -= size
            if self._discard_left < 0:
                self.abort()
                return
        if body is not None:
            data, rest = body.take(data)
        done = body is not None and body.done
        if size >= self._reading.large:
            if body is None or body.chunked:
                self._reading.rest()
            elif not done:
                self._reading.passed()
        if data:
            sink.response_body(data)
            if self._sink is not sink:
                return
        if done:
            self._done(rest)
            sink.response_end()
        else:
            sink.response_pause()

    def _done(self, rest: bytes) -> None:
        """The response is complete: the connection is idle again, or of no further use."""
        self._sink = None
        self._in_body = False
        self._body = None
        if self.closed:
            return
        if self._spare != NO_FILE:
            self._close_spare()
        if self._uploaded:
            # Answered before it was taken, by an upstream that may not read on: the next request would wait behind it.
            self._uploaded = 0
            self._request_open = self._request_open or self.unsent > 0
        if rest or self._request_open or not self._keep_alive:
            self.close()
        else:
            if self._reading.stopped:
                self._reading.start()
            if self._idle_limit is not None:
                self.usable_until = time.monotonic() + self._idle_limit
            self._owner.release(self)
