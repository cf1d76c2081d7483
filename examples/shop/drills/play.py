"""Plays drills one after the other on one shop, and looks into the books after each of them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from shop.drills import crashes, inventory, outbox, overload, payments, sagas
from shop.drills.audit import Books, audit
from shop.drills.report import COMPENSATION, Drill
from shop.drills.world import BREAKER_CLOSED, World
from shop.processes import SERVICES, Failure

DRILL_SECONDS: Final = 180.0
AUDIT_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Incident:
    """`name` is for the command line. `quick` ones are played in the quick form, too."""

    name: str
    title: str
    play: Callable[[World, Drill], Awaitable[None]]
    quick: bool = True


INCIDENTS: Final = (
    Incident("health", "Health Checks", crashes.nothing),
    Incident("payment-errors", "Payment Service Degradation: errors", payments.errors),
    Incident("payment-slow", "Payment Service Degradation: slow answers", payments.slow, quick=False),
    Incident("payment-down", "Payment Service is Genuinely Down (kill -9)", payments.down),
    Incident("inventory-lock", "Inventory Lock Contention", inventory.contention),
    Incident("overload", "Gateway Overload (High 429 Rate)", overload.runaway),
    Incident("outbox", "Outbox Events Not Being Published", outbox.backlog),
    Incident("saga", "Saga Compensation by the Gateway", sagas.compensation),
    Incident("redis-stopped", "Redis stopped", crashes.redis_stopped),
    Incident("orders-killed", "Upstream killed: orders (kill -9)", crashes.orders_killed),
    Incident("worker-killed", "Gateway worker killed (kill -9)", crashes.worker_killed),
    Incident("database-locked", "Database of a service locked", crashes.database_locked),
)


async def play(world: World, incidents: Sequence[Incident], tell: Callable[[str], None]) -> list[Drill]:
    """Each of them on the shop, which is open. `tell` gets the lines of each drill when it is over."""
    drills = []
    for incident in incidents:
        drill = Drill(incident.title, world.slack)
        began = time.time()
        try:
            async with asyncio.timeout(DRILL_SECONDS * world.slack):
                await world.mend()
                await incident.play(world, drill)
                if drill.skipped is None:
                    await _calm(world)
                    _compare(world, drill, await audit(world.shop.urls, AUDIT_SECONDS * world.slack), began)
        except Exception as error:  # noqa: BLE001 - whatever it is, it fails this drill, and the others are played
            drill.check("the drill came to its end", False, f"{type(error).__name__}: {error}")
        drill.seconds = time.time() - began
        for line in drill.lines():
            tell(line)
        drills.append(drill)
    return drills


def _compare(world: World, drill: Drill, books: Books, began: float) -> None:
    """The books agree, and what had to be taken back was taken back in time."""
    some = "; ".join(books.problems[:3])
    drill.check("money, goods, orders and events agree", not books.problems, some or f"{len(books.orders)} orders")
    times = [
        # While a service is away nothing can be taken back there: from its end on it counts.
        order["settled_at"] - max([order["decided_at"], *(end for _, end in world.outages)])
        for order in books.orders
        if order["stock"] == "released" and order["decided_at"] > began
    ]
    if times:
        drill.within(f"{len(times)} orders are compensated", max(0.0, *times), COMPENSATION)


async def _calm(world: World) -> None:
    """Until every circuit is closed again, so that the next drill begins with a shop that is well."""

    async def closed() -> bool:
        return all([await world.breaker(name) == BREAKER_CLOSED for name in SERVICES])

    async with world.customers(1):
        if await world.after(closed, 60) is None:
            raise Failure("circuits are still open a minute later")
