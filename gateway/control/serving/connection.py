"""The answers that are polled, without a web framework in between: `/health`, `/livez`, `/readyz`, `/metrics`.

A connection of the control plane begins here. A request that is complete, plain and for one of these paths is answered
here, and its connection is closed. That costs a fifth of what aiohttp would cost, which matters to the requests that
are served meanwhile. Every other request goes on to aiohttp with all bytes received, and is answered there in the same
words. Those requests have a share of the loop's time; when it is used up, they wait or are refused
(`gateway.control.serving.queue`).

Plain means: a GET in HTTP/1.1 for exactly that path, no query, no body, nothing behind it.
"""

import asyncio
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, cast

from gateway.control.serving.problem import RefusalError, plain, rendered
from gateway.control.serving.queue import Queue, Waiting
from gateway.control.serving.response import response_bytes

_log = logging.getLogger(__name__)

_BUSY = RefusalError(
    429, "Too many requests to the control plane are waiting.", reason="control_plane_busy", retry_after=1.0
)

_UNKNOWN_METHOD = plain(501)
# A token (RFC 9110 section 5.6.2) that is none of the methods of sections 9.3 and of RFC 5789, nor QUERY, to which
# OpenAPI 3.2 gives a meaning: a path that does not take one of these says so (405). With others aiohttp would take
# the request for malformed.
_METHOD_IS_UNKNOWN = re.compile(
    rb"(?!(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|QUERY) )[!#$%&'*+.^_`|~0-9A-Za-z-]+ "
).match

# None means that there is no answer now, and that aiohttp gives one.
Body = Callable[[], bytes | None]

_NOTHING: Mapping[str, str] = {}
_END = b"\r\n\r\n"
_REQUEST_ID = re.compile(rb"\r\nx-request-id:[ \t]*([\x21-\x7e]{1,128})[ \t]*\r\n", re.IGNORECASE)
_ACCEPT = re.compile(rb"\r\naccept:([^\r\n]*)", re.IGNORECASE)
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_AUTHORIZATION = re.compile(rb"\r\nauthorization:[ \t]*([^\r\n]*)", re.IGNORECASE)
# The most that is held of a request that waits. A longer one is aborted.
_MAX_HELD = 128 * 1024
_BODY = re.compile(rb"\r\n(?:content-length|transfer-encoding|expect|upgrade)[ \t]*:", re.IGNORECASE)


class Plane(Protocol):
    """What the protocol below needs of the control plane."""

    @property
    def lifetime(self) -> float:
        """After this many seconds a connection is aborted."""
        ...

    @property
    def answers(self) -> Mapping[bytes, Body]:
        """By request line, without its end."""
        ...

    @property
    def scrape(self) -> Callable[[str], Awaitable[tuple[bytes, str]]] | None:
        """The exposition and its content type for an `Accept`; None: not served here."""
        ...

    @property
    def queue(self) -> Queue:
        """Where requests wait that are not answered here at once."""
        ...

    def is_operator(self, authorization: str) -> bool:
        """Whether this is the token."""
        ...

    def slow(self, on_lost: Callable[[], None] | None) -> asyncio.Protocol:
        """A new protocol of aiohttp's, which takes the connection over. `on_lost` is called when the connection is
        gone."""
        ...

    def opened(self, connection: asyncio.BaseProtocol, transport: asyncio.Transport) -> None:
        """A connection has begun; it has to be closed when the control plane stops."""
        ...

    def closed(self, connection: asyncio.BaseProtocol) -> None:
        """A connection has ended, or aiohttp has taken it over."""
        ...


class NewConnection(asyncio.Protocol):
    """A connection until it is known what it asks for. `on_lost` is called once, when the connection is gone."""

    __slots__ = ("_deadline", "_held", "_on_lost", "_plane", "_task", "_transport", "_waiting")

    def __init__(self, plane: Plane, on_lost: Callable[[], None] | None) -> None:
        self._plane = plane
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._held = b""
        self._waiting: Waiting | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport. Begins the time that the connection may last."""
        # uvloop's transports are none of asyncio's classes.
        self._transport = made = cast("asyncio.Transport", transport)
        self._deadline = asyncio.get_running_loop().call_later(self._plane.lifetime, made.abort)
        self._plane.opened(self, made)

    def data_received(self, data: bytes) -> None:
        """Answer a poll or a scrape here; let anything else wait for its turn at aiohttp."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._task is not None:
            # This is a second request. It is not answered, and the answer to the first one says so (`Connection:
            # close`).
            return
        if self._waiting is not None:
            self._held += data
            if len(self._held) > _MAX_HELD:
                transport.abort()
            return
        line = data[: data.find(b"\r\n")]
        bare = data.endswith(_END) and data.find(_END) == len(data) - 4 and not _BODY.search(data)
        scrape = self._plane.scrape
        if bare and scrape is not None and line == b"GET /metrics HTTP/1.1":
            accept = ", ".join(each.decode("latin-1").strip() for each in _ACCEPT.findall(data))
            self._task = asyncio.get_running_loop().create_task(self._scraped(scrape(accept), _request_id(data)))
            return
        body = self._polled(line) if bare else None
        if body is None and _METHOD_IS_UNKNOWN(data):
            self._refuse(transport, _UNKNOWN_METHOD, data)
        elif body is None:
            self._queue(transport, data)
        else:
            _finish(transport, body, "application/json", _request_id(data))

    def _polled(self, line: bytes) -> bytes | None:
        answer = self._plane.answers.get(line)
        try:
            return answer() if answer is not None else None
        except Exception:  # noqa: BLE001 - whatever it is: aiohttp's side will meet it too, and log and answer it
            return None

    def eof_received(self) -> bool:
        """A client may end its side after its request and still wait for the answer. TLS has no such state."""
        transport = self._transport
        busy = self._task is not None or self._waiting is not None
        return busy and transport is not None and transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the transport. Ends what runs or waits for this connection."""
        self._left()
        if self._task is not None:
            self._task.cancel()
        if self._waiting is not None:
            self._waiting.cancel()
        if self._on_lost is not None:
            self._on_lost()

    def _left(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._plane.closed(self)

    def _queue(self, transport: asyncio.Transport, data: bytes) -> None:
        self._held = data
        given = _AUTHORIZATION.search(data)
        if given is not None and self._plane.is_operator(given[1].decode("latin-1").strip()):
            self._give_up()
            return
        peer = transport.get_extra_info("peername")
        waiting = self._plane.queue.enter(peer[0] if peer else "", self._give_up)
        if waiting is None:
            self._refuse(transport, _BUSY, data)
        elif waiting.go is not None:
            self._waiting = waiting

    @staticmethod
    def _refuse(transport: asyncio.Transport, refusal: RefusalError, data: bytes) -> None:
        transport.write(rendered(refusal, _request_id(data).decode()))
        transport.close()

    def _give_up(self) -> None:
        transport = self._transport
        assert transport is not None  # noqa: S101 - the request came over it
        data, self._held = self._held, b""
        self._waiting = None
        if transport.is_closing():
            return
        end = data.find(_END) + 4
        if end >= 4 and not _BODY.search(data[:end]):
            # aiohttp would parse what is pipelined behind the request, only to throw it away.
            data = data[:end]
        self._left()
        protocol = self._plane.slow(self._on_lost)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(_in_ascii(data))

    async def _scraped(self, making: Awaitable[tuple[bytes, str]], request_id: bytes) -> None:
        transport = self._transport
        assert transport is not None  # noqa: S101 - the request came over it
        try:
            body, content_type = await making
        except Exception:  # noqa: BLE001 - a task has nobody to raise to
            _log.exception("control request failed", extra={"path": "/metrics", "request_id": request_id.decode()})
            transport.abort()
            return
        if not transport.is_closing():
            _finish(transport, body, content_type, request_id, {"Vary": "Accept"})


def _in_ascii(data: bytes) -> bytes:
    """The request with everything in its request line percent-encoded that is not ASCII. aiohttp would refuse such a
    line without saying which parameter is wrong."""
    line = data[: max(0, data.find(b"\r\n"))]
    if line.isascii():
        return data
    return _BEYOND_ASCII.sub(lambda found: b"%%%02X" % found[0][0], line) + data[len(line) :]


def _request_id(head: bytes) -> bytes:
    given = _REQUEST_ID.search(head)
    return given[1] if given is not None else uuid.uuid4().hex.encode()


def _finish(
    transport: asyncio.Transport, body: bytes, content_type: str, request_id: bytes, vary: Mapping[str, str] = _NOTHING
) -> None:
    transport.write(response_bytes(200, {"Content-Type": content_type, **vary}, body, request_id.decode()))
    transport.close()
