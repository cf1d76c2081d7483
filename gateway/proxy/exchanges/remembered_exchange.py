"""An exchange whose good answer is kept for the time when there is none (`gateway.proxy.destinations.last_good`)."""

import time

from gateway.policy.outcome import Outcome
from gateway.proxy.destinations.last_good import LastGood
from gateway.proxy.exchanges.exchange import Exchange
from gateway.proxy.routes.plan import Plan
from gateway.proxy.runtime import Runtime
from gateway.proxy.ticket import Ticket
from gateway.wire.message.response import Response
from gateway.wire.ports import Connection


class RememberedExchange(Exchange):
    """Made for requests whose answers may be kept. The answer goes to the client as it comes; what is kept is a copy of
    a whole one, from the upstream of the route itself. Its pieces are gathered only where it may be kept."""

    __slots__ = ("_good", "_last_good", "_pieces", "_size")

    def __init__(
        self, runtime: Runtime, connection: Connection, plan: Plan, ticket: Ticket, last_good: LastGood
    ) -> None:
        super().__init__(runtime, connection, plan, ticket)
        self._last_good = last_good
        self._good: Response | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    def respond(self, response: Response) -> None:
        if self._is_good(response) and self._last_good.may_keep(self.ticket, response):
            self._good = response
        super().respond(response)

    def respond_body(self, data: bytes) -> None:
        if self._good is not None:
            size = len(data)
            if self._size + size <= self._last_good.largest and self._last_good.gather(size):
                self._size += size
                self._pieces.append(data)
            else:
                self._forget()
        super().respond_body(data)

    def respond_end(self) -> None:
        good = self._good
        if good is not None:
            self._keep(good, b"".join(self._pieces), time.monotonic())
        super().respond_end()

    def _leave(self, outcome: Outcome, now: float) -> None:
        self._forget()
        super()._leave(outcome, now)

    def _forget(self) -> None:
        """No more of the answer is gathered."""
        self._good = None
        self._pieces.clear()
        self._last_good.let_go(self._size)
        self._size = 0

    def respond_whole(self, response: Response, body: bytes, now: float) -> None:
        if self._is_good(response):
            self._keep(response, body, now)
        super().respond_whole(response, body, now)

    def _is_good(self, response: Response) -> bool:
        return response.status == 200 and self.ticket.fallback is None and not self._route.filters.bodies

    def _keep(self, response: Response, body: bytes, now: float) -> None:
        ticket = self.ticket
        head = self._route.filters.changed(ticket, response).head
        self._last_good.keep(ticket, response, head, body, now)
