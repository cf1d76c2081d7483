"""The gateway's own incidents: what is killed, stopped or locked while customers order."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import time

from shop.drills.customers import Customers
from shop.drills.report import BREAKER, TRANSIENT, Drill, Level
from shop.drills.world import BREAKER_CLOSED, World

CUSTOMERS = 4


async def nothing(world: World, drill: Drill) -> None:
    """The health checks of the runbook, while nothing is broken."""
    for name in world.shop.processes:
        health = await world.get(name, "/health")
        drill.check(f"{name} is healthy", health["status"] == "healthy", health.get("reasons") or "")
    circuits = await world.get("gateway", "/status/breakers")
    drill.check("/status/breakers has every circuit closed", all(each["value"] == 0 for each in circuits.values()))
    async with world.customers(CUSTOMERS) as customers:
        await _some_orders(world, customers)
    seen = {each.status for each in customers.attempts}
    drill.check("orders are completed", seen == {"completed"}, f"{len(customers.attempts)} orders")


async def orders_killed(world: World, drill: Drill) -> None:
    """kill -9 of the service that has orders in its hands. Nobody's order is lost, and none is placed twice."""
    async with world.customers(2, pause=0.0) as customers:
        await _some_orders(world, customers)
        began = time.time()
        await world.process("orders").kill()
        await asyncio.sleep(0.5)
        await world.start("orders")
        ended = time.time()
        world.outages.append((began, ended))
        await _completes(world, drill, customers, ended, BREAKER)
    lost = [each.key for each in customers.attempts if not each.placed]
    drill.check("every customer has got a decision", not lost, lost or f"{len(customers.attempts)} orders")


async def worker_killed(world: World, drill: Drill) -> None:
    """kill -9 of a worker process of the gateway."""
    async with world.customers(CUSTOMERS) as customers:
        await _some_orders(world, customers)
        workers = await _workers(world)
        os.kill(workers[0], signal.SIGKILL)
        ended = time.time()

        async def replaced() -> bool:
            now = await _workers(world)
            return len(now) == len(workers) and workers[0] not in now

        await _completes(world, drill, customers, ended, TRANSIENT)
        # The other worker serves meanwhile, so this is no outage.
        drill.check("another worker takes its place", await world.after(replaced, 30) is not None)


async def redis_stopped(world: World, drill: Drill) -> None:
    """kill -9 of Redis. The gateway goes on with limits and circuits of its own."""
    if world.redis is None:
        drill.skipped = "there is no redis-server on this machine"
        return
    async with world.customers(CUSTOMERS) as customers:
        await _some_orders(world, customers)
        began = time.time()
        await world.redis.kill()
        await _completes(world, drill, customers, began, TRANSIENT)

        async def redis_is(status: str) -> bool:
            return bool((await world.get("gateway", "/health"))["checks"]["redis"]["status"] == status)

        degraded = await world.after(lambda: redis_is("degraded"), 10)
        drill.check("/health says that Redis is away", degraded is not None)
        await world.start_redis()
        drill.within("the gateway is with Redis again", await world.after(lambda: redis_is("healthy"), 10), TRANSIENT)
    failed = sum(each.failed_requests for each in customers.attempts)
    drill.check("no request of a customer failed", failed == 0, f"{failed} of {len(customers.attempts)}")


async def database_locked(world: World, drill: Drill) -> None:
    """Another program holds the write lock of inventory's database."""
    async with world.customers(CUSTOMERS) as customers:
        await _some_orders(world, customers)
        began = time.time()

        async def refused() -> bool:
            reasons = [each.order["reason"] for each in customers.attempts if each.order and each.began > began]
            return not {"database_unavailable", "upstream_timeout", "timeout", "circuit_open"}.isdisjoint(reasons)

        with contextlib.closing(sqlite3.connect(world.directory / "inventory.db", isolation_level=None)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            given_up = await world.after(refused, 30)
            drill.check("orders are given up, and do not wait for ever", given_up is not None)
            shelf = await world.get("inventory", "/products")
            drill.check("what only reads goes on", bool(shelf["products"]))
        ended = time.time()
        world.outages.append((began, ended))
        await _completes(world, drill, customers, ended, BREAKER)
        closed = await world.breaker_becomes("inventory", BREAKER_CLOSED, 60)
        drill.within("the breaker of inventory is closed", closed, BREAKER)


async def _some_orders(world: World, customers: Customers) -> None:
    """All is well before it breaks."""

    async def some() -> bool:
        return sum(each.status == "completed" for each in customers.attempts) >= CUSTOMERS

    await world.after(some, 30)


async def _completes(world: World, drill: Drill, customers: Customers, ended: float, level: Level) -> None:
    async def completes() -> bool:
        return customers.completed_after(ended) is not None

    await world.after(completes, level.limit)
    drill.within("orders are completed again", customers.completed_after(ended), level)


async def _workers(world: World) -> list[int]:
    """The pids of those that serve."""
    workers = (await world.get("gateway", "/api/resilience/workers"))["workers"]
    return sorted(worker["pid"] for worker in workers if worker["state"] == "ready")
