"""The front: what the connections of a listener hand their requests to (`gateway.wire.ports.Front`).

It plans each request, asks the gates, and either answers at once or makes an exchange of it. A request that is refused
at once never becomes an exchange: the client that is refused is often the one that hurries.
"""

import asyncio
import time
from collections.abc import Callable

from gateway.policy.outcome import IGNORED
from gateway.proxy import writer
from gateway.proxy.answers.refusals import DEFECT, STOPPING, Refusal
from gateway.proxy.defects import caught
from gateway.proxy.exchanges.exchange import Exchange
from gateway.proxy.exchanges.kept_exchange import KeptExchange
from gateway.proxy.exchanges.remembered_exchange import RememberedExchange
from gateway.proxy.gate import PASS, WAIT
from gateway.proxy.gates.in_flight import InFlightGate
from gateway.proxy.requests.identity import Identification, Origin
from gateway.proxy.routes.plan import Plan, objection
from gateway.proxy.routes.topology import Topology
from gateway.proxy.runtime import Runtime
from gateway.proxy.ticket import Ticket
from gateway.wire import ports
from gateway.wire.message.request import Request, RequestError
from gateway.wire.ports import Connection


class Front(ports.Front):
    """`topology` is the one that new requests are planned by. `is_control_path` says which paths belong to the control
    plane, whose connections `control_protocol` serves; `is_probe` which of them are answered even at the cap on
    connections."""

    def __init__(
        self,
        runtime: Runtime,
        topology: Topology,
        identification: Identification,
        in_flight: InFlightGate,
        *,
        is_control_path: Callable[[bytes], bool],
        is_probe: Callable[[bytes], bool],
        control_protocol: Callable[[], asyncio.Protocol],
        via_name: str,
    ) -> None:
        self.topology = topology
        self._runtime = runtime
        self._identification = identification
        self._in_flight = in_flight
        self._is_control_path = is_control_path
        self._is_probe = is_probe
        self._control_protocol = control_protocol
        self._via_name = via_name

    def begin(self, connection: Connection, request: Request) -> Exchange | None:
        """Take a request. None when it was answered, or its connection handed over, at once. HOT."""
        plan = request.plan
        if not isinstance(plan, Plan) or plan.generation != self.topology.generation:
            path = request.path
            query = path.find(b"?")
            if self._is_control_path(path if query < 0 else path[:query]):
                self._hand_over(connection)
                return None
            plan = request.plan = self._plan(connection, request)
        runtime = self._runtime
        route = plan.route
        now = time.monotonic()
        ids = runtime.ids
        ticket = Ticket(request, plan.origin, route.account, plan.log_part, ids.new(), now, plan.priority)
        if (runtime.stopping or plan.unusual) and self._ended_at_once(connection, plan, ticket):
            return None
        exchange: Exchange | None = None
        refusal: Refusal | None = None
        try:
            verdict = route.chain.admit(ticket)
            if verdict is PASS:
                if route.keeping is None and route.fallback is None:
                    exchange = Exchange(runtime, connection, plan, ticket)
                else:
                    exchange = self._exchange(connection, plan, ticket)
                exchange.go()
            elif verdict is WAIT:
                exchange = self._exchange(connection, plan, ticket)
                exchange.wait()
            elif isinstance(verdict, Refusal):
                refusal = verdict
                if route.fallback is not None and route.fallback.takes(verdict.reason):
                    exchange = self._exchange(connection, plan, ticket)
                    exchange.fall_back(verdict)
        except Exception as defect:  # noqa: BLE001 - it is logged with where it was raised
            # The connection does not know the exchange yet, so nobody else would end it.
            caught(ticket, defect)
            if exchange is not None:
                exchange.failed()
            else:
                route.chain.leave(ticket, IGNORED, 0.0)
                refusal = DEFECT
        if exchange is not None:
            return None if exchange.finished else exchange
        if refusal is not None:
            self._refuse(connection, plan, ticket, refusal)
        return None

    def reject(self, connection: Connection, error: RequestError) -> None:
        """Answer a request whose head cannot be understood; the connection closes after it."""
        self._farewell(connection, Refusal(error.status, error.reason, error.detail))

    def overflow(self, connection: Connection, request: Request) -> None:
        """Answer the request of a connection beyond the maximum; it closes after it. A probe is answered nevertheless:
        an orchestrator would take a busy gateway for a dead one."""
        if not request.has_body and self._is_probe(request.path.partition(b"?")[0]):
            self._hand_over(connection)
        else:
            self._farewell(connection, self._in_flight.refuse("connections"))

    def _hand_over(self, connection: Connection) -> None:
        transport, received = connection.hand_over()
        protocol = self._control_protocol()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(received)

    def _plan(self, connection: Connection, request: Request) -> Plan:
        topology = self.topology
        route = topology.router.match(request.host, request.path)
        if route is not None and route.query_key is not None:
            # Before anything else is made of the target.
            route.query_key.take(request)
        against = objection(route, request, self._identification, self._via_name)
        origin = self._origin(connection, request)
        return Plan(request, route or topology.no_route, origin, against, topology.generation)

    def _origin(self, connection: Connection, request: Request) -> Origin:
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

    def _exchange(self, connection: Connection, plan: Plan, ticket: Ticket) -> Exchange:
        """One of the kind that the route and the request ask for."""
        runtime, route, request = self._runtime, plan.route, ticket.request
        keeping, fallback = route.keeping, route.fallback
        if keeping is not None and request.fields.idempotency_key is not None:
            return KeptExchange(runtime, connection, plan, ticket, keeping.claims, keeping.most)
        if fallback is not None and fallback.last_good is not None and fallback.last_good.wants(request):
            return RememberedExchange(runtime, connection, plan, ticket, fallback.last_good)
        return Exchange(runtime, connection, plan, ticket)

    # Answers without an exchange.

    def _ended_at_once(self, connection: Connection, plan: Plan, ticket: Ticket) -> bool:
        """Answer an unusual request, or one that comes while the gateway stops, without asking the gates. Returns
        whether it was answered."""
        stopping = self._runtime.stopping
        content = plan.own_answer
        if content is not None and not stopping:
            # At once and whatever the limits say: it costs next to nothing.
            self._runtime.recorder.answered(ticket, content, ticket.now)
            fields = plan.route.filters.added_to_refusal(ticket) if content.status != 204 else b""
            close = ticket.request.expect_continue
            writer.own(connection, ticket, fields, content, ticket.now, close=close)
            return True
        against = plan.objection
        if against is None and stopping:
            against = STOPPING
        if against is None and plan.tunnel:
            against = plan.route.tunnels.refusal(ticket.client, ticket.now, self._runtime.rng)
        if against is None:
            return False
        self._refuse(connection, plan, ticket, against)
        return True

    def _refuse(self, connection: Connection, plan: Plan, ticket: Ticket, refusal: Refusal) -> None:
        """HOT."""
        wall = time.time()
        template = self._runtime.recorder.refused_at_once(ticket, refusal, ticket.now, wall)
        fields = plan.route.filters.added_to_refusal(ticket)
        close = refusal.close or ticket.request.expect_continue
        writer.refusal(connection, ticket, fields, template, ticket.now, wall, close=close)

    def _farewell(self, connection: Connection, refusal: Refusal) -> None:
        request_id = self._runtime.ids.new()
        template = self._runtime.recorder.refused_connection(request_id, connection.peer, refusal)
        writer.farewell(connection, request_id, template)
