"""Incident "Payment Service Degradation": payments fails, is slow, or is gone."""

import time

from shop.drills.report import BREAKER, Drill
from shop.drills.world import BREAKER_CLOSED, BREAKER_OPEN, World
from shop.orders.order import PAYMENT_FAILED

CUSTOMERS = 4


async def errors(world: World, drill: Drill) -> None:
    """`payment_errors.sh enable`, the symptoms, and the immediate response of the runbook."""
    errors_before = await world.metric("gateway", "downstream_errors_total", to_service="payments")
    async with world.customers(CUSTOMERS) as customers:
        began = time.time()
        await world.script("payment_errors", "enable")
        opened = await world.breaker_becomes("payments", BREAKER_OPEN, 20)
        drill.check("breaker_state{downstream=payments} becomes 1", opened is not None, _after(opened))
        fallen = await world.after(lambda: _success_below(world, 0.95), 20)
        drill.check("order_success_rate falls below 95 %", fallen is not None, _after(fallen))
        more = await world.metric("gateway", "downstream_errors_total", to_service="payments") - errors_before
        drill.check("downstream_errors_total{to_service=payments} climbs", more > 0, f"by {more:g}")
        told = await world.after(lambda: _told_of(world), 5)
        drill.check("/status/breakers tells of it", told is not None, _after(told))
        drill.check("payments says that it is healthy", (await world.get("payments", "/health"))["status"] == "healthy")
        chaos = await world.get("payments", "/chaos/config")
        drill.check("/chaos/config shows what was left on", chaos["error_rate"] == 0.8, chaos)
        await world.script("payment_errors", "disable")
        await world.script("payment_slow", "disable")
        ended = time.time()
        world.outages.append((began, ended))
        drill.within(
            "the breaker closes by itself", await world.breaker_becomes("payments", BREAKER_CLOSED, 60), BREAKER
        )
    failed = sum(each.status == PAYMENT_FAILED for each in customers.attempts)
    drill.check("orders ended as payment_failed", failed > 0, f"{failed} of {len(customers.attempts)}")


async def slow(world: World, drill: Drill) -> None:
    """`payment_slow.sh enable`: every payment takes longer than the gateway waits."""
    async with world.customers(CUSTOMERS):
        began = time.time()
        await world.script("payment_slow", "enable")
        opened = await world.breaker_becomes("payments", BREAKER_OPEN, 30)
        drill.check("breaker_state{downstream=payments} becomes 1", opened is not None, _after(opened))
        timeouts = await world.metric("gateway", "downstream_errors_total", to_service="payments", category="Timeout")
        drill.check("they are timeouts", timeouts > 0, f"{timeouts:g}")
        await world.script("payment_slow", "disable")
        world.outages.append((began, time.time()))
        drill.within(
            "the breaker closes by itself", await world.breaker_becomes("payments", BREAKER_CLOSED, 60), BREAKER
        )


async def down(world: World, drill: Drill) -> None:
    """ "If Payment Service is Genuinely Down": kill -9, and nobody does anything but start it again."""
    async with world.customers(CUSTOMERS) as customers:
        began = time.time()
        await world.process("payments").kill()
        opened = await world.breaker_becomes("payments", BREAKER_OPEN, 20)
        drill.check("the breaker opens", opened is not None, _after(opened))

        async def taken() -> bool:
            return sum(each.status == PAYMENT_FAILED and each.began > began for each in customers.attempts) >= 5

        accepted = await world.after(taken, 30)
        drill.check("orders are still taken, as payment_failed", accepted is not None, _after(accepted))
        await world.start("payments")
        world.outages.append((began, time.time()))
        drill.within(
            "the breaker closes by itself", await world.breaker_becomes("payments", BREAKER_CLOSED, 60), BREAKER
        )
    repeated = [each for each in customers.attempts if each.placed][-5:]
    same = [(await customers.repeat(each) or {}).get("id") == (each.order or {})["id"] for each in repeated]
    drill.check("an order that is sent again with its key is the same order", all(same) and bool(same))
    [row] = await world.query(
        "notifications", "SELECT COUNT(*) AS number FROM events WHERE type = 'order.payment_failed'"
    )
    drill.check("their customers are told: /events", row["number"] > 0, f"{row['number']} of payment_failed")


async def _success_below(world: World, rate: float) -> bool:
    return await world.metric("orders", "order_success_rate") < rate


def _after(seconds: float | None) -> str:
    return "not seen" if seconds is None else f"after {seconds:.2f} s"


async def _told_of(world: World) -> bool:
    """Each worker of the gateway answers with what it knows; the one that asks last hears of a trip within 0.25 s."""
    return bool((await world.get("gateway", "/status/breakers"))["payments"]["value"] != 0)
