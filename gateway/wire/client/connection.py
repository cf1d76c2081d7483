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
import os
import re
import time
from typing import Protocol, cast

from gateway.wire.client.lifetime import Closed, watch, what_came
from gateway.wire.client.response_sink import Loss, Nobody, ResponseSink
from gateway.wire.kernel import unsent
from gateway.wire.leftovers import NO_FILE, leftovers, spare_file
from gateway.wire.message.chunked import ChunkedDecoder, ChunkedError
from gateway.wire.message.fields import Fields
from gateway.wire.message.keep_alive import KeepAlive
from gateway.wire.message.response import (
    MAX_HEAD_BYTES,
    Framing,
    Response,
    ResponseError,
    parse_fields,
    parse_status_line,
)
from gateway.wire.reading import Reading

# An answer that nobody wants any more is read to its end if that is cheaper than a new connection.
_DISCARD_BYTES = 65_536
_DISCARD_TIME = 1.0
_MAX_INFORMATIONAL = 16
# A larger head is not kept for the case that it comes again.
_MAX_KEPT_HEAD = 4096
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
# HOT: looking up a member of an enum costs as much as a call.
_NONE, _LENGTH, _CHUNKED, _CLOSE = Framing
_NOBODY = Nobody()
_NEVER = float("inf")


class ConnectionOwner(Protocol):
    """The pool, as its connections see it."""

    def release(self, connection: "UpstreamConnection") -> None: ...

    def forget(self, connection: "UpstreamConnection") -> None: ...

    def retired(self, cause: Closed) -> None:
        """A connection was closed while no request used it."""
        ...


class UpstreamConnection(asyncio.Protocol):
    __slots__ = (
        "_block",
        "_decoder",
        "_discard_left",
        "_fields",
        "_framing",
        "_idle_limit",
        "_in_body",
        "_informational",
        "_keep_alive",
        "_last",
        "_last_head",
        "_owner",
        "_partial",
        "_poll",
        "_reading",
        "_remaining",
        "_request_open",
        "_sink",
        "_spare",
        "_tls",
        "_to_head",
        "_transport",
        "_uploaded",
        "address",
        "closed",
        "expires",
        "idle_since",
        "max_uses",
        "received",
        "usable_until",
        "uses",
        "write_blocked",
    )

    def __init__(self, owner: ConnectionOwner, address: str) -> None:
        self._owner = owner
        self.address = address
        self.closed = False
        self.uses = 0
        self.idle_since = 0.0
        # See gateway.wire.client.lifetime. The pool bounds the first two; `usable_until` is None unless the upstream
        # has announced how long it waits.
        self.expires = self.max_uses = _NEVER
        self._idle_limit: float | None = None
        self.usable_until: float | None = None
        self.write_blocked = False
        self._tls = False
        # While a body is uploaded over TLS: see gateway.wire.leftovers.
        self._spare = NO_FILE
        # The current exchange of messages.
        self._sink: ResponseSink | None = None
        self._to_head = False
        self._request_open = False
        self._uploaded = False
        self._in_body = False
        self._partial = b""
        self._framing = _NONE
        self._remaining = 0
        self._decoder: ChunkedDecoder | None = None
        self._keep_alive = False
        self._informational = 0
        self._discard_left = 0
        self.received = False
        # The last head and field block, and what they said: see gateway.wire.message.fields.
        self._block = b""
        self._fields: Fields | None = None
        self._last_head = b""
        self._last: Response | None = None

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

    def write(self, body: bytes) -> None:
        """A piece of the request body. HOT."""
        if self._tls and self._spare == NO_FILE:
            self._spare = spare_file(self._transport)
        self._transport.write(body)

    @property
    def unsent(self) -> int:
        """Bytes of the request that the upstream has not taken yet; -1 when that is not to be known."""
        return unsent(self._transport)

    def end_request(self) -> None:
        self._request_open = False
        self._uploaded = True

    def pause_reading(self) -> None:
        """Backpressure: the response body is not wanted for now."""
        if not self.closed:
            self._reading.stop()

    def resume_reading(self) -> None:
        if not self.closed:
            self._reading.start()

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

    def fault(self) -> Closed | None:
        """Why this idle connection must not be used; None if it may. Asks the kernel: the loop may be late. HOT."""
        if self.usable_until is not None and time.monotonic() >= self.usable_until:
            return Closed.IDLE
        if self._tls and self._transport.get_extra_info("socket").fileno() < 0:
            return Closed.UPSTREAM  # uvloop tells of it a turn of the loop later
        events = self._poll(0)
        return what_came(self._transport, events[0][1], tls=self._tls) if events else None

    def detach(self) -> asyncio.Transport:
        """Give the transport away after `switched`; the connection is over for its pool."""
        self._sink = None
        self.closed = True
        self._owner.forget(self)
        self._reading.leave()
        return self._transport

    # What the transport does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._reading = Reading(self._transport, asyncio.get_running_loop())
        self._tls = transport.get_extra_info("ssl_object") is not None
        self._poll = watch(transport)

    def data_received(self, data: bytes) -> None:
        sink = self._sink
        if sink is None:
            self.retire(Closed.UNASKED)
            return
        self.received = True
        try:
            if self._in_body:
                self._body(sink, data)
            else:
                self._head(sink, data)
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
            for data in leftovers(self._transport, self._spare):
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
        self.write_blocked = True
        if self._sink is not None:
            self._sink.request_blocked()

    def resume_writing(self) -> None:
        self.write_blocked = False
        if self._sink is not None:
            self._sink.request_ready()

    def _close_spare(self) -> None:
        spare, self._spare = self._spare, NO_FILE
        if spare != NO_FILE:
            os.close(spare)

    # Reading a response.

    def _give_up(self, use: int) -> None:
        if self._sink is _NOBODY and self.uses == use:
            self.abort()

    def _lose(self, loss: Loss, detail: str) -> None:
        sink = self._sink
        self.abort()
        if sink is not None:
            sink.upstream_lost(loss, detail)

    def _head(self, sink: ResponseSink, data: bytes) -> None:
        while True:
            if self._partial:
                data = self._partial + data
                self._partial = b""
            response = self._last
            if response is not None and not self._to_head and data.startswith(self._last_head):
                data = data[len(self._last_head) :]
            else:
                end = data.find(b"\r\n\r\n")
                if end > MAX_HEAD_BYTES or (end < 0 and len(data) > MAX_HEAD_BYTES):
                    raise ResponseError("the response head is too large")
                if end < 0:
                    if not data.startswith(b"HTTP/"[: len(data)]):
                        raise ResponseError("the response is not HTTP/1")
                    if _BARE_LINE_FEED.search(data):
                        # What ends its lines like this will never send the empty line that is waited for.
                        raise ResponseError("a line feed without a carriage return in the response head")
                    self._partial = data
                    if len(data) >= self._reading.large:
                        self._reading.rest()
                    return
                response = self._parse(data[: end + 4])
                data = data[end + 4 :]
            if response.status >= 200:
                break
            if response.status == 101:
                sink.switched(response, data)
                return
            self._informational += 1
            if self._informational > _MAX_INFORMATIONAL:
                raise ResponseError("more informational responses than anybody needs")
            sink.informational(response)
            if self._sink is not sink or not data:
                return
        framing = response.framing
        self._keep_alive = response.keep_alive
        if response.promise is not None:
            self._promised(response.promise)
        self._framing = framing
        if len(data) == response.length and (framing is _LENGTH or framing is _NONE):
            self._done(b"")
            sink.response_whole(response, data)
            return
        self._in_body = True
        if framing is _LENGTH:
            self._remaining = response.length
        elif framing is _CHUNKED:
            self._decoder = ChunkedDecoder()
        sink.response_head(response)
        # The sink may have discarded or closed the connection; who reads on is whoever it left.
        after = self._sink
        if after is None:
            return
        if framing is _NONE:
            self._done(data)
            after.response_end()
        elif data:
            self._body(after, data)
        else:
            # The body may be long in coming; whoever waits for the head has it now.
            after.response_pause()

    def _promised(self, promise: KeepAlive) -> None:
        if promise.idle is not None:
            self._idle_limit = promise.idle
        if promise.requests is not None:
            # Some servers count down, others say the same each time: the least is right for both.
            self.max_uses = min(self.max_uses, self.uses + promise.requests)

    def _parse(self, head: bytes) -> Response:
        """A head, framed. The last one is kept unless it answers a HEAD, which frames it differently."""
        line_end = head.find(b"\r\n")
        minor, status, phrase = parse_status_line(head[:line_end])
        block = head[line_end + 2 :]
        fields = self._fields
        if fields is None or block != self._block:
            fields = self._fields = parse_fields(block)
            self._block = block
        response = Response(status, phrase, minor, fields)
        response.frame(self._to_head)
        if len(head) <= _MAX_KEPT_HEAD:
            self._last = None if self._to_head else response
            self._last_head = head
        else:
            self._last = self._fields = None
            self._last_head = self._block = b""
        return response

    def _body(self, sink: ResponseSink, data: bytes) -> None:
        framing = self._framing
        done = False
        rest = b""
        if sink is _NOBODY:
            self._discard_left -= len(data)
            if self._discard_left < 0:
                self.abort()
                return
        if framing is _LENGTH:
            remaining = self._remaining - len(data)
            if remaining > 0:
                if len(data) >= self._reading.large:
                    self._reading.passed()
            else:
                done = True
                if remaining < 0:
                    data, rest = data[:remaining], data[remaining:]
            self._remaining = remaining
        elif len(data) >= self._reading.large:
            self._reading.rest()
        if framing is _CHUNKED:
            decoder = self._decoder
            assert decoder is not None  # noqa: S101 - set with the framing
            data, rest = decoder.feed(data)
            done = decoder.done
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
        self._decoder = None
        if self.closed:
            return
        if self._spare != NO_FILE:
            self._close_spare()
        if self._uploaded:
            # Answered before it was taken, by an upstream that may not read on: the next request would wait behind it.
            self._uploaded = False
            self._request_open = self.unsent > 0
        if rest or self._request_open or not self._keep_alive:
            self.close()
        else:
            self._reading.start()
            if self._idle_limit is not None:
                self.usable_until = time.monotonic() + self._idle_limit
            self._owner.release(self)
