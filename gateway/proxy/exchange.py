"""One request's life, as its client sees it: through the gates, to the forwarder, and back.

    start -> gates -> forward -> respond -> finish

Everything the exchange has acquired is released in `_finish`, which runs exactly once, whatever happens. The request
body is held while nothing takes it (`held`), with the client's connection not being read, so it costs one read's
worth of memory.

This object is also the record that metrics and the access log are made of, when it is over.
"""

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.fleet.circuits import CircuitOpen
from gateway.fleet.circuits import Permit as CircuitPermit
from gateway.policy.token_bucket import EXEMPT, Decision
from gateway.proxy.admission import IN_FLIGHT, PASSED, Answer, LimitGate
from gateway.proxy.forward import Forward
from gateway.proxy.plan import Plan, body_too_large
from gateway.proxy.refusal import STOPPING, Refusal
from gateway.proxy.refuse import connection_line
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


class _Stream:
    """An answer that goes out in parts. `pending` was collected for one write."""

    __slots__ = ("chunked", "keep_alive", "pending", "until_close")

    def __init__(self) -> None:
        self.pending = b""
        self.keep_alive = False
        self.chunked = False
        self.until_close = False


class Exchange:
    __slots__ = (
        "_at",
        "_front",
        "_stream",
        "_waiting",
        "answered_badly",
        "attempts",
        "body_done",
        "bytes_in",
        "bytes_out",
        "connection",
        "correlation_id",
        "decisions",
        "endpoint",
        "finished",
        "forward",
        "held",
        "own_id",
        "plan",
        "rate_decision",
        "reason",
        "refused",
        "request",
        "request_id",
        "responded",
        "route",
        "started",
        "status",
        "upstream_seconds",
    )

    def __init__(
        self,
        front: "Front",
        connection: ServerConnection,
        request: Request,
        plan: Plan,
        at: int,
        decision: Decision | None,
        now: float,
    ) -> None:
        self._front = front
        self.connection = connection
        self.request = request
        self.plan = plan
        self.route = plan.route
        self.started = now
        fields = request.fields
        self.own_id = front.ids.new()
        self.request_id = fields.request_id or self.own_id
        self.correlation_id = fields.correlation_id or self.request_id
        # The request body: what has arrived and nobody has taken.
        self.held: list[bytes] = []
        self.body_done = not request.has_body
        self.bytes_in = 0
        # Admission. The places before the gate are held.
        self._at = at
        self._waiting: object = None
        self.rate_decision = decision
        self.forward: Forward | None = None
        # The response.
        self.responded = False
        self.refused = False
        self._stream: _Stream | None = None
        self.status = 0
        self.reason = ""
        self.bytes_out = 0
        self.finished = False
        # Told by the forwarder, for the record.
        self.endpoint = ""
        self.attempts = 0
        self.answered_badly = 0
        self.upstream_seconds = 0.0
        self.decisions = said(decision)

    def __repr__(self) -> str:
        state = (
            "finished" if self.finished else "responding" if self.responded else "forwarding" if self.forward else "new"
        )
        return f"<Exchange {self.request.method} {self.route.name} {state} status={self.status}>"

    # Admission.

    def wait(self) -> None:
        """For the gate that could not answer at once."""
        self.hold_body()
        waiting = self.plan.gates.wait(self._at, self.plan.client, self._admitted)
        if waiting is not None:
            # Not unless: the gate may have answered meanwhile, and the next one be waited for.
            self._waiting = waiting

    def go(self, answer: CircuitPermit | CircuitOpen | None, now: float) -> None:
        """Every gate is passed; `answer` is the circuit's."""
        self.forward = forward = Forward(self, self._front, self.route.upstream)
        forward.start(answer, now)

    def _admitted(self, answer: Answer) -> None:
        """The gate has answered."""
        self._waiting = None
        now = time.monotonic()
        gates = self.plan.gates
        refusal = answer if isinstance(answer, Refusal) else None
        if isinstance(answer, Decision):
            refusal = gates.decided(answer)
            self._decided(answer)
        if self.finished:
            if isinstance(answer, LimitGate):
                answer.release(now)
            return
        if self._at == IN_FLIGHT and isinstance(answer, LimitGate):
            refusal = gates.queued(self.plan.client)
            if refusal is not None:
                answer.release(now)
        if refusal is not None:
            self.refuse(refusal)
            return
        passed = self._at + 1
        at, decision, refusal = gates.look(self.plan.client, now, passed)
        self._decided(decision)
        gates.enter(passed, at, self.plan.client)
        self._at = at
        if refusal is not None:
            self.refuse(refusal)
        elif at < PASSED:
            self.wait()
        else:
            self.go(self.route.upstream.circuit.try_acquire(now), now)

    def _decided(self, decision: Decision | None) -> None:
        if decision is not None:
            self.rate_decision = decision
            self.decisions = said(decision)

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
            self.forward.cancel(client_left=True)
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
            self.refuse(STOPPING)

    def client_blocked(self) -> None:
        if self.forward is not None:
            self.forward.pause_response()

    def client_ready(self) -> None:
        if self.forward is not None:
            self.forward.resume_response()

    # What the forwarder tells.

    def note(self, policy: str, decision: str) -> None:
        """For the record."""
        self.decisions = {**self.decisions, policy: decision}

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
        self._stream = stream = _Stream()
        if framing is Framing.CHUNKED or framing is Framing.CLOSE:
            if request.minor:
                stream.chunked = True
                more = b"Transfer-Encoding: chunked\r\n"
            else:
                stream.until_close = True
                keep_alive = False
        stream.keep_alive = keep_alive
        if not keep_alive or not request.minor:
            more += connection_line(keep_alive)
        if not response.fields.dated:
            more += date_line(time.time())
        more += self._rate_lines() or response.fields.rate_limit
        if self.plan.cors and not response.fields.allows_origin:
            more += self.plan.cors
        head = self._redirected(response) if response.fields.redirects else response.head
        stream.pending = b"%bX-Request-ID: %b\r\n%b\r\n" % (head, self.request_id, more)

    def respond_body(self, data: bytes) -> None:
        stream = self._stream
        assert stream is not None  # noqa: S101 - the head comes first
        self.bytes_out += len(data)
        if stream.chunked:
            data = encode_chunk(data)
        pending = stream.pending
        if len(pending) + len(data) <= _PENDING_BYTES:
            stream.pending = pending + data
            return
        if pending:
            stream.pending = b""
            self.connection.write(pending)
        self.connection.write(data)

    def respond_pause(self) -> None:
        """Nothing follows for now."""
        stream = self._stream
        if stream is not None and stream.pending:
            pending, stream.pending = stream.pending, b""
            self.connection.write(pending)

    def respond_end(self) -> None:
        stream = self._stream
        assert stream is not None  # noqa: S101 - the head comes first
        if stream.chunked:
            stream.pending += LAST_CHUNK
        self.respond_pause()
        now = time.monotonic()
        # The connection last: it may start the next request at once.
        self._finish(now)
        self.connection.finish(now, keep_alive=stream.keep_alive)

    def respond_whole(self, response: Response, body: bytes, now: float) -> None:
        """The answer in one piece. HOT."""
        connection = self.connection
        self.responded = True
        self.status = response.status
        self.bytes_out = len(body)
        keep_alive = connection.reusable
        more = self._rate_lines() or response.fields.rate_limit
        if not keep_alive or not self.request.minor:
            more += connection_line(keep_alive)
        if not response.fields.dated:
            more += date_line(time.time())
        if self.plan.cors and not response.fields.allows_origin:
            more += self.plan.cors
        head = self._redirected(response) if response.fields.redirects else response.head
        self._finish(now)
        whole = b"".join((head, b"X-Request-ID: ", self.request_id, b"\r\n", more, b"\r\n", body))
        connection.answer(whole, now, keep_alive)

    def truncated(self, reason: str) -> None:
        """The upstream failed within the body: the client must not take what it got for the whole."""
        self._front.metrics.refusals[reason] += 1
        self._break_off(reason, self.status)

    def refuse(self, refusal: Refusal) -> None:
        """Answer in place of the upstream."""
        self.responded = self.refused = True
        self.status = refusal.status
        self.reason = refusal.reason
        # Before the answer: who reads it may look at the counters at once.
        now = time.monotonic()
        front = self._front
        kind = front.errors.kind(self.route.service, refusal.reason, refusal.status)
        front.errors.refused(kind, self.request_id, self.correlation_id, refusal.detail, now, time.time())
        self.bytes_out = front.refuse.size(refusal, self.request, self.request_id)
        self._finish(now)
        # A client that waits for 100 may send its body or not: only closing tells both sides the same.
        unsure = self.request.expect_continue and not self.body_done
        front.refuse.exchange(
            self.connection,
            self.request,
            refusal,
            self.request_id,
            self._rate_lines() + self.plan.cors_refused,
            now,
            close=unsure,
        )

    def open_tunnel(self, response: Response, upstream: UpstreamConnection, early: bytes) -> None:
        """The upstream has switched protocols: from here on bytes are passed on, not messages."""
        self.responded = True
        self.status = 101
        fields = response.fields
        self.connection.write(
            b"%bConnection: Upgrade\r\nUpgrade: websocket\r\nX-Request-ID: %b\r\n%b\r\n"
            % (response.head, self.request_id, self._rate_lines() or fields.rate_limit)
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
        self.note("tunnel", tunnel.ended_by)
        self._front.tunnel_closed(tunnel)
        self._finish(time.monotonic())

    # Ending.

    def _break_off(self, reason: str, status: int) -> None:
        self.reason = reason
        self.status = status or self.status
        self.respond_pause()
        self._finish(time.monotonic())
        self.connection.break_off(reset=self._stream is not None and self._stream.until_close)

    def _release(self, now: float) -> None:
        at, self._at = self._at, IN_FLIGHT
        self.plan.gates.leave(at, now, self.plan.client)

    def _finish(self, now: float) -> None:
        if self.finished:
            return
        self.finished = True
        self.forward = None  # no cycle is left for the collector
        if self.plan.tunnel:
            self.route.tunnels -= 1
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self.plan.gates.abandon(self._at, waiting)
        self._release(now)
        if self.held:
            self.held.clear()
        self._front.exchange_over(self, now)

    # Own header lines.

    def _rate_lines(self) -> bytes:
        decision = self.rate_decision
        return self.route.rate_lines(decision) if decision is not None else b""

    def _redirected(self, response: Response) -> bytes:
        """The head of an answer that names a URL, as the client is to see it."""
        redirects = self.route.redirects
        if redirects is None:
            return response.head
        origin = self.plan.origin
        asked = origin.host.partition(b",")[0].strip(b" \t") or self.request.authority
        return redirects.head(response.head, origin.scheme, asked)


# The same objects each time: the access log renders what it has just seen but once.
_NOTHING: Mapping[str, str] = {}
_ALLOWED: Mapping[str, str] = {"rate_limit": "allowed"}
_LIMITED: Mapping[str, str] = {"rate_limit": "limited"}
_EXEMPT: Mapping[str, str] = {"rate_limit": "exempt"}


def said(decision: Decision | None) -> Mapping[str, str]:
    """What a rate limit decided, for the access log."""
    if decision is None:
        return _NOTHING
    if decision.allowed:
        return _EXEMPT if decision is EXEMPT else _ALLOWED
    return _LIMITED


@lru_cache(maxsize=64)
def said_of_open(cause: str, allowed: bool) -> Mapping[str, str]:
    """What an open circuit decided, after a rate limit, if there is one, had `allowed` the request."""
    return {**(_ALLOWED if allowed else _NOTHING), "circuit": cause}
