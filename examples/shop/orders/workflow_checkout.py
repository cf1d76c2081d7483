"""The same orders, led by the gateway: it runs the workflow `checkout` of `gateway.yaml`, with the steps, the keys and
the compensations of `checkout.py`.

The orders service starts one run for each order, with the order's id as the key, and waits for its outcome. It has no
steps to write down and nothing to undo: both are the gateway's. What is left to it is to remember that an order is not
decided, and to ask again.
"""

import asyncio
import time
from typing import Any, Final

from shop.orders.checkout import Checkout
from shop.orders.order import COMPLETED, INVENTORY_FAILED, OUT_OF_STOCK, PAYMENT_FAILED, Order
from shop.orders.store import TakenOver

WORKFLOW: Final = "/internal/checkout"
# Together less than the lease of an order.
WAIT_SECONDS: Final = 2
LOOK_SECONDS: Final = 4.0
PAUSE_SECONDS: Final = 0.2


class GatewayWorksOnIt(TakenOver):
    """The run goes on at the gateway; whoever has the order next hears how it ended."""


class WorkflowCheckout(Checkout):
    """`backwards` is for orders that were begun the other way, before the service was started with this one."""

    async def forwards(self, order: Order) -> Order:
        """The order as the outcome of its run says. `GatewayWorksOnIt` while there is none."""
        began = time.monotonic()
        items = [{"sku": sku, "quantity": quantity} for sku, quantity in order.items.items()]
        body = {"order_id": order.id, "items": items, "card": order.card}
        status, found = await self._gateway.start(WORKFLOW, body, f"{order.id}.checkout", WAIT_SECONDS)
        if 400 <= status < 500 and status not in {408, 409, 425, 429}:
            # The workflow takes no such order, and nothing was begun.
            return await self._orders.decide(order, INVENTORY_FAILED, str(found.get("reason", status)), stock="refused")
        while found.get("status") not in {"succeeded", "compensated"}:
            if "statusUrl" not in found or time.monotonic() - began > LOOK_SECONDS:
                raise GatewayWorksOnIt
            await asyncio.sleep(PAUSE_SECONDS)
            found = await self._look(found["statusUrl"])
        return await self._decided(order, found)

    async def _look(self, url: str) -> dict[str, Any]:
        shown = await self._gateway.get(url)
        steps = shown.get("steps", [])
        begun = [step["name"] for step in steps if step["state"] != "pending" or step["attempts"]]
        return {**shown, "status": shown.get("state"), "statusUrl": url, "failedStep": begun[-1] if begun else None}

    async def _decided(self, order: Order, found: dict[str, Any]) -> Order:
        if found["status"] == "succeeded":
            answer = found.get("answer") or await self._gateway.get(f"/internal/payments/payments/{order.id}")
            if "amount" not in answer:
                raise GatewayWorksOnIt
            order = await self._orders.move(order, amount=int(answer["amount"]))
            return await self._orders.decide(order, COMPLETED, None, stock="reserved", payment="paid")
        reason = str(found.get("detail") or found.get("reason") or "compensated")
        if found.get("failedStep") == "pay":
            return await self._orders.decide(order, PAYMENT_FAILED, reason, stock="released", payment="voided")
        status = OUT_OF_STOCK if reason.endswith("422") else INVENTORY_FAILED
        return await self._orders.decide(order, status, reason, stock="released")
