"""The crash walk of the orders service: it dies at every point between two things that last.

Such a point is before and after each commit of its database, and before and after each call to another service. Each
kind of order is placed again and again; the n-th time the service dies at the n-th point, and what a new one does with
its lease is what is left to do. The other services are the real ones, on their own databases. Only the way to them is
short: no gateway and no processes, so that all these deaths take seconds.
"""

import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import shop.inventory.__main__ as inventory
import shop.notifications.__main__ as notifications
import shop.payments.__main__ as payments
from aiohttp.test_utils import TestServer
from shop.common.database import Database, Transaction
from shop.common.ids import new_id
from shop.common.service import open_service
from shop.common.settings import Settings
from shop.drills.audit import audit
from shop.orders.checkout import Checkout
from shop.orders.gateway_client import GatewayClient, Outcome, Unknown
from shop.orders.metrics import Metrics
from shop.orders.order import Order
from shop.orders.outbox import Outbox
from shop.orders.recovery import Recovery
from shop.orders.store import SCHEMA, Orders

SERVICES = {"payments": payments, "inventory": inventory, "notifications": notifications}


class Death(Exception):
    """The process ends here."""


class Points:
    """Dies at the point with the number `at`, counted from 1; at none if that is 0."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.passed = 0

    def __call__(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            raise Death


class MortalDatabase(Database):
    """The real one, with a point before and after each commit."""

    def __init__(self, real: Database) -> None:
        self.real = real
        self.point = Points()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with self.real.transaction() as transaction:
            yield transaction
            self.point()
        self.point()

    async def fetch(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        return await self.real.fetch(sql, *values)

    async def create(self, schema: Sequence[str]) -> None:
        await self.real.create(schema)

    async def close(self) -> None:
        await self.real.close()


class ShortWay(GatewayClient):
    """Straight to the services, with a point before and after each call. `lost` is what a call ends with that is lost:
    the path's last part, and whether it is lost before or after it has arrived."""

    def __init__(self, servers: Mapping[str, TestServer]) -> None:
        super().__init__("http://", "nobody asks for it here")
        self._servers = servers
        self.point = Points()
        self.lost: tuple[str, str] | None = None

    async def post(self, path: str, body: Mapping[str, Any], key: str) -> Outcome:
        """As it is, but for what happens to it on the way."""
        _, _, service, rest = path.split("/", 3)
        last = rest.rpartition("/")[2]
        self.point()
        if self.lost == (last, "before"):
            return Unknown("lost")
        server = self._servers[service]
        outcome = await super().post(f"{server.host}:{server.port}/{rest}", body, key)
        self.point()
        return Unknown("lost") if self.lost == (last, "after") else outcome


class Walk:
    """The orders service in this process, with its parts made anew after each death."""

    def __init__(self, database: MortalDatabase, way: ShortWay, metrics: Metrics) -> None:
        self._database = database
        self._way = way
        self._metrics = metrics

    async def place(self, sku: str, card: str, points: Points) -> None:
        """Die at one of the points, and let others finish what is left."""
        self._database.point = self._way.point = points
        order = Order(new_id("order"), "ada", {"coffee": 1, sku: 2}, card, None, "", "-")
        try:
            await Orders(self._database).add(order)
            await Checkout(Orders(self._database), self._way).forwards(order)
        except Death:
            await self._end_leases()
        for _ in range(50):
            try:
                if not await self._go_on():
                    return
            except Death:
                pass
            await self._end_leases()
        raise AssertionError("it never ends")

    async def _go_on(self) -> bool:
        """What background tasks do in one round; whether there was something to do."""
        orders, outbox = Orders(self._database), Outbox(self._database, self._way)
        recovery = Recovery(orders, Checkout(orders, self._way), self._metrics)
        claimed = await orders.claim(20)
        for order in claimed:
            await recovery._recover(order)
        await outbox._round()
        return bool(claimed or await orders.unsettled() or await outbox.pending())

    async def _end_leases(self) -> None:
        """Time passes."""
        async with self._database.real.transaction() as transaction:
            await transaction.execute("UPDATE orders SET lease_until = 0")
            await transaction.execute("UPDATE outbox_events SET next_attempt_at = 0")


@pytest.mark.parametrize(
    ("sku", "card", "lost", "least"),
    [
        pytest.param("tea", "tok_ok", None, 10, id="completed"),
        pytest.param("tea", "tok_declined", None, 12, id="declined"),
        pytest.param("piano", "tok_ok", None, 6, id="out of stock"),
        pytest.param("tea", "tok_ok", ("payments", "before"), 14, id="the charge is lost"),
        pytest.param("tea", "tok_ok", ("payments", "after"), 14, id="the answer to the charge is lost"),
        pytest.param("tea", "tok_ok", ("reservations", "after"), 10, id="the answer to the reservation is lost"),
    ],
)
async def test_the_books_agree_wherever_the_orders_service_dies(
    tmp_path: Path, sku: str, card: str, lost: tuple[str, str] | None, least: int
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        servers: dict[str, TestServer] = {}
        for name, service in SERVICES.items():
            app = (await service.make(settings(name, tmp_path))).app
            servers[name] = server = TestServer(app)
            await stack.enter_async_context(server)
        own = await open_service(settings("orders", tmp_path), SCHEMA)
        stack.push_async_callback(own.database.close)
        database, way = MortalDatabase(own.database), ShortWay(servers)
        stack.push_async_callback(way.close)
        way.lost = lost
        walk = Walk(database, way, Metrics(own, Orders(own.database), Outbox(own.database, way)))
        for number in itertools.count(1):
            points = Points(number)
            await walk.place(sku, card, points)
            if points.passed < number:
                break
        assert points.passed >= least, "there are more points than that"
        books = await audit({name: settings(name, tmp_path).database_url for name in (*SERVICES, "orders")})
        assert books.problems == []
        assert len(books.orders) >= number - 1


def settings(name: str, directory: Path) -> Settings:
    return Settings(name, "127.0.0.1", 1, f"sqlite:///{directory / name}.db", None, "http://127.0.0.1:1", "none")
