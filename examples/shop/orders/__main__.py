"""`python -m shop.orders`: the service that takes orders, on port 8001.

POST /orders        {"customer", "items": [{"sku", "quantity"}], "card"}; with an Idempotency-Key it may be repeated
GET  /orders        ?customer=
GET  /orders/{id}
"""

import asyncio
import sys
import time
from typing import Final

from aiohttp import web

from shop.common import bodies, idempotency
from shop.common.answers import Answer, Refused
from shop.common.ids import new_id
from shop.common.service import Service, correlation, open_service, run
from shop.common.settings import Settings
from shop.orders.checkout import Checkout
from shop.orders.gateway_client import GatewayClient
from shop.orders.metrics import Metrics
from shop.orders.order import PENDING, Order
from shop.orders.outbox import Outbox
from shop.orders.recovery import Recovery
from shop.orders.store import SCHEMA, Orders, TakenOver
from shop.orders.workflow_checkout import WorkflowCheckout

# Who leads an order through its steps (LEADER).
LEADERS: Final[dict[str, type[Checkout]]] = {"orders": Checkout, "gateway": WorkflowCheckout}
# A lease and what is left to do after it; less than the gateway waits for an answer (`timeouts.attempt`).
DECISION_SECONDS: Final = 6.0


class OrdersApi:
    """The endpoints."""

    def __init__(
        self, service: Service, orders: Orders, checkout: Checkout, recovery: Recovery, outbox: Outbox, metrics: Metrics
    ) -> None:
        self._conflicts = service.conflicts
        self._orders = orders
        self._checkout = checkout
        self._recovery = recovery
        self._outbox = outbox
        self._metrics = metrics
        router = service.app.router
        router.add_post("/orders", self.place)
        router.add_get("/orders", self.of_customer)
        router.add_get("/orders/{order_id}", self.show)

    async def place(self, request: web.Request) -> web.Response:
        """201 with the order and what has become of it, also where the payment has failed: the order is there."""
        order = await self._read(request)
        if not await self._orders.add(order):
            return await self._again(order)
        try:
            order = await self._checkout.forwards(order)
        except TakenOver:
            # This process was stopped for longer than its lease, and the recovery of another one went on; or the
            # gateway leads the order, and is not at its end yet.
            return Answer(201, (await self._decided(order)).as_json()).response()
        self._metrics.decided(order)
        self._outbox.wake.ring()
        if order.to_undo:
            self._recovery.wake.ring()
        return Answer(201, order.as_json()).response()

    async def show(self, request: web.Request) -> web.Response:
        """One order."""
        order = await self._orders.get(request.match_info["order_id"])
        if order is None:
            raise Refused(404, "not_found", "there is no such order")
        return Answer(200, order.as_json()).response()

    async def of_customer(self, request: web.Request) -> web.Response:
        """The orders of a customer."""
        customer = request.query.get("customer")
        if not customer:
            raise Refused(400, "invalid", "customer must be in the query")
        found = await self._orders.of_customer(customer)
        return Answer(200, {"orders": [order.as_json() for order in found]}).response()

    async def _read(self, request: web.Request) -> Order:
        body = await bodies.json_object(request)
        return Order(
            id=new_id("order"),
            customer=bodies.text(body, "customer"),
            items=bodies.items(body),
            card=bodies.text(body, "card"),
            idempotency_key=idempotency.key_of(request),
            fingerprint=idempotency.fingerprint(request, body),
            correlation_id=correlation.get(),
        )

    async def _again(self, order: Order) -> web.Response:
        """The customer has sent an order with this key before."""
        found = await self._orders.with_key(order.customer, order.idempotency_key or "")
        if found is None or found.fingerprint != order.fingerprint:
            raise Refused(422, "idempotency_key_reused", "this Idempotency-Key belongs to another order")
        if found.status == PENDING:
            self._conflicts.inc()
            found = await self._decided(found)
        return Answer(201, found.as_json(), replayed=True).response()

    async def _decided(self, order: Order) -> Order:
        """Somebody else works on the order: its first request, or the recovery once the lease of that is over. Wait for
        the decision. A 409 in its place would be an answer, and whoever keeps answers would repeat it for ever."""
        deadline = time.monotonic() + DECISION_SECONDS
        while time.monotonic() < deadline:
            found = await self._orders.get(order.id)
            if found is not None and found.status != PENDING:
                return found
            await asyncio.sleep(0.1)
        raise Refused(503, "order_in_progress", f"{order.id} is not decided yet", retry_after=1)


async def make(settings: Settings) -> Service:
    """The service, ready to be run."""
    service = await open_service(settings, SCHEMA)
    gateway = GatewayClient(settings.gateway_url, settings.gateway_key)
    service.app.on_cleanup.append(lambda _: gateway.close())
    orders = Orders(service.database)
    outbox = Outbox(service.database, gateway)
    metrics = Metrics(service, orders, outbox)
    checkout = LEADERS[settings.leader](orders, gateway)
    recovery = Recovery(orders, checkout, metrics)
    service.in_background(recovery.run)
    service.in_background(outbox.run)
    OrdersApi(service, orders, checkout, recovery, outbox, metrics)
    return service


if __name__ == "__main__":
    sys.exit(run("orders", 8001, make))
