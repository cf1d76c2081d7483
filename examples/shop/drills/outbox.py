"""Incident "Outbox Events Not Being Published": notifications is gone, and then the relay is restarted."""

import time

from shop.drills.report import BREAKER, Drill
from shop.drills.world import World

DEPTH = "SELECT COUNT(*) AS number, MIN(created_at) AS oldest FROM outbox_events WHERE NOT published"


async def backlog(world: World, drill: Drill) -> None:
    """Events wait in the table while orders are taken, over a restart of the relay, and then all of them arrive."""
    enough = 20 if world.quick else 101
    async with world.customers(4, pause=0.0) as customers:
        began = time.time()
        await world.process("notifications").kill()

        async def piled_up() -> bool:
            return await world.metric("orders", "outbox_pending") >= enough

        grown = await world.after(piled_up, 60)
        drill.check(f"outbox_pending grows to {enough}", grown is not None)
        [row] = await world.query("orders", DEPTH)
        drill.check(
            "the statement of the runbook tells the depth", row["number"] >= enough and row["oldest"], dict(row)
        )
        drill.check("the log of orders tells of the outbox", world.logged("orders", "outbox") > 0)
        completed = customers.completed_after(began)
        drill.check("orders do not wait for their events", completed is not None)
    await world.process("orders").stop()
    await world.start("orders")
    waiting = (await world.query("orders", DEPTH))[0]["number"]
    drill.check("a restart of orders loses none of them", waiting >= enough, f"{waiting} wait")
    await world.start("notifications")
    world.outages.append((began, time.time()))

    async def published() -> bool:
        return await world.metric("orders", "outbox_pending") == 0

    drill.within("all are published when notifications is back", await world.after(published, 60), BREAKER)
