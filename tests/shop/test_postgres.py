"""The same shop on PostgreSQL: the same SQL, the same promises, also when the server is restarted."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from shop.common.connect import connect
from shop.common.database import Unavailable
from shop.processes import PACKAGE, SERVICES, Ports

from tests.shop.open_shop import OpenShop
from tests.support.ports import free_port
from tests.support.postgres_server import PostgresServer
from tests.support.processes import clean_environment

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenShop]:
    ports = Ports(*(free_port() for _ in range(5)))
    databases = {f"{name.upper()}_DATABASE_URL": postgres.new_database() for name in SERVICES}
    databases["JOURNAL_URL"] = postgres.new_database()
    command = [sys.executable, "-m", "gateway", "journal", "upgrade", "--env-file", str(PACKAGE / "gateway.env")]
    variables = {"JOURNAL_URL": databases["JOURNAL_URL"], "GATEWAY_CONFIG": str(PACKAGE / "gateway.yaml")}
    made = await asyncio.to_thread(
        subprocess.run, command, env=clean_environment(**variables), capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    opened = OpenShop(ports, tmp_path_factory.mktemp("shop"), clean_environment(**databases))
    try:
        await opened.open()
        yield opened
    finally:
        await opened.close()


async def test_orders_end_as_they_do_on_sqlite(shop: OpenShop) -> None:
    first, again = await shop.order("ada", "one", quantity=2), await shop.order("ada", "one", quantity=2)
    assert first == again
    assert (first[0], first[1]["status"], first[1]["amount"]) == (201, "completed", 1780)
    assert (await shop.order("ada", card="tok_declined"))[1]["status"] == "payment_failed"
    assert (await shop.order("ada", sku="teapot", quantity=4))[1]["status"] == "out_of_stock"
    # Many at once want the same row, and each gets its piece.
    at_once = await asyncio.gather(
        *(shop.order_until_decided(f"crowd{number}", f"crowd{number}") for number in range(12))
    )
    assert len({order["id"] for order in at_once}) == 12
    books = await shop.books()
    assert len(books.orders) == 15
    depth = "SELECT COUNT(*), MIN(created_at) FROM outbox_events WHERE NOT published"
    database = await connect(shop.shop.urls["orders"])
    [row] = await database.fetch(depth)
    await database.close()
    assert row == {"count": 0, "min": None}
    assert await shop.metric("orders", "outbox_oldest_seconds") == 0


async def test_everything_is_restarted_under_traffic_and_the_books_agree(
    shop: OpenShop, postgres: PostgresServer
) -> None:
    await shop.wait_until_well()
    stop = asyncio.Event()

    async def orders_of(customer: str) -> list[str]:
        decided: list[str] = []
        while not stop.is_set():
            order = await shop.order_until_decided(customer, f"{customer}-{len(decided)}")
            decided.append(order["id"])
        return decided

    customers = [asyncio.ensure_future(orders_of(f"customer{number}")) for number in range(4)]
    await asyncio.sleep(0.3)
    await asyncio.to_thread(postgres.stop)
    status, problem = await shop.request("payments", "GET", "/health")
    assert (status, problem["reason"]) == (503, "database_unavailable")
    await asyncio.to_thread(postgres.start)
    await asyncio.sleep(0.3)
    await shop.shop.processes["orders"].kill()
    await shop.restart("orders")
    await shop.wait_until_well()
    stop.set()
    decided = [order for each in await asyncio.gather(*customers) for order in each]
    books = await shop.books()
    assert {row["id"] for row in books.orders if row["customer"].startswith("customer")} == set(decided)


async def test_two_orders_services_on_one_database_do_not_get_in_each_others_way(shop: OpenShop) -> None:
    """The second one is stopped for longer than its lease with an order in its hands. The first one finishes it, and
    what the second one writes when it goes on changes nothing."""
    await shop.wait_until_well()
    second = shop.another("orders", free_port())
    await second.start()
    await second.wait_ready()
    try:
        await shop.chaos("payments", latency_ms=1000)
        body = {"customer": "paused", "items": [{"sku": "tea", "quantity": 1}], "card": "tok_ok"}
        late = asyncio.ensure_future(shop.request_at(second.port, "POST", "/orders", body))
        await shop.wait_for_steps("paused", ("reserved", "paying"))
        second.pause()
        await shop.chaos("payments", latency_ms=0)
        await shop.wait_for_steps("paused", ("reserved", "paid"))
        second.resume()
        status, answer = await late
        assert (status, answer["status"]) == (201, "completed")
    finally:
        await second.stop()
    assert await shop.steps("paused") == [("reserved", "paid")]
    await shop.books()


async def test_an_outage_of_the_server_is_unavailable_and_a_defect_is_not(postgres: PostgresServer) -> None:
    database = await connect(postgres.new_database())
    with pytest.raises(Exception, match="does not exist") as defect:
        await database.fetch("SELECT 1 FROM nowhere")
    assert not isinstance(defect.value, Unavailable)
    await database.close()
    nobody = await connect(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    with pytest.raises(Unavailable):
        await nobody.fetch("SELECT 1")
    await nobody.close()
