"""Whatever is killed at whatever step: money, goods and orders agree in the end."""

import asyncio

import pytest

from tests.shop.open_shop import OpenShop

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELD_UP = 1000
"""Milliseconds for which a step is held up, so that the kill falls into it."""


@pytest.mark.parametrize(
    ("service", "chaos", "step"),
    [("inventory", "lock_contention_ms", ("reserving", "none")), ("payments", "latency_ms", ("reserved", "paying"))],
)
async def test_an_order_goes_on_after_its_service_was_killed_within_a_step(
    shop: OpenShop, service: str, chaos: str, step: tuple[str, str]
) -> None:
    """The customer, who got no answer, sends the same order again."""
    await shop.wait_until_well()
    customer = f"killed-{step[0]}"
    await shop.chaos(service, **{chaos: HELD_UP})
    lost = asyncio.ensure_future(shop.order(customer, f"{customer}-one"))
    await shop.wait_for_steps(customer, step)
    await shop.shop.processes["orders"].kill()
    await asyncio.gather(lost, return_exceptions=True)
    await shop.chaos(service, **{chaos: 0})
    await shop.restart("orders")
    order = await shop.order_until_decided(customer, f"{customer}-one")
    assert order["status"] == "completed"
    books = await shop.books()
    assert [row["id"] for row in books.orders if row["customer"] == customer] == [order["id"]]


async def test_an_order_is_taken_back_after_its_service_was_killed_before_that(shop: OpenShop) -> None:
    """inventory hangs, so nobody knows whether the stock is reserved. It is to be released, and orders is killed."""
    await shop.wait_until_well()
    shop.shop.processes["inventory"].pause()
    lost = asyncio.ensure_future(shop.order("taken-back", "taken-back-one"))
    await shop.wait_for_steps("taken-back", ("releasing", "none"))
    await shop.shop.processes["orders"].kill()
    await asyncio.gather(lost, return_exceptions=True)
    await shop.restart("orders")
    shop.shop.processes["inventory"].resume()
    books = await shop.books()
    assert [row["status"] for row in books.orders if row["customer"] == "taken-back"] == ["inventory_failed"]
    assert await shop.steps("taken-back") == [("released", "none")]


async def test_a_payment_whose_outcome_is_unknown_is_voided(shop: OpenShop) -> None:
    """payments is killed while it works: nobody knows whether the money has moved."""
    await shop.wait_until_well()
    await shop.chaos("payments", latency_ms=HELD_UP)
    answer = asyncio.ensure_future(shop.order_until_decided("unknown", "unknown-one"))
    await shop.wait_for_steps("unknown", ("reserved", "paying"))
    await shop.shop.processes["payments"].kill()
    order = await answer
    assert (order["status"], order["compensation"]) == ("payment_failed", "pending")
    await shop.restart("payments")
    await shop.books()
    assert await shop.steps("unknown") == [("released", "voided")]


async def test_each_process_is_killed_under_traffic(shop: OpenShop) -> None:
    """Four customers order all the time. Each gets a decision for each of their orders, and the books agree."""
    await shop.wait_until_well()
    stop = asyncio.Event()

    async def orders_of(customer: str) -> list[str]:
        decided: list[str] = []
        while not stop.is_set():
            order = await shop.order_until_decided(customer, f"{customer}-{len(decided)}")
            decided.append(order["id"])
        return decided

    customers = [asyncio.ensure_future(orders_of(f"customer{number}")) for number in range(4)]
    for victim in shop.shop.processes:
        await asyncio.sleep(0.3)
        await shop.shop.processes[victim].kill()
        await shop.restart(victim)
    stop.set()
    decided = [order for each in await asyncio.gather(*customers) for order in each]
    books = await shop.books()
    assert len(decided) == len(set(decided))
    assert {row["id"] for row in books.orders if row["customer"].startswith("customer")} == set(decided)
