"""Incident "Inventory Lock Contention": reservations hold their locks too long, and must not hold up all the others."""

import statistics
import time

from shop.drills.customers import Customers
from shop.drills.report import TRANSIENT, Drill
from shop.drills.world import World

CROWD = 30
# What inventory_lock.sh sets.
HELD_SECONDS = 0.3


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
        chaos = await world.get("inventory", "/chaos/config")
        drill.check("/chaos/config shows lock_contention_ms", chaos["lock_contention_ms"] == 1000 * HELD_SECONDS, chaos)
        await world.script("inventory_lock", "disable")
        ended = time.time()
        world.outages.append((began, ended))

        async def completes() -> bool:
            return customers.completed_after(ended) is not None

        await world.after(completes, 60)
        drill.within("orders are completed again", customers.completed_after(ended), TRANSIENT)
    took = [
        each.ended - each.began
        for each in customers.attempts
        if each.began > began and each.ended < ended and each.status == "completed"
    ]
    p95 = statistics.quantiles(took, n=20)[-1] if len(took) > 1 else max(took, default=0.0)
    drill.check(
        "orders that get through wait for the locks", not took or p95 >= HELD_SECONDS, f"95th percentile {p95:.2f} s"
    )


async def _decided(customers: Customers, since: float, number: int) -> bool:
    return sum(each.placed and each.ended > since for each in customers.attempts) >= number
