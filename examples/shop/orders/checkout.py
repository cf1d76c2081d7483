"""How an order goes from a request to its decision, and how it is taken back.

    forwards    reserve the stock, then take the money; then it is completed
    backwards   release the stock and void the payment, each until it works

Before each call the order says in its table that the call may happen; after it, what came of it. So whoever finds the
order after a crash knows what may have happened, and does the same call again with the same key. Nothing else is
needed to be sure: the services do one thing once for each key, and refuse what comes after it was taken back.

What is unknown may have happened, and is taken back. The two directions do not wait for each other's services: goods
go back on the shelf while the payments service is still down.

The gateway can do the same from its configuration: `workflow_checkout.py`.
"""

import asyncio
from typing import Final

from shop.orders.gateway_client import Done, GatewayClient, Outcome, Refusal, Unknown
from shop.orders.order import COMPLETED, INVENTORY_FAILED, OUT_OF_STOCK, PAYMENT_FAILED, PENDING, Order
from shop.orders.store import Orders

INVENTORY: Final = "/internal/inventory"
PAYMENTS: Final = "/internal/payments"


class Checkout:
    """Moves orders. `TakenOver` and `Unavailable` leave every method; the order is then recovered by whoever claims it
    next."""

    def __init__(self, orders: Orders, gateway: GatewayClient) -> None:
        self._orders = orders
        self._gateway = gateway

    async def forwards(self, order: Order) -> Order:
        """From wherever a pending order stands to its decision."""
        if order.stock == "reserving":
            order = await self._reserve(order)
        if order.status == PENDING:
            order = await self._pay(order)
        return order

    async def backwards(self, order: Order) -> tuple[Order, float]:
        """Undo what is to be undone. The order as it is then, and after how many seconds to try again what could not
        be undone; 0 if there is a choice."""
        release, void = await asyncio.gather(self._release(order), self._void(order))
        stock = "released" if isinstance(release, Done) else order.stock
        payment = "voided" if isinstance(void, Done) else order.payment
        if (stock, payment) != (order.stock, order.payment):
            order = await self._orders.undone(order, stock=stock, payment=payment)
        waits = [outcome.retry_after for outcome in (release, void) if isinstance(outcome, Unknown)]
        return order, max(waits, default=0.0)

    async def _reserve(self, order: Order) -> Order:
        items = [{"sku": sku, "quantity": quantity} for sku, quantity in order.items.items()]
        body = {"order_id": order.id, "items": items}
        outcome = await self._gateway.post(f"{INVENTORY}/reservations", body, f"{order.id}.reserve")
        match outcome:
            case Done(answer):
                return await self._orders.move(order, stock="reserved", amount=int(answer["amount"]), payment="paying")
            case Refusal("out_of_stock" as reason):
                return await self._orders.decide(order, OUT_OF_STOCK, reason, stock="refused")
            case Refusal(reason):
                return await self._orders.decide(order, INVENTORY_FAILED, reason, stock="refused")
            case Unknown(reason):
                return await self._orders.decide(order, INVENTORY_FAILED, reason, stock="releasing")

    async def _pay(self, order: Order) -> Order:
        body = {"order_id": order.id, "amount": order.amount, "card": order.card}
        outcome = await self._gateway.post(f"{PAYMENTS}/payments", body, f"{order.id}.pay")
        match outcome:
            case Done():
                return await self._orders.decide(order, COMPLETED, None, payment="paid")
            case Refusal(reason):
                return await self._orders.decide(order, PAYMENT_FAILED, reason, payment="refused", stock="releasing")
            case Unknown(reason):
                return await self._orders.decide(order, PAYMENT_FAILED, reason, payment="voiding", stock="releasing")

    async def _release(self, order: Order) -> Outcome | None:
        if order.stock != "releasing":
            return None
        return await self._gateway.post(f"{INVENTORY}/reservations/{order.id}/release", {}, f"{order.id}.release")

    async def _void(self, order: Order) -> Outcome | None:
        if order.payment != "voiding":
            return None
        return await self._gateway.post(f"{PAYMENTS}/payments/{order.id}/void", {}, f"{order.id}.void")
