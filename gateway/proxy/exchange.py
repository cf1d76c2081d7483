"""One request's life, as its client sees it: through the gates, to the forwarder, and back.

    start -> gates -> forward -> respond -> finish

Everything the exchange has acquired is released in `_finish`, which runs exactly once, whatever happens. The request
body is held while nothing takes it (`held`), with the client's connection not being read, so it costs one read's
worth of memory.

This object is also the record that metrics and the access log are made of, when it is over.
"""

import time
from typing import TYPE_CHECKING, Protocol

from gateway.policy.token_bucket import Decision
from gateway.proxy.admission import PASS, Gate, Permit
from gateway.proxy.forward import Forward
from gateway.proxy.plan import Plan, body_too_large
from gateway.proxy.refusal import Refusal
from gateway.proxy.upstreams import Route
from gateway.wire.chunked import LAST_CHUNK, encode_chunk
from gateway.wire.problem import date_line
from gateway.wire.request import Request, RequestError
from gateway.wire.response import Framing, Response
from gateway.wire.server_connection import ServerConnection
from gateway.wire.tunnel import Tunnel
from gateway.wire.upstream import UpstreamConnection

if TYPE_CHECKING:
    from gateway.proxy.front import Front

_CLIENT_CLOSED = 499
# Up to this much of a response is collected within one read of the upstream, so that it costs one write.
_PENDING_BYTES = 16_384


class ExchangeState(Protocol):
    """What the gates may know of an exchange."""

    route: Route
    client: str
    started: float
    rate_decision: Decision | None
    decisions: dict[str, str]


class Exchange:
    __slots__ = (
        "_at_once",
        "_chunked",
        "_front",
        "_gate",
        "_keep_alive",
        "_pending",
        "_permits",
        "_tunnel_place",
        "_until_close",
        "_waiting",
        "attempts",
        "body_done",
        "bytes_in",
        "bytes_out",
        "client",
        "connection",
        "continued",
        "correlation_id",
        "decisions",
        "endpoint",
        "finished",
        "forward",
        "held",
        "plan",
        "rate_decision",
        "reason",
        "request",
        "request_id",
        "responded",
        "route",
        "started",
        "status",
        "traceparent",
        "upstream_seconds",
    )

    def __init__(self, front: "Front", connection: ServerConnection, request: Request, plan: Plan, now: float) -> None:
        self._front = front
        self.connection = connection
        self.request = request
        self.plan = plan
        self.route = plan.route
        self.client = plan.client
        self.started = now
        fields = request.fields
        own_id = front.ids.new()
        self.request_id = fields.request_id or own_id
        self.correlation_id = fields.correlation_id or self.request_id
        self.traceparent = fields.traceparent or front.ids.traceparent(own_id)
        # The request body: what has arrived and nobody has taken.
        self.held: list[bytes] = []
        self.body_done = not request.has_body
        self.bytes_in = 0
        self.continued = False
        # Admission.
        self._permits: list[Permit] = []
        self._gate = 0
        self._at_once = True
        self._waiting: object = None
        self._tunnel_place = plan.tunnel
        self.rate_decision: Decision | None = None
        self.forward: Forward | None = None
        # The response.
        self.responded = False
        self._keep_alive = False
        self._pending = b""
        self._chunked = False
        self._until_close = False
        self.status = 0
        self.reason = ""
        self.bytes_out = 0
        self.finished = False
        # Told by the forwarder, for the record.
        self.endpoint = ""
        self.attempts = 0
        self.upstream_seconds = 0.0
        self.decisions: dict[str, str] = {}

    def __repr__(self) -> str:
        state = (
            "finished" if self.finished else "responding" if self.responded else "forwarding" if self.forward else "new"
        )
        return f"<Exchange {self.request.method} {self.route.name} {state} status={self.status}>"

    # Admission.

    def start(self) -> None:
        self._admit(self._front.gates)

    def _admit(self, gates: tuple[Gate, ...]) -> None:
        index = self._gate
        while index < len(gates):
            gate = gates[index]
            answer = gate.try_acquire(self)
            if answer is not PASS:
                if answer is None:
                    self._gate = index
                    self._at_once = False
                    self.hold_body()
                    self._waiting = gate.acquire(self, self._admitted)
                    return
                if type(answer) is Refusal:
                    self.refuse(answer)
                    return
                self._permits.append(answer)  # type: ignore[arg-type]
            index += 1
        self._gate = index
        self._go()

    def _admitted(self, answer: Permit | Refusal) -> None:
        """A gate that had to ask or wait has answered."""
        self._waiting = None
        if isinstance(answer, Refusal):
            if not self.finished:
                self.refuse(answer)
            return
        if self.finished:
            answer.release(time.monotonic())
            return
        if answer is not PASS:
            self._permits.append(answer)
        self._gate += 1
        self._admit(self._front.gates)

    def _go(self) -> None:
        self.forward = forward = Forward(self, self._front, self.route.upstream)
        forward.start(self.started if self._at_once else time.monotonic())

    # What the client's connection tells.

    def body(self, data: bytes) -> None:
        self.bytes_in += len(data)
        limit = self.route.max_body_bytes
        if limit is not None and self.bytes_in > limit:
            self.body_failed(body_too_large(limit))
            return
        if self.forward is not None:
            self.forward.body(data)
        else:
            self.held.append(data)
            self.hold_body()

    def hold_body(self) -> None:
        """Nobody takes the request body for now. Without one the connection goes on being read: that is how a client
        that leaves is noticed."""
        if not self.body_done:
            self.connection.pause_reading()

    def body_end(self) -> None:
        self.body_done = True
        # Nothing is left to be held back, and only a connection that is read tells when its client leaves.
        self.connection.resume_reading()
        if self.forward is not None:
            self.forward.body_end()

    def body_failed(self, error: RequestError) -> None:
        if self.forward is not None:
            self.forward.cancel()
        if self.responded:
            self._break_off(error.reason, 0)
        else:
            self.refuse(Refusal(error.status, error.reason, error.detail, close=True))

    def client_gone(self) -> None:
        if self.finished:
            return
        if self.forward is not None:
            self.forward.cancel()
        self._front.metrics.client_closed()
        if not self.responded:
            self.status = _CLIENT_CLOSED
        self.reason = "client_closed"
        self._finish(time.monotonic())

    def gateway_stops(self) -> None:
        if self.forward is not None:
            self.forward.cancel()
        if self.responded:
            self._break_off("draining", 0)
        else:
            self.refuse(Refusal(503, "draining", "the gateway is stopping", retry_after=1.0, close=True))

    def client_blocked(self) -> None:
        if self.forward is not None:
            self.forward.pause_response()

    def client_ready(self) -> None:
        if self.forward is not None:
            self.forward.resume_response()

    # What the forwarder tells.

    def informational(self, response: Response) -> None:
        """100 was answered by the gateway itself; HTTP/1.0 knows no 1xx (RFC 9110 section 15.2)."""
        if self.request.minor and not self.responded and response.status != 100 and not self.connection.write_blocked:
            self.connection.write(response.head + b"\r\n")

    def respond(self, response: Response) -> None:
        """The head of the answer that goes to the client, with a body to follow."""
        request = self.request
        self.responded = True
        self.status = response.status
        keep_alive = self.connection.reusable
        framing = response.framing
        more = b""
        if framing is Framing.CHUNKED or framing is Framing.CLOSE:
            if request.minor:
                self._chunked = True
                more = b"Transfer-Encoding: chunked\r\n"
            else:
                self._until_close = True
                keep_alive = False
        self._keep_alive = keep_alive
        if not keep_alive or not request.minor:
            more += _connection_line(keep_alive)
        if not response.fields.dated:
            more += date_line()
        self._pending = b"%b%b%b\r\n" % (response.head, more, self._own_lines())

    def respond_body(self, data: bytes) -> None:
        self.bytes_out += len(data)
        if self._chunked:
            data = encode_chunk(data)
        pending = self._pending
        if len(pending) + len(data) <= _PENDING_BYTES:
            self._pending = pending + data
            return
        if pending:
            self._pending = b""
            self.connection.write(pending)
        self.connection.write(data)

    def respond_pause(self) -> None:
        """Nothing follows for now."""
        pending = self._pending
        if pending:
            self._pending = b""
            self.connection.write(pending)

    def respond_end(self) -> None:
        pending = self._pending
        if self._chunked:
            pending += LAST_CHUNK
        if pending:
            self._pending = b""
            self.connection.write(pending)
        now = time.monotonic()
        # The connection last: it may start the next request at once.
        self._finish(now)
        self.connection.finish(now, keep_alive=self._keep_alive)

    def respond_whole(self, response: Response, body: bytes, now: float) -> None:
        """The answer in one piece. HOT."""
        connection = self.connection
        self.responded = True
        self.status = response.status
        self.bytes_out = len(body)
        keep_alive = connection.reusable
        own = self._own_lines()
        if not keep_alive or not self.request.minor:
            own += _connection_line(keep_alive)
        if not response.fields.dated:
            own += date_line()
        connection.write(b"%b%b\r\n%b" % (response.head, own, body))
        self._finish(now)
        connection.finish(now, keep_alive=keep_alive)

    def truncated(self, reason: str) -> None:
        """The upstream failed within the body: the client must not take what it got for the whole."""
        self._break_off(reason, self.status)

    def refuse(self, refusal: Refusal) -> None:
        """Answer in place of the upstream."""
        connection = self.connection
        request = self.request
        self.responded = True
        self.status = refusal.status
        self.reason = refusal.reason
        # A client that waits for 100 may send its body or not: only closing tells both sides the same.
        expecting = request.expect_continue and not self.body_done
        keep_alive = connection.reusable and not expecting and not refusal.close
        # Before the answer: who reads it may look at the counters at once.
        now = time.monotonic()
        route = self.route
        self._front.errors.refused(
            route.upstream.name if route.name else "",
            refusal.reason,
            refusal.status,
            self.request_id,
            self.correlation_id,
            refusal.detail,
            now,
        )
        self._finish(now)
        extra = refusal.extra + self._rate_lines()
        if keep_alive and not request.minor:
            extra += _connection_line(keep_alive)
        connection.write(
            self._front.render(
                refusal,
                self.request_id,
                extra,
                head_only=request.method == "HEAD",
                close=not keep_alive,
            )
        )
        connection.finish(now, keep_alive=keep_alive)

    def open_tunnel(self, response: Response, upstream: UpstreamConnection, early: bytes) -> None:
        """The upstream has switched protocols: from here on bytes are passed on, not messages."""
        self.responded = True
        self.status = 101
        fields = response.fields
        self.connection.write(
            b"HTTP/1.1 101 %b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%b%b\r\n"
            % (response.phrase, fields.lines, self._own_lines())
        )
        client, held = self.connection.detach()
        tunnel = Tunnel(
            client, upstream.detach(), idle_timeout=self.route.config.tunnel_idle_timeout, closed=self._tunnel_closed
        )
        # A tunnel lives for hours: it has its own cap and does not keep a place that requests wait for.
        self._release(time.monotonic())
        self._front.tunnel_opened(tunnel)
        tunnel.start(from_client=held, from_upstream=early)

    def _tunnel_closed(self, tunnel: Tunnel) -> None:
        self.bytes_in += tunnel.bytes_from_client
        self.bytes_out += tunnel.bytes_from_upstream
        self.decisions["tunnel"] = tunnel.ended_by
        self._front.tunnel_closed(tunnel)
        self._finish(time.monotonic())

    # Ending.

    def _break_off(self, reason: str, status: int) -> None:
        self.reason = reason
        self.status = status or self.status
        self.respond_pause()
        self._finish(time.monotonic())
        self.connection.break_off(reset=self._until_close)

    def _release(self, now: float) -> None:
        permits, self._permits = self._permits, []
        for permit in permits:
            permit.release(now)

    def _finish(self, now: float) -> None:
        if self.finished:
            return
        self.finished = True
        self.forward = None  # no cycle is left for the collector
        if self._tunnel_place:
            self.route.tunnels -= 1
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._front.gates[self._gate].abandon(waiting)
        if self._permits:
            self._release(now)
        self.held.clear()
        self._front.exchange_over(self, now)

    # Own header lines.

    def _own_lines(self) -> bytes:
        lines = b"X-Request-ID: %b\r\n" % self.request_id
        return lines + self._rate_lines() if self.rate_decision is not None else lines

    def _rate_lines(self) -> bytes:
        decision = self.rate_decision
        fields = self.route.rate_fields
        return fields.lines(decision) if decision is not None and fields is not None else b""


def _connection_line(keep_alive: bool) -> bytes:
    return b"Connection: keep-alive\r\n" if keep_alive else b"Connection: close\r\n"
