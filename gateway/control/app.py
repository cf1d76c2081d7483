"""The control plane: an aiohttp application that lives on connections the data plane hands over.

The data plane reads a request head, finds that the path is ours (`paths.is_control_path`), takes its hands off and
gives the live transport to `ControlPlane.protocol()`:

    protocol = control.protocol(on_lost)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    protocol.data_received(all bytes of the request so far, from its first)
    transport.resume_reading()      # if it was paused

A connection that came here serves one request and closes (`Connection: close`), so that a keep-alive client returns to
the data plane with its next; requests pipelined behind it are not answered, which that header tells the client (RFC
9112 section 9.6). Its whole life is bounded by `connection_timeout`: neither a client that stops sending nor one that
stops reading holds it for longer.

Requests that are polled are answered before aiohttp sees them (`serving.connection`). All others have a share of the
loop's time (`serving.queue`). At most `MAX_CONNECTIONS` are open at once. Beyond that the one that has been open for
longest is closed, so that idle connections cannot keep a health check out.

With a port of its own (`ADMIN_PORT`) the control plane is served there by `protocol`, given to `create_server`, and
`health_protocol` is what the data plane hands over to: an application that has nothing but health.

Left out: access log lines for these requests, and listening.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.control import gauges, health, status
from gateway.control.ports.gateway import GatewayView
from gateway.control.scrape import Scrape
from gateway.control.serving.connection import Body, NewConnection
from gateway.control.serving.problem import REQUEST_ID, RefusalError, plain, problem
from gateway.control.serving.queue import Queue, metered
from gateway.control.serving.response import ALWAYS
from gateway.control.serving.time_limit import SCOPE
from gateway.telemetry.metrics.catalogue import Metrics

_log = logging.getLogger(__name__)


MAX_CONNECTIONS = 1024

_MAX_BODY_BYTES = 64 * 1024
# These are wider than the limits of the data plane, which a request has already passed when it gets here.
_MAX_LINE_BYTES = 64 * 1024
_MAX_FIELD_BYTES = 64 * 1024
_MAX_FIELDS = 1000
_LINGER = 2.0  # seconds for which the rest of an unwanted body is read, so that the answer is not lost to a reset
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class ControlPlane:
    """Registers the gauges of `view` with `metrics` and serves both, and whatever `more` routes it is given. `own` is
    the view of this worker where `view` is that of all.

    `request_timeout` bounds the work on one request, body included; `connection_timeout` the connection as a whole.
    """

    def __init__(
        self,
        view: GatewayView,
        metrics: Metrics,
        *,
        own: GatewayView | None = None,
        scrape: Scrape | None = None,
        more: Iterable[web.RouteDef] = (),
        request_timeout: float = 10.0,
        connection_timeout: float = 30.0,
        is_operator: Callable[[str], bool] = lambda _: False,
        end_streams: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        gauges.register(metrics, view, own or view)
        self._scrape = scrape or Scrape(metrics)
        self._end_streams = end_streams
        self._open: dict[asyncio.BaseProtocol, asyncio.Transport] = {}
        asked = health.Health(view, clock)
        polled: dict[bytes, Body] = {
            b"GET /health HTTP/1.1": asked.health,
            b"GET /livez HTTP/1.1": asked.livez,
            b"GET /readyz HTTP/1.1": asked.readyz,
        }
        everything = [*asked.routes(), *self._scrape.routes(), *status.routes(view), *more]
        queue = Queue()
        self._all = _Face(
            everything, polled, self._scrape, self._open, request_timeout, connection_timeout, queue, is_operator
        )
        self._health = _Face(
            asked.routes(), polled, None, self._open, request_timeout, connection_timeout, queue, is_operator
        )

    @property
    def connections(self) -> int:
        """Connections that are with the control plane now."""
        return len(self._open)

    @property
    def router(self) -> web.UrlDispatcher:
        """The routes of the whole control plane, for tests and for its description."""
        return self._all.router

    async def start(self) -> None:
        """Must be called before `protocol`."""
        self._scrape.warm_up()
        await self._all.start()
        await self._health.start()

    async def drain(self) -> None:
        """End the answers that have no end of their own. Everything else is still answered. Idempotent."""
        if self._end_streams is not None:
            await self._end_streams()

    async def stop(self) -> None:
        """Let what is being answered finish (2 s), then close every connection. Idempotent."""
        await self.drain()
        await asyncio.gather(self._all.stop(), self._health.stop())
        for transport in list(self._open.values()):
            transport.abort()

    def protocol(self, on_lost: Callable[[], None] | None = None) -> asyncio.Protocol:
        """The protocol for one connection. `on_lost` is called once, when the connection is gone."""
        return self._all.protocol(on_lost)

    def health_protocol(self, on_lost: Callable[[], None] | None = None) -> asyncio.Protocol:
        """The same, for a connection that may ask for `/health`, `/livez` and `/readyz` alone."""
        return self._health.protocol(on_lost)


class _Face:
    """One set of routes as it is served on connections (`gateway.control.serving.connection.Plane`)."""

    def __init__(
        self,
        routes: Iterable[web.RouteDef],
        answers: Mapping[bytes, Body],
        scrape: Scrape | None,
        connections: dict[asyncio.BaseProtocol, asyncio.Transport],
        request_timeout: float,
        lifetime: float,
        queue: Queue,
        is_operator: Callable[[str], bool],
    ) -> None:
        self.lifetime = lifetime
        self.queue = queue
        self.is_operator = is_operator
        self.answers = answers
        self.scrape = scrape.text if scrape is not None else None
        self._connections = connections
        app = web.Application(middlewares=[_answering(request_timeout, queue)], client_max_size=_MAX_BODY_BYTES)
        app.add_routes(routes)
        self.router = app.router
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)

    async def start(self) -> None:
        await self._runner.setup()

    async def stop(self) -> None:
        await self._runner.cleanup()

    def protocol(self, on_lost: Callable[[], None] | None) -> asyncio.Protocol:
        if self._runner.server is None:
            raise RuntimeError("the control plane is not running")
        return NewConnection(self, on_lost)

    def slow(self, on_lost: Callable[[], None] | None) -> asyncio.Protocol:
        server = self._runner.server
        if server is None:
            raise RuntimeError("the control plane is not running")
        return _Connection(server, self, on_lost)

    def opened(self, connection: asyncio.BaseProtocol, transport: asyncio.Transport) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            # It does not count any more, although its end is told only in the next turn of the loop.
            self._connections.pop(next(iter(self._connections))).abort()
        self._connections[connection] = transport

    def closed(self, connection: asyncio.BaseProtocol) -> None:
        self._connections.pop(connection, None)


class _Connection(web.RequestHandler):
    """aiohttp's protocol, with a bounded life and errors in our shape."""

    __slots__ = ("_deadline", "_face", "_on_lost")

    def __init__(self, server: web.Server, face: _Face, on_lost: Callable[[], None] | None) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # as AppRunner itself passes it on
            keepalive_timeout=face.lifetime,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_FIELD_BYTES,
            max_headers=_MAX_FIELDS,
            lingering_time=_LINGER,
            auto_decompress=False,
        )
        self._face = face
        self._on_lost = on_lost
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # uvloop's transports are none of asyncio's classes.
        made = cast("asyncio.Transport", transport)
        self._face.opened(self, made)
        self._deadline = asyncio.get_running_loop().call_later(self._face.lifetime, made.abort)

    async def start(self) -> None:
        """The base's task of this connection, with its time charged to the control plane's share."""
        await metered(super().start(), self._face.queue)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
            self._face.closed(self)
            if self._on_lost is not None:
                self._on_lost()

    def stay(self) -> None:
        """Bound the life of the connection no more. Whoever asks for that ends it when the worker does."""
        if self._deadline is not None:
            self._deadline.cancel()

    def eof_received(self) -> bool:  # type: ignore[override] # the base returns None, which closes the transport
        """Whether to keep the connection: a client may end its side after its request and still wait for the answer.

        A client that ends its side within its request has left. TLS has no half-closed state.
        """
        transport = self.transport
        if transport is None or transport.get_extra_info("sslcontext") is not None or not self._request_count:
            return False
        bodies = [payload for _, payload in self._messages]
        if self._current_request is not None:
            bodies.append(self._current_request.content)
        return all(body.is_eof() for body in bodies)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """For what goes wrong outside the application: bytes that are malformed to aiohttp, a response that fails.

        `message` is left out of the answer: it may quote the request or name internals.
        """
        if status >= 500:
            _log.error("control plane failed to answer", exc_info=exc)
        else:
            _log.debug("malformed request to the control plane", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the response has already begun")
        return _finished(problem(plain(status), uuid.uuid4().hex), "")


def _answering(request_timeout: float, queue: Queue) -> Middleware:
    @web.middleware
    async def answering(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every response gets the common headers, every error the common shape."""
        given = request.headers.get("X-Request-ID", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request[REQUEST_ID] = request_id
        scope = request[SCOPE] = asyncio.timeout(request_timeout)
        try:
            async with scope:
                # In a task of its own, beside that of the connection.
                response = await metered(_called(handler, request), queue)
        except RefusalError as refused:
            response = problem(refused, request_id)
        except web.HTTPException as error:
            response = problem(_translated(error), request_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status and nothing more
            if isinstance(error, TimeoutError) and scope.expired():
                response = problem(plain(408), request_id)
            else:
                # That a client has left is no failure of the control plane, and nobody reads the answer.
                if request.transport is not None:
                    _log.exception("control request failed", extra={"path": request.path, "request_id": request_id})
                response = problem(plain(500), request_id)
        return _finished(response, request_id)

    return answering


async def _called(handler: Handler, request: web.Request) -> web.StreamResponse:
    return await handler(request)


def _translated(error: web.HTTPException) -> RefusalError:
    headers = {}
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    return plain(error.status, headers)


def _finished(response: web.StreamResponse, request_id: str) -> web.StreamResponse:
    response.force_close()
    headers = response.headers
    for name, value in ALWAYS.items():
        headers.setdefault(name, value)
    if request_id:
        headers["X-Request-ID"] = request_id
    return response
