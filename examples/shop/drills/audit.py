"""The books: what must agree between the databases of the four services, whatever has been killed.

Once every order is settled and every event is published:

    money    the ledger has the amount of each completed order, and nothing of any other
    goods    what is missing on the shelf is reserved, and only for completed orders
    events   the customer of each order was told once, and told what the order says
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from shop.common.connect import connect
from shop.common.database import Database, Row, Unavailable
from shop.orders.order import COMPLETED

SETTLE_SECONDS: Final = 60.0


@dataclass
class Books:
    """What was found. `problems` is empty if all agrees."""

    orders: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def completed(self) -> set[str]:
        """The ids of the completed orders."""
        return {order["id"] for order in self.orders if order["status"] == COMPLETED}

    def with_status(self, status: str) -> int:
        """How many orders have this status."""
        return sum(order["status"] == status for order in self.orders)


async def wait_until_settled(orders: Database, seconds: float = SETTLE_SECONDS) -> float:
    """Until no order and no event is unfinished; how long it took. AssertionError after `seconds`."""
    began = time.monotonic()
    left = -1
    while time.monotonic() - began < seconds:
        try:
            [row] = await orders.fetch(
                "SELECT (SELECT COUNT(*) FROM orders WHERE settled_at IS NULL)"
                " + (SELECT COUNT(*) FROM outbox_events WHERE NOT published) AS unfinished"
            )
        except Unavailable:
            row = {"unfinished": -1}
        left = row["unfinished"]
        if left == 0:
            return time.monotonic() - began
        await asyncio.sleep(0.05)
    raise AssertionError(f"after {seconds:g} s {left} orders and events are unfinished")


async def audit(urls: Mapping[str, str], seconds: float = SETTLE_SECONDS) -> Books:
    """Wait until all is settled, then compare the databases, which `urls` names by service."""
    databases = {name: await connect(url) for name, url in urls.items()}
    try:
        await wait_until_settled(databases["orders"], seconds)
        books = Books()
        books.orders = await databases["orders"].fetch("SELECT * FROM orders")
        await _money(books, databases["payments"])
        await _goods(books, databases["inventory"])
        await _events(books, databases["orders"], databases["notifications"])
        return books
    finally:
        for database in databases.values():
            await database.close()


async def _money(books: Books, payments: Database) -> None:
    paid = {
        row["order_id"]: row["amount"]
        for row in await payments.fetch("SELECT order_id, SUM(amount) AS amount FROM ledger GROUP BY order_id")
    }
    for order in books.orders:
        due = order["amount"] if order["status"] == COMPLETED else 0
        if paid.pop(order["id"], 0) != due:
            books.problems.append(f"money: {order['id']} is {order['status']} and should have paid {due}")
    books.problems += [f"money: {amount} of {order}, which is no order" for order, amount in paid.items() if amount]


async def _goods(books: Books, inventory: Database) -> None:
    for product in await inventory.fetch(
        "SELECT products.sku, received - products.quantity AS gone, COALESCE(SUM(reserved_items.quantity), 0) AS held"
        " FROM products LEFT JOIN reserved_items ON reserved_items.sku = products.sku"
        " GROUP BY products.sku, received, products.quantity"
    ):
        if product["gone"] != product["held"]:
            books.problems.append(f"goods: {product['gone']} of {product['sku']} are gone, {product['held']} reserved")
    holders = {row["order_id"] for row in await inventory.fetch("SELECT DISTINCT order_id FROM reserved_items")}
    books.problems += [f"goods: {order} is completed and holds nothing" for order in books.completed - holders]
    books.problems += [f"goods: {order} is not completed and holds some" for order in holders - books.completed]


async def _events(books: Books, orders: Database, notifications: Database) -> None:
    books.events = await notifications.fetch("SELECT id, type, order_id FROM events")
    written = {row["id"] for row in await orders.fetch("SELECT id FROM outbox_events")}
    told: dict[str, list[str]] = {}
    for event in books.events:
        told.setdefault(event["order_id"], []).append(event["type"])
    for order in books.orders:
        if told.pop(order["id"], []) != [f"order.{order['status']}"]:
            books.problems.append(
                f"events: the customer of {order['id']} was not told once that it is {order['status']}"
            )
    books.problems += [f"events: {order} was told of and is no order" for order in told]
    books.problems += [
        f"events: {event['id']} is not in the outbox" for event in books.events if event["id"] not in written
    ]
