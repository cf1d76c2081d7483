"""The front: what a listener's connections hand their requests to (`gateway.wire.front.Front`).

It knows every route and gate, makes an exchange of each request, writes the heads that go upstream and the refusals
that come back, and keeps the account of what is in flight."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from gateway.proxy.admission import Gate, Shedding
from gateway.proxy.exchange import Exchange, body_too_large
from gateway.proxy.identity import Identification, Origin
from gateway.proxy.refusal import Refusal
from gateway.proxy.router import Router
from gateway.proxy.upstreams import NoRoute, Route, Upstream
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.metrics import Metrics
from gateway.wire.deadlines import Deadlines
from gateway.wire.problem import render
from gateway.wire.request import Request, RequestError
from gateway.wire.response import Response
from gateway.wire.server_connection import ServerConnection
from gateway.wire.tunnel import Tunnel

# How late the deadline of an attempt may pass, and the deadline of a tunnel.
_ATTEMPT_SWEEP = 0.05
_TUNNEL_SWEEP = 0.5

_NO_ROUTE = NoRoute()


class Front:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        routes: Sequence[Route],
        gates: tuple[Gate, ...],
        identification: Identification,
        shedding: Shedding,
        metrics: Metrics,
        access_log: AccessLog | None,
        *,
        is_control_path: Callable[[bytes], bool],
        control_protocol: Callable[[], asyncio.Protocol],
        via_name: str,
        retry_buffer_bytes: int,
        trace_sample_ratio: float,
        rng: random.Random,
    ) -> None:
        self.loop = loop
        self.gates = gates
        self.metrics = metrics
        self.retry_buffer_bytes = retry_buffer_bytes
        self.rng = rng
        self.deadlines = Deadlines(loop, _ATTEMPT_SWEEP)
        self.refusing = False
        self.exchanges = 0
        self.tunnels: set[Tunnel] = set()
        self._tunnel_deadlines = Deadlines(loop, _TUNNEL_SWEEP)
        self._router = Router(routes)
        self._identification = identification
        self._shedding = shedding
        self._access_log = access_log
        self._is_control_path = is_control_path
        self._control_protocol = control_protocol
        self._via_name = via_name
        self._sample_ratio = trace_sample_ratio

    # What connections hand in.

    def begin(self, connection: ServerConnection, request: Request) -> Exchange | None:
        path = request.path
        query = path.find(b"?")
        if self._is_control_path(path if query < 0 else path[:query]):
            transport, received = connection.hand_over()
            protocol = self._control_protocol()
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            protocol.data_received(received)
            return None
        now = time.monotonic()
        origin = self._origin(connection, request)
        route = self._router.match(request.host, path)
        exchange = Exchange(self, connection, request, route or _NO_ROUTE, origin, now)
        self.exchanges += 1
        objection = self._objection(route, request)
        if objection is None:
            exchange.start()
        else:
            exchange.refuse(objection)
        return None if exchange.finished else exchange

    def reject(self, connection: ServerConnection, error: RequestError) -> None:
        now = time.monotonic()
        request_id = f"{self.rng.getrandbits(128):032x}"
        refusal = Refusal(error.status, error.reason, error.detail)
        self._record_rejection(connection.peer, error.status, error.reason, request_id)
        connection.write(self.render(refusal, request_id, b"", head_only=False, close=True))
        connection.finish(now, keep_alive=False)

    def overflow(self, connection: ServerConnection) -> None:
        refusal = self._shedding.refuse("connections")
        request_id = f"{self.rng.getrandbits(128):032x}"
        self._record_rejection(connection.peer, refusal.status, refusal.reason, request_id)
        connection.write(self.render(refusal, request_id, b"", head_only=False, close=True))
        connection.finish(time.monotonic(), keep_alive=False)

    def _origin(self, connection: ServerConnection, request: Request) -> Origin:
        """Kept with the connection, unless a trusted proxy multiplexes many clients over it."""
        kept = connection.scratch
        if isinstance(kept, Origin):
            return kept
        identification = self._identification
        peer = connection.peer
        if identification.is_trusted(peer):
            return identification.forwarded(peer, connection.scheme, request.fields)
        connection.scratch = origin = identification.direct(peer, connection.scheme)
        return origin

    def _objection(self, route: Route | None, request: Request) -> Refusal | None:
        """What can be said against a request before any gate is asked."""
        if route is None:
            return Refusal(404, "not_found", "no route matches this host and path")
        if self.refusing:
            return Refusal(503, "draining", "the gateway is stopping", retry_after=1.0, close=True)
        if route.methods is not None and request.method not in route.methods:
            allow = f"Allow: {route.allow}\r\n".encode()
            return Refusal(405, "method_not_allowed", f"the route {route.name} takes {route.allow}", extra=allow)
        fields = request.fields
        limit = route.max_body_bytes
        if limit is not None and fields.length is not None and fields.length > limit:
            error = body_too_large(limit)
            return Refusal(error.status, error.reason, error.detail)
        if fields.via and self._identification.is_loop(fields.via):
            return Refusal(508, "loop_detected", f"the request has already passed {self._via_name}")
        if fields.upgrade is not None and request.wants_websocket:
            config = route.config
            if config.websocket and route.tunnels >= config.max_tunnels:
                detail = f"the route {route.name} has its {config.max_tunnels} tunnels open"
                return Refusal(503, "tunnel_limit", detail, retry_after=1.0 + self.rng.random())
        return None

    # What exchanges ask for.

    def render(self, refusal: Refusal, request_id: str, extra: bytes, *, head_only: bool, close: bool) -> bytes:
        self.metrics.refused(refusal.reason)
        return render(
            self._via_name,
            refusal.status,
            refusal.reason,
            refusal.detail,
            request_id,
            retry_after=refusal.retry_after,
            error=refusal.error,
            extra=extra,
            head_only=head_only,
            close=close,
        )

    def request_head(self, exchange: Exchange, upstream: Upstream) -> bytes:
        """The head for the upstream: end-to-end fields as they came, and what a proxy adds."""
        request = exchange.request
        route = exchange.route
        fields = request.fields
        origin = exchange.origin
        extra = b""
        if fields.chunked:
            extra = b"Transfer-Encoding: chunked\r\n"
        elif fields.upgrade is not None and request.wants_websocket and route.config.websocket:
            extra = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b%bX-Forwarded-Host: %b\r\nX-Request-ID: %b\r\n" % (
            request.method.encode(),
            route.forward_path(request.path),
            request.authority if route.preserve_host else upstream.authority,
            fields.lines,
            extra,
            origin.lines,
            origin.host or request.authority,
            exchange.request_id.encode(),
        ) + b"X-Correlation-ID: %b\r\ntraceparent: %b\r\n\r\n" % (
            exchange.correlation_id.encode(),
            exchange.traceparent,
        )

    def new_traceparent(self, trace: str) -> bytes:
        """W3C trace context, level 1, for a request that came without one."""
        sampled = self.rng.random() < self._sample_ratio
        return f"00-{trace}-{self.rng.getrandbits(64) or 1:016x}-{'01' if sampled else '00'}".encode()

    def may_tunnel(self, exchange: Exchange, response: Response) -> bool:
        """Whether a 101 is the answer to what was asked."""
        return (
            exchange.route.config.websocket
            and exchange.request.wants_websocket
            and response.fields.upgrade == b"websocket"
        )

    def tunnel_opened(self, tunnel: Tunnel) -> None:
        self.tunnels.add(tunnel)
        self._tunnel_deadlines.add(tunnel)

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        self.tunnels.discard(tunnel)
        self._tunnel_deadlines.discard(tunnel)

    # The record.

    def exchange_over(self, exchange: Exchange, now: float) -> None:
        self.exchanges -= 1
        seconds = now - exchange.started
        request = exchange.request
        route = exchange.route
        self.metrics.exchange(route.name, request.method, exchange.status, seconds)
        log = self._access_log
        if log is None:
            return
        decision = exchange.rate_decision
        notes = exchange.notes
        if decision is not None and route.policy is not None:
            notes["rate_limit"] = f"{route.policy.name}:{'allowed' if decision.allowed else 'limited'}"
        log.write(
            {
                "request_id": exchange.request_id,
                "correlation_id": exchange.correlation_id,
                "client": exchange.client,
                "method": request.method,
                "target": request.target.decode("utf-8", "backslashreplace"),
                "route": route.name or None,
                "upstream": route.upstream.name if route.name else None,
                "endpoint": exchange.endpoint or None,
                "status": exchange.status,
                "bytes_in": exchange.bytes_in,
                "bytes_out": exchange.bytes_out,
                "duration_ms": round(seconds * 1000, 3),
                "upstream_ms": round(exchange.upstream_seconds * 1000, 3),
                "attempts": exchange.attempts,
                "decisions": notes,
                "reason": exchange.reason or None,
            }
        )

    def _record_rejection(self, peer: str, status: int, reason: str, request_id: str) -> None:
        """A request that never became an exchange: there is nothing to name but who sent it and what was wrong."""
        self.metrics.exchange("", "_OTHER", status, 0.0)
        if self._access_log is not None:
            self._access_log.write(
                {"request_id": request_id, "client": peer, "status": status, "attempts": 0, "reason": reason}
            )

    # Stopping.

    def close_tunnels(self) -> None:
        for tunnel in list(self.tunnels):
            tunnel.close()

    def close(self) -> None:
        self.deadlines.close()
        self._tunnel_deadlines.close()
