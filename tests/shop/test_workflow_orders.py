"""Orders that the gateway leads: LEADER=gateway, and the workflow of the shop's gateway.yaml."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from shop.common.settings import Settings
from shop.processes import Ports

from tests.shop.open_shop import OpenShop
from tests.support.ports import free_port
from tests.support.processes import clean_environment

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenShop]:
    ports = Ports(*(free_port() for _ in range(5)))
    opened = OpenShop(ports, tmp_path_factory.mktemp("shop"), clean_environment(LEADER="gateway"))
    try:
        await opened.open()
        yield opened
    finally:
        await opened.close()


async def test_an_order_is_completed_by_a_run(shop: OpenShop) -> None:
    status, order = await shop.order("ada", "w-1", quantity=2)
    assert (status, order["status"], order["amount"], order["compensation"]) == (201, "completed", 1780, "none")
    assert (await shop.order("ada", "w-1", quantity=2))[1]["id"] == order["id"]
    _, page = await shop.request("gateway", "GET", "/api/resilience/sagas?workflow=checkout&count=1")
    _, run = await shop.request("gateway", "GET", f"/api/resilience/sagas/{page['sagas'][0]['id']}")
    assert [(step["name"], step["state"]) for step in run["steps"]] == [("reserve", "done"), ("pay", "done")]
    assert await shop.steps("ada") == [("reserved", "paid")]


async def test_what_was_reserved_goes_back_when_the_card_is_declined(shop: OpenShop) -> None:
    status, order = await shop.order("bob", "w-2", card="tok_declined")
    assert (status, order["status"], order["reason"]) == (201, "payment_failed", "pay: answered 402")
    assert order["compensation"] == "done"


async def test_what_is_not_there_is_not_sold(shop: OpenShop) -> None:
    status, order = await shop.order("eve", "w-3", sku="teapot", quantity=4)
    assert (status, order["status"]) == (201, "out_of_stock")


async def test_an_order_goes_on_when_its_service_dies(shop: OpenShop) -> None:
    await shop.chaos("payments", latency_ms=400)
    try:
        deciding = asyncio.ensure_future(shop.order_until_decided("kim", "w-4"))
        await shop.wait_for_steps("kim", ("reserving", "none"))
        await shop.shop.processes["orders"].kill()
        await shop.restart("orders")
        order = await deciding
    finally:
        await shop.request("payments", "DELETE", "/chaos/config")
    assert order["status"] == "completed"


async def test_the_books_agree(shop: OpenShop) -> None:
    assert (await shop.books()).problems == []


async def test_nobody_else_leads() -> None:
    with pytest.raises(ValueError, match="LEADER must be orders or gateway"):
        Settings.of("orders", 8001, {"LEADER": "customers"})
