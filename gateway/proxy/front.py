"""The front: what a listener's connections hand their requests to (`gateway.wire.front.Front`).

It knows every route and gate, makes an exchange of each request, writes the heads that go upstream and the refusals
that come back, and keeps the account of what is in flight."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence

from gateway.fleet.circuits import CircuitOpen
from gateway.policy.token_bucket import Decision
from gateway.proxy.admission import Gate, Shedding, pass_gates
from gateway.proxy.exchange import Exchange, connection_line, said, said_of_open
from gateway.proxy.identity import Identification, Origin
from gateway.proxy.ids import Ids
from gateway.proxy.plan import Plan, objection
from gateway.proxy.refusal import Refusal, jittered
from gateway.proxy.router import Router
from gateway.proxy.upstreams import NoRoute, Route
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.errors import ErrorLog
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
        errors: ErrorLog,
    ) -> None:
        self.loop = loop
        self.metrics = metrics
        self.errors = errors
        self.retry_buffer_bytes = retry_buffer_bytes
        self.rng = rng
        self.deadlines = Deadlines(loop, _ATTEMPT_SWEEP)
        self.refusing = False
        self.exchanges = 0
        self.tunnels: set[Tunnel] = set()
        self._tunnel_deadlines = Deadlines(loop, _TUNNEL_SWEEP)
        self._cells = {route.name: errors.cells[route.upstream.name] for route in routes}
        self._router = Router(routes)
        self._identification = identification
        self._shedding = shedding
        self._access_log = access_log
        self._is_control_path = is_control_path
        self._control_protocol = control_protocol
        self._via_name = via_name
        self.ids = Ids(rng, trace_sample_ratio)

    # What connections hand in.

    def begin(self, connection: ServerConnection, request: Request) -> Exchange | None:
        plan = request.plan
        if type(plan) is not Plan:
            path = request.path
            query = path.find(b"?")
            if self._is_control_path(path if query < 0 else path[:query]):
                self._hand_over(connection)
                return None
            plan = request.plan = self._plan(connection, request)
        now = time.monotonic()
        entered: list[Gate] = []
        decision: Decision | None = None
        noted: Mapping[str, str] | None = None
        refusal = plan.objection
        if refusal is None and (self.refusing or plan.tunnel):
            refusal = self._present_objection(plan)
        if refusal is None:
            route = plan.route
            index, decision, refusal = pass_gates(route.gates, 0, plan.client, now, entered)
            if refusal is None:
                passed = index == len(route.gates)
                answer = route.upstream.circuit.try_acquire(now) if passed else None
                if type(answer) is not CircuitOpen:
                    exchange = Exchange(self, connection, request, plan, entered, decision, now)
                    self.exchanges += 1
                    if plan.tunnel:
                        # Kept from here on: the upstream may take its time to switch, and others ask meanwhile.
                        route.tunnels += 1
                    if passed:
                        exchange.go(answer, now)
                    else:
                        exchange.wait(index)
                    return None if exchange.finished else exchange
                refusal = route.upstream.left_alone(answer)
                noted = said_of_open(decision, answer.cause)
        for gate in entered:
            gate.release(now)
        noted = said(decision) if noted is None else noted
        self._refuse_at_once(connection, request, plan, refusal, decision, noted, now)
        return None

    def _refuse_at_once(
        self,
        connection: ServerConnection,
        request: Request,
        plan: Plan,
        refusal: Refusal,
        decision: Decision | None,
        decisions: Mapping[str, str],
        started: float,
    ) -> None:
        """A request that never became an exchange. HOT: the client that is refused is often the one that hurries."""
        now = time.monotonic()
        seconds = now - started
        fields = request.fields
        request_id = fields.request_id or self.ids.new()
        correlation_id = fields.correlation_id or request_id
        route = plan.route
        status = refusal.status
        reason = refusal.reason
        self.metrics.exchange(route.name, request.method, status, seconds)
        service = route.upstream.name if route.name else ""
        self.errors.refused(service, reason, status, request_id, correlation_id, refusal.detail, now)
        log = self._access_log
        if log is not None:
            known = plan.known or self._known(log, plan, request)
            log.exchange(known, request_id, correlation_id, "", status, 0, 0, seconds, 0.0, 0, decisions, reason)
        lines = route.rate_lines(decision) if decision is not None else b""
        self.answer(connection, request, refusal, request_id, lines, now, close=request.expect_continue)

    def _hand_over(self, connection: ServerConnection) -> None:
        transport, received = connection.hand_over()
        protocol = self._control_protocol()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(received)

    def _plan(self, connection: ServerConnection, request: Request) -> Plan:
        route = self._router.match(request.host, request.path)
        against = objection(route, request, self._identification, self._via_name)
        return Plan(request, route or _NO_ROUTE, self._origin(connection, request), against)

    def _present_objection(self, plan: Plan) -> Refusal | None:
        """What speaks against a request as things stand now."""
        if self.refusing:
            return Refusal(503, "draining", "the gateway is stopping", retry_after=1.0, close=True)
        config = plan.route.config
        if plan.route.tunnels >= config.max_tunnels:
            detail = f"the route {plan.route.name} has its {config.max_tunnels} tunnels open"
            return Refusal(503, "tunnel_limit", detail, retry_after=jittered(1.0, self.rng))
        return None

    def reject(self, connection: ServerConnection, error: RequestError) -> None:
        now = time.monotonic()
        request_id = self.ids.new()
        refusal = Refusal(error.status, error.reason, error.detail)
        self._record_rejection(connection.peer, refusal, request_id, now)
        connection.write(self._render(refusal, request_id, b"", head_only=False, close=True))
        connection.finish(now, keep_alive=False)

    def overflow(self, connection: ServerConnection) -> None:
        refusal = self._shedding.refuse("connections")
        request_id = self.ids.new()
        now = time.monotonic()
        self._record_rejection(connection.peer, refusal, request_id, now)
        connection.write(self._render(refusal, request_id, b"", head_only=False, close=True))
        connection.finish(now, keep_alive=False)

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

    # What exchanges ask for.

    def answer(
        self,
        connection: ServerConnection,
        request: Request,
        refusal: Refusal,
        request_id: bytes,
        extra: bytes,
        now: float,
        *,
        close: bool,
    ) -> None:
        """Write a refusal and finish the request. `extra` are complete header lines."""
        keep_alive = connection.reusable and not close and not refusal.close
        extra += refusal.extra
        if keep_alive and not request.minor:
            extra += connection_line(keep_alive)
        head_only = request.method == "HEAD"
        connection.write(self._render(refusal, request_id, extra, head_only=head_only, close=not keep_alive))
        connection.finish(now, keep_alive=keep_alive)

    def _render(self, refusal: Refusal, request_id: bytes, extra: bytes, *, head_only: bool, close: bool) -> bytes:
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

    def may_tunnel(self, exchange: Exchange, response: Response) -> bool:
        """Whether a 101 is the answer to what was asked."""
        return exchange.plan.tunnel and response.fields.upgrade == b"websocket"

    def tunnel_opened(self, tunnel: Tunnel) -> None:
        self.tunnels.add(tunnel)
        self._tunnel_deadlines.add(tunnel)

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        self.tunnels.discard(tunnel)
        self._tunnel_deadlines.discard(tunnel)

    # The record.

    def exchange_over(self, exchange: Exchange, now: float) -> None:
        """HOT."""
        self.exchanges -= 1
        seconds = now - exchange.started
        plan = exchange.plan
        route = exchange.route
        self.metrics.exchange(route.name, exchange.request.method, exchange.status, seconds)
        if exchange.refused:
            pass  # counted with its refusal
        elif exchange.reason or exchange.status >= 500:
            self.errors.over(route.upstream.name if route.name else "", exchange.reason, exchange.status, now)
        else:
            self._cells[route.name].request(now)
        log = self._access_log
        if log is not None:
            log.exchange(
                plan.known or self._known(log, plan, exchange.request),
                exchange.request_id,
                exchange.correlation_id,
                exchange.endpoint,
                exchange.status,
                exchange.bytes_in,
                exchange.bytes_out,
                seconds,
                exchange.upstream_seconds,
                exchange.attempts,
                exchange.decisions,
                exchange.reason,
            )

    def _known(self, log: AccessLog, plan: Plan, request: Request) -> dict[str, object] | bytes:
        """The part of its log line that follows from a request's head."""
        route = plan.route
        plan.known = log.prepare(
            {
                "client": plan.client,
                "method": request.method,
                "target": plan.target,
                "route": route.name or None,
                "upstream": route.upstream.name if route.name else None,
            }
        )
        return plan.known

    def _record_rejection(self, peer: str, refusal: Refusal, request_id: bytes, now: float) -> None:
        """A request that never became an exchange: there is nothing to name but who sent it and what was wrong."""
        status, reason = refusal.status, refusal.reason
        self.metrics.exchange("", "_OTHER", status, 0.0)
        self.errors.refused("", reason, status, request_id, request_id, refusal.detail, now)
        if self._access_log is not None:
            self._access_log.write(
                {"request_id": request_id.decode(), "client": peer, "status": status, "attempts": 0, "reason": reason}
            )

    # Stopping.

    def close_tunnels(self) -> None:
        for tunnel in list(self.tunnels):
            tunnel.close()

    def close(self) -> None:
        self.deadlines.close()
        self._tunnel_deadlines.close()
