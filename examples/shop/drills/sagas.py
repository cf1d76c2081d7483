"""Incident "Saga Compensation Failed" of the resilience runbook, with the gateway as the orchestrator: orders is
started with LEADER=gateway, and the gateway takes back what a failed order has done."""

import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from shop.drills.customers import Customers
from shop.drills.report import COMPENSATION, Drill
from shop.drills.world import BREAKER_OPEN, World
from shop.orders.order import PAYMENT_FAILED

CUSTOMERS = 4
SAGAS = "/api/resilience/sagas"


async def compensation(world: World, drill: Drill) -> None:
    """Payments fails for a while, its compensations too, and a worker of the gateway is killed meanwhile."""
    async with _led_by_the_gateway(world), world.customers(CUSTOMERS) as customers:
        completed = await world.after(lambda: _ended(customers, "completed", 4), 30)
        drill.check("orders are completed by runs of the gateway", completed is not None)
        began = time.time()
        await world.script("payment_errors", "enable", "0.9")
        failing = await world.after(lambda: _some(world, "compensating"), 30)
        drill.check("runs are compensated", failing is not None)
        shown = (await world.get("gateway", f"{SAGAS}?state=compensating&count=1"))["sagas"]
        drill.check("/api/resilience/sagas says why", all(each["reason"] for each in shown), _reasons(shown))
        # Its runs go on at another one, when its leases have ended.
        workers = (await world.get("gateway", "/api/resilience/workers"))["workers"]
        with contextlib.suppress(ProcessLookupError):
            os.kill(workers[0]["pid"], signal.SIGKILL)
        opened = await world.breaker_becomes("payments", BREAKER_OPEN, 20)
        drill.check("the breaker of payments opens", opened is not None)
        await world.script("payment_errors", "disable")
        ended = time.time()
        world.outages.append((began, ended))
        left = await world.after(lambda: _none_open(world), 60)
        drill.check("what was left is compensated", left is not None)
        taken = await world.after(lambda: _ended(customers, "completed", 1, since=ended), 60)
        drill.check("orders are completed again", taken is not None)
    failed = sum(each.status == PAYMENT_FAILED for each in customers.attempts)
    drill.check("orders ended as payment_failed", failed > 0, f"{failed} of {len(customers.attempts)}")
    stuck = await world.metric("gateway", "saga_runs", state="stuck")
    drill.check("nothing is stuck", stuck == 0, f"{stuck:g}")
    told = world.logged("gateway", "SagaOrchestrator")
    drill.check("grep SagaOrchestrator finds them", told > 0, f"{told} lines")
    times = [await _took(world, each["id"], ended) for each in await _compensated(world, began)]
    drill.within(f"{len(times)} runs are compensated", max(times, default=None), COMPENSATION)


@contextlib.asynccontextmanager
async def _led_by_the_gateway(world: World) -> AsyncIterator[None]:
    orders = world.process("orders")
    await orders.stop()
    orders.environment["LEADER"] = "gateway"
    await world.start("orders")
    try:
        yield
    finally:
        await orders.stop()
        del orders.environment["LEADER"]
        await world.start("orders")


async def _ended(customers: Customers, status: str, number: int, since: float = 0.0) -> bool:
    return sum(each.status == status and each.ended > since for each in customers.attempts) >= number


async def _some(world: World, state: str) -> bool:
    return bool((await world.get("gateway", f"{SAGAS}?state={state}&count=1"))["sagas"])


async def _none_open(world: World) -> bool:
    """Of those that customers do not begin anew all the time: nothing is being compensated."""
    return not await _some(world, "compensating")


async def _compensated(world: World, since: float) -> list[dict[str, Any]]:
    found = (await world.get("gateway", f"{SAGAS}?state=compensated&count=200"))["sagas"]
    return [each for each in found if _seconds(each["createdTime"]) >= since][:20]


async def _took(world: World, saga: str, mended: float) -> float:
    """Seconds from the failure of a step to the end of its compensation. While payments is ill nothing can be taken
    back there: from the end of that on it counts."""
    run = await world.get("gateway", f"{SAGAS}/{saga}")
    turned = [each["time"] for each in run["events"] if each["kind"] in {"compensating", "compensated"}]
    return max(0.0, _seconds(run["endedTime"]) - max(mended, _seconds(min(turned))))


def _seconds(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()


def _reasons(sagas: list[dict[str, Any]]) -> str:
    return "; ".join(str(each["reason"]) for each in sagas)
