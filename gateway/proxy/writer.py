"""The only writer of what goes to a client: heads, bodies and refusals.

An answer consists of the upstream's status line and end-to-end fields, then what the gateway adds:

    X-Request-ID, framing, Connection, Date where the upstream sent none, and what the filters of the route add

`whole` writes an answer in one piece, which is the common case. `StreamedAnswer` writes one that comes in parts.
`refusal` writes one that the gateway makes itself.
"""

import time
from typing import Final

from gateway.policy.token_bucket import EXEMPT
from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.proxy.answers.refusal_template import RefusalTemplate
from gateway.proxy.filter import Filter
from gateway.proxy.ticket import Ticket
from gateway.wire.message.chunked import LAST_CHUNK, encode_chunk
from gateway.wire.message.date import date_line
from gateway.wire.message.response import Framing, Response
from gateway.wire.ports import Connection

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE: Final = b"Connection: close\r\n"
_KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"
_CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
# Up to this much of a body is collected within one read of the upstream, so that it costs one write.
_PENDING_BYTES: Final = 16_384


def whole(connection: Connection, ticket: Ticket, fields: bytes, response: Response, body: bytes, now: float) -> None:
    """An upstream's answer in one piece; the request is finished with it. `fields` are the header lines
    that filters add. HOT."""
    keep_alive = connection.reusable
    more = fields if not response.fields.rate_limit else _with_limits(ticket, fields, response)
    if not keep_alive or not ticket.request.minor:
        more += _KEEP_ALIVE if keep_alive else _CLOSE
    if not response.fields.dated:
        more += date_line(time.time())
    connection.answer(
        b"".join((response.head, b"X-Request-ID: ", ticket.request_id, b"\r\n", more, b"\r\n", body)), now, keep_alive
    )


def _with_limits(ticket: Ticket, fields: bytes, response: Response) -> bytes:
    """What filters add, and what the upstream says of limits, unless that is said of limits of ours."""
    ours = ticket.rates is not None or (ticket.rate is not None and ticket.rate is not EXEMPT)
    return fields if ours else fields + response.fields.rate_limit


def refusal(
    connection: Connection,
    ticket: Ticket,
    fields: bytes,
    template: RefusalTemplate,
    now: float,
    wall: float,
    *,
    close: bool,
) -> None:
    """The gateway's own answer; the request is finished with it. HOT."""
    request = ticket.request
    keep_alive = connection.reusable and not close
    if not keep_alive or not request.minor:
        fields += _KEEP_ALIVE if keep_alive else _CLOSE
    response = template.problem.render(ticket.request_id, fields, wall, request.method == "HEAD")
    connection.answer(response, now, keep_alive)


def own(connection: Connection, ticket: Ticket, fields: bytes, content: OwnAnswer, now: float, *, close: bool) -> None:
    """An answer of the gateway's own that is no refusal; the request is finished with it."""
    request = ticket.request
    keep_alive = connection.reusable and not close
    if not keep_alive or not request.minor:
        fields += _KEEP_ALIVE if keep_alive else _CLOSE
    connection.answer(content.render(ticket.request_id, fields, time.time()), now, keep_alive)


def farewell(connection: Connection, request_id: bytes, template: RefusalTemplate) -> None:
    """The answer to what never became a request. The connection closes after it."""
    response = template.problem.render(request_id, _CLOSE, time.time(), False)
    connection.answer(response, time.monotonic(), False)


def switching(connection: Connection, ticket: Ticket, fields: bytes, response: Response) -> None:
    """101: the protocol changes after this head."""
    connection.write(
        b"%bConnection: Upgrade\r\nUpgrade: websocket\r\nX-Request-ID: %b\r\n%b\r\n"
        % (response.head, ticket.request_id, _with_limits(ticket, fields, response))
    )


def interim(connection: Connection, response: Response) -> None:
    """A 1xx answer of the upstream."""
    connection.write(response.head + b"\r\n")


class StreamedAnswer:
    """An answer whose body comes in parts.

    `keep_alive` is what its head promises; `until_close` says that the body ends with the connection, so that an
    orderly close would look like its end.
    """

    __slots__ = ("_chunked", "_connection", "_filters", "_pending", "_ticket", "keep_alive", "until_close")

    def __init__(self, connection: Connection, ticket: Ticket, filters: tuple[Filter, ...]) -> None:
        """`filters` are those that rewrite the body."""
        self._connection = connection
        self._ticket = ticket
        self._filters = filters
        self._pending = b""
        self._chunked = False
        self.keep_alive = False
        self.until_close = False

    def head(self, fields: bytes, response: Response) -> None:
        """Collect the head; `pause` or the first piece of the body writes it."""
        request = self._ticket.request
        keep_alive = self._connection.reusable
        framing = response.framing
        more = b""
        if framing is Framing.CHUNKED or framing is Framing.CLOSE or (self._filters and framing is Framing.LENGTH):
            if request.minor:
                self._chunked = True
                more = _CHUNKED
            else:
                self.until_close = True
                keep_alive = False
        self.keep_alive = keep_alive
        if not keep_alive or not request.minor:
            more += _KEEP_ALIVE if keep_alive else _CLOSE
        if not response.fields.dated:
            more += date_line(time.time())
        more += _with_limits(self._ticket, fields, response)
        self._pending = b"%bX-Request-ID: %b\r\n%b\r\n" % (response.head, self._ticket.request_id, more)

    def body(self, data: bytes) -> None:
        """A piece of the body."""
        if self._filters:
            data = self._filtered(self._filters, data)
            if not data:
                return
        self._ticket.bytes_out += len(data)
        if self._chunked:
            data = encode_chunk(data)
        pending = self._pending
        if len(pending) + len(data) <= _PENDING_BYTES:
            self._pending = pending + data
            return
        if pending:
            self._pending = b""
            self._connection.write(pending)
        self._connection.write(data)

    def pause(self) -> None:
        """Nothing follows for now: write what was collected."""
        if self._pending:
            pending, self._pending = self._pending, b""
            self._connection.write(pending)

    def go_to(self, connection: Connection) -> None:
        """The rest is for another connection."""
        self._connection = connection

    def end(self) -> None:
        """The body is complete."""
        if self._filters:
            self._flush_filters()
        if self._chunked:
            self._pending += LAST_CHUNK
        self.pause()

    def _filtered(self, filters: tuple[Filter, ...], data: bytes) -> bytes:
        """A piece as it leaves these filters; one that is empty goes to none."""
        for each in filters:
            if not data:
                break
            data = each.body(self._ticket, data)
        return data

    def _flush_filters(self) -> None:
        """What each filter still has to say goes through those behind it."""
        filters, self._filters = self._filters, ()
        for index, each in enumerate(filters):
            data = self._filtered(filters[index + 1 :], each.end(self._ticket))
            if data:
                self.body(data)
