"""Incident "Gateway Overload (High 429 Rate)": one client sends far more than its share."""

import asyncio
import sys
import time

import aiohttp

from shop.drills.report import Drill, percentile
from shop.drills.world import World

CONNECTIONS = 240
RUNAWAY_ADDRESS = "127.0.0.9"
ACCEPTABLE_P99_SECONDS = 5.0


async def runaway(world: World, drill: Drill) -> None:
    """The runaway client has an address of its own where the loopback has many (Linux), so the gateway can tell it
    apart. What it meets does not count for the service levels; what the others meet does."""
    before = await world.metric("gateway", "load_shed_total")
    seconds = 2.0 if world.quick else 10.0
    async with world.customers(4) as customers:
        began = time.time()
        refused = await _flood(world, seconds)
        # A machine that is busy with other things takes longer to send more than the gateway can take.
        while not refused and time.time() < began + seconds * world.slack:
            refused = await _flood(world, seconds)
        ended = time.time()
    shed = await world.metric("gateway", "load_shed_total") - before
    drill.check("load_shed_total climbs", shed > 0, f"by {shed:g}")
    waits = sorted(set(refused))
    told = bool(waits) and min(waits) >= 5
    drill.check("the runaway client gets 429 with Retry-After: 5", told, f"{len(refused)} times, of {waits} s")
    took = [each.served_in for each in customers.attempts if began <= each.began <= ended and each.placed]
    p99 = percentile(took, 99)
    limit = ACCEPTABLE_P99_SECONDS * world.slack
    seen = f"{len(took)} orders, 99th percentile {p99:.2f} s, allowed {limit:g} s"
    drill.check("what is admitted of the others is served in time", bool(took) and p99 < limit, seen)
    total = await world.metric("gateway", "http_requests_total", service="gateway")
    drill.check('http_requests_total{service="gateway"} counts them', total > 0, f"{total:g}")


async def _flood(world: World, seconds: float) -> list[int]:
    """The Retry-After of each 429 that came."""
    found: list[int] = []
    end = time.monotonic() + seconds
    local = (RUNAWAY_ADDRESS, 0) if sys.platform == "linux" else None
    connector = aiohttp.TCPConnector(limit=0, local_addr=local)
    body = {"customer": "runaway", "items": [{"sku": "tea", "quantity": 1}], "card": "tok_ok"}

    async def one(session: aiohttp.ClientSession) -> None:
        while time.monotonic() < end:
            try:
                async with session.post(f"{world.url('gateway')}/orders", json=body) as answer:
                    await answer.read()
                    if answer.status == 429:
                        found.append(int(answer.headers.get("Retry-After", "0")))
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            await asyncio.sleep(0.5)

    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=20.0)) as session:
        await asyncio.gather(*(one(session) for _ in range(CONNECTIONS)))
    return found
