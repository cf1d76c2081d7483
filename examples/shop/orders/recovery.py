"""Finishes what is unfinished: orders whose process died, and what has to be undone.

It looks for orders that nobody has a lease of, several times a second and whenever one was decided with something to
undo. It moves them forwards or backwards like `checkout.py` says, and never decides anything of its own.
"""

import asyncio
import logging
import time
from typing import Final

from shop.common.database import Unavailable
from shop.common.pauses import Wake, growing
from shop.common.service import correlation
from shop.orders.checkout import Checkout
from shop.orders.metrics import Metrics
from shop.orders.order import PENDING, Order
from shop.orders.store import Orders, TakenOver

log = logging.getLogger("shop.recovery")

BATCH: Final = 20
PAUSE_SECONDS: Final = 0.25
# Between two attempts to undo something. The services are expected back within seconds, and the gateway's circuit keeps
# the attempts away from them meanwhile.
LONGEST_PAUSE_SECONDS: Final = 2.0


class Recovery:
    """The background task of the orders service that does this."""

    def __init__(self, orders: Orders, checkout: Checkout, metrics: Metrics) -> None:
        self._orders = orders
        self._checkout = checkout
        self._metrics = metrics
        self.wake = Wake()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                claimed = await self._orders.claim(BATCH)
            except Unavailable as error:
                log.warning("recovery: the database is away: %s", error)
                claimed = []
            await asyncio.gather(*(self._recover(order) for order in claimed))
            if len(claimed) < BATCH:
                await self.wake.wait(PAUSE_SECONDS)

    async def _recover(self, order: Order) -> None:
        """In the context of a task of its own, so that the correlation id is that of the order."""
        correlation.set(order.correlation_id)
        try:
            if order.status == PENDING:
                log.info("recovery: order %s goes on: stock %s, payment %s", order.id, order.stock, order.payment)
                order = await self._checkout.forwards(order)
                self._metrics.decided(order)
            if order.to_undo:
                await self._undo(order)
        except TakenOver:
            log.info("recovery: order %s has been taken over", order.id)
        except Unavailable as error:
            log.warning("recovery: order %s: the database is away: %s", order.id, error)

    async def _undo(self, order: Order) -> None:
        order, wait = await self._checkout.backwards(order)
        if order.to_undo:
            pause = growing(order.attempts, LONGEST_PAUSE_SECONDS)
            await self._orders.postpone(order, max(pause, min(wait, LONGEST_PAUSE_SECONDS)))
            return
        took = time.time() - (order.decided_at or 0.0)
        self._metrics.compensated(took)
        log.info("recovery: order %s is compensated: stock %s, payment %s", order.id, order.stock, order.payment)
