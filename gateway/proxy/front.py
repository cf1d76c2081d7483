"""The front: what a listener's connections hand their requests to (`gateway.wire.front.Front`).

It plans each request, has it refused at once or makes an exchange of it, and keeps the account of what is in flight."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from gateway.fleet.circuits import CircuitOpen
from gateway.proxy.admission import IN_FLIGHT, PASSED, Shedding
from gateway.proxy.exchange import Exchange, said, said_of_open
from gateway.proxy.identity import Identification, Origin
from gateway.proxy.ids import Ids
from gateway.proxy.own_answer import OwnAnswer
from gateway.proxy.plan import Plan, objection
from gateway.proxy.refusal import STOPPING, Refusal, jittered
from gateway.proxy.refuse import Refuser, connection_line
from gateway.proxy.router import Router
from gateway.proxy.upstreams import NoRoute, Route
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.errors import ErrorLog
from gateway.telemetry.metrics import Metrics
from gateway.wire.deadlines import Deadlines
from gateway.wire.request import Request, RequestError
from gateway.wire.response import Response
from gateway.wire.server_connection import ServerConnection
from gateway.wire.tunnel import Tunnel

# How late the deadline of an attempt may pass, and the deadline of a tunnel.
_ATTEMPT_SWEEP = 0.05
_TUNNEL_SWEEP = 0.5


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
        is_probe: Callable[[bytes], bool],
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
        # Nothing is known of what it would have been: where one route says no, so does this.
        public_refusals = all(route.public_refusals for route in routes)
        self._no_route = NoRoute(metrics.route(""), public_refusals=public_refusals)
        self._router = Router(routes)
        self._identification = identification
        self._shedding = shedding
        self._access_log = access_log
        self._is_control_path = is_control_path
        self._is_probe = is_probe
        self._control_protocol = control_protocol
        self._via_name = via_name
        self.ids = Ids(rng, trace_sample_ratio)
        self.refuse = Refuser(metrics, errors, access_log, self.ids, self._no_route.cells, via_name)

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
        if self.refusing or plan.unusual:
            if plan.own_answer is not None and not self.refusing:
                self._answer(connection, request, plan, plan.own_answer, now)
                return None
            refusal = plan.objection or self._present_objection(plan)
            if refusal is not None:
                self.refuse.at_once(connection, request, plan, refusal, None, said(None), now)
                return None
        route = plan.route
        gates = plan.gates
        at, decision, refusal = gates.look(plan.client, now)
        if refusal is None:
            answer = route.upstream.circuit.try_acquire(now) if at == PASSED else None
            if type(answer) is not CircuitOpen:
                gates.enter(IN_FLIGHT, at, plan.client)
                exchange = Exchange(self, connection, request, plan, at, decision, now)
                self.exchanges += 1
                if plan.tunnel:
                    # Kept from here on: the upstream may take its time to switch, and others ask meanwhile.
                    route.tunnels += 1
                if at == PASSED:
                    exchange.go(answer, now)
                else:
                    exchange.wait()
                return None if exchange.finished else exchange
            retry_after, cause = answer.retry_after, answer.cause
            refusal = route.upstream.left_alone.after(retry_after)
            noted = said_of_open(cause, decision is not None)
        else:
            noted = said(decision)
        self.refuse.at_once(connection, request, plan, refusal, decision, noted, now)
        return None

    def _answer(
        self, connection: ServerConnection, request: Request, plan: Plan, answer: OwnAnswer, now: float
    ) -> None:
        """An answer that is the gateway's own, at once and whatever the limits say: it costs next to nothing."""
        wall = time.time()
        request_id = request.fields.request_id or self.ids.new()
        route = plan.route
        route.cells.exchange(request.method, answer.status, 0.0)
        self.errors.cells[route.service].request(now)
        log = self._access_log
        if log is not None:
            correlation_id = request.fields.correlation_id or request_id
            known = plan.known or plan.know(log)
            policy, decision = answer.decision
            decisions = {policy: decision}
            log.exchange(known, request_id, correlation_id, "", answer.status, 0, 0, 0.0, 0.0, 0, decisions, "", wall)
        keep_alive = connection.reusable and not request.expect_continue
        extra = plan.cors if answer.status != 204 else b""
        if not keep_alive or not request.minor:
            extra += connection_line(keep_alive)
        connection.answer(answer.render(request_id, extra, wall), now, keep_alive)

    def _hand_over(self, connection: ServerConnection) -> None:
        transport, received = connection.hand_over()
        protocol = self._control_protocol()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(received)

    def _plan(self, connection: ServerConnection, request: Request) -> Plan:
        route = self._router.match(request.host, request.path)
        against = objection(route, request, self._identification, self._via_name)
        return Plan(request, route or self._no_route, self._origin(connection, request), against)

    def _present_objection(self, plan: Plan) -> Refusal | None:
        """What speaks against a request as things stand now."""
        if self.refusing:
            return STOPPING
        config = plan.route.config
        if plan.route.tunnels >= config.max_tunnels:
            detail = f"the route {plan.route.name} has its {config.max_tunnels} tunnels open"
            return Refusal(503, "tunnel_limit", detail, retry_after=jittered(1.0, self.rng))
        return None

    def reject(self, connection: ServerConnection, error: RequestError) -> None:
        self.refuse.connection(connection, Refusal(error.status, error.reason, error.detail))

    def overflow(self, connection: ServerConnection, request: Request) -> None:
        """A probe is answered nevertheless: an orchestrator would take a busy gateway for a dead one."""
        if not request.has_body and self._is_probe(request.path.partition(b"?")[0]):
            self._hand_over(connection)
        else:
            self.refuse.connection(connection, self._shedding.refuse("connections"))

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
        route.cells.exchange(exchange.request.method, exchange.status, seconds)
        if exchange.refused:
            pass  # counted with its refusal
        elif exchange.reason or exchange.answered_badly:
            # A failure that the client got too: that of an earlier attempt has been made good.
            failed = exchange.status == exchange.answered_badly
            self.errors.over(route.service, exchange.reason, failed, now)
        else:
            self.errors.cells[route.service].request(now)
        log = self._access_log
        if log is not None:
            log.exchange(
                plan.known or plan.know(log),
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
                time.time(),
            )

    # Stopping.

    def close_tunnels(self) -> None:
        for tunnel in list(self.tunnels):
            tunnel.close()

    def close(self) -> None:
        self.deadlines.close()
        self._tunnel_deadlines.close()
