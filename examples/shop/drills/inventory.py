"""Incident "Inventory Lock Contention": reservations hold their locks too long, and must not hold up all the others."""

import time

from shop.drills.customers import Customers
from shop.drills.report import TRANSIENT, Drill, percentile
from shop.drills.world import World

CROWD = 30
ENOUGH = 5
# What inventory_lock.sh sets.
HELD_SECONDS = 0.15


async def contention(world: World, drill: Drill) -> None:
    """`inventory_lock.sh enable` under more customers than the bulkhead of inventory lets in."""
    before = await world.metric("gateway", "bulkhead_rejections_total", downstream="inventory")
    async with world.customers(CROWD, pause=0.5) as customers:
        calm = time.time()
        quiet = await world.after(lambda: _decided(customers, calm, CROWD), 30)
        drill.check("the crowd is served while all is well", quiet is not None)
        began = time.time()
        await world.script("inventory_lock", "enable")

        async def climbs() -> bool:
            return await world.metric("gateway", "bulkhead_rejections_total", downstream="inventory") > before

        full = await world.after(climbs, 30)
        drill.check("bulkhead_rejections_total{downstream=inventory} climbs", full is not None)
        slow = await world.after(lambda: _decided(customers, began, CROWD // 2), 30)
        drill.check("the gateway goes on answering", slow is not None)

        async def some_get_through() -> bool:
            return len(_completed_in(customers, began)) >= ENOUGH

        drill.check("some get through", await world.after(some_get_through, 30) is not None)
        chaos = await world.get("inventory", "/chaos/config")
        drill.check("/chaos/config shows lock_contention_ms", chaos["lock_contention_ms"] == 1000 * HELD_SECONDS, chaos)
        await world.script("inventory_lock", "disable")
        ended = time.time()
        world.outages.append((began, ended))

        async def completes() -> bool:
            return customers.completed_after(ended) is not None

        await world.after(completes, 60)
        drill.within("orders are completed again", customers.completed_after(ended), TRANSIENT)
    p95 = percentile(_completed_in(customers, began)[:ENOUGH], 95)
    drill.check("those that get through wait for the locks", p95 >= HELD_SECONDS, f"95th percentile {p95:.2f} s")


async def _decided(customers: Customers, since: float, number: int) -> bool:
    return sum(each.placed and each.ended > since for each in customers.attempts) >= number


def _completed_in(customers: Customers, since: float) -> list[float]:
    """The seconds that each completed order took which was begun since then."""
    return [each.ended - each.began for each in customers.attempts if each.began > since and each.status == "completed"]
