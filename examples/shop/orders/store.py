"""The tables of the orders service. Every change of an order is one transaction.

Somebody works on every order that is not settled: the request that made it, or later the recovery. A lease says until
when; a process that is killed simply does not renew it. Who takes over raises `fence`, and every change names the fence
that it has seen. A process that was stopped and comes back changes nothing then: it gets `TakenOver`.

An order and the event that tells of its decision are written in one transaction, so there is never one without the
other. `outbox.py` sends the events.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from shop.common.database import Database, Transaction, Value
from shop.common.ids import new_id
from shop.orders.order import COMPLETED, Order

SCHEMA: Final = (
    """
    CREATE TABLE IF NOT EXISTS orders (
        id TEXT PRIMARY KEY,
        customer TEXT NOT NULL,
        items TEXT NOT NULL,
        card TEXT NOT NULL,
        idempotency_key TEXT,
        fingerprint TEXT NOT NULL,
        correlation_id TEXT NOT NULL,
        amount BIGINT NOT NULL,
        status TEXT NOT NULL,
        reason TEXT,
        stock TEXT NOT NULL,
        payment TEXT NOT NULL,
        fence BIGINT NOT NULL,
        lease_until DOUBLE PRECISION NOT NULL,
        attempts BIGINT NOT NULL,
        decided_at DOUBLE PRECISION,
        settled_at DOUBLE PRECISION,
        created_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
        UNIQUE (customer, idempotency_key)
    )
    """,
    "CREATE INDEX IF NOT EXISTS orders_not_settled ON orders (lease_until) WHERE settled_at IS NULL",
    "CREATE INDEX IF NOT EXISTS orders_decided ON orders (decided_at)",
    """
    CREATE TABLE IF NOT EXISTS outbox_events (
        id TEXT PRIMARY KEY,
        order_id TEXT NOT NULL,
        body TEXT NOT NULL,
        created_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
        published BOOLEAN NOT NULL DEFAULT FALSE,
        published_at DOUBLE PRECISION,
        attempts BIGINT NOT NULL DEFAULT 0,
        next_attempt_at DOUBLE PRECISION NOT NULL DEFAULT 0,
        last_error TEXT
    )
    """,
    "CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox_events (next_attempt_at) WHERE NOT published",
)
# Longer than one call of `gateway_client.py` and the commit after it; shorter than what a customer wants to wait for
# the end of an order whose process was killed.
LEASE_SECONDS: Final = 5.0
SUCCESS_WINDOW_SECONDS: Final = 60.0


class TakenOver(Exception):
    """Another process works on this order now."""


class Orders:
    """Keeps orders; every method raises `Unavailable` where the database does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, order: Order) -> bool:
        """Write a new order; False if the customer has one with this idempotency key."""
        columns: dict[str, Value] = {
            "id": order.id,
            "customer": order.customer,
            "items": json.dumps(order.items),
            "card": order.card,
            "idempotency_key": order.idempotency_key,
            "fingerprint": order.fingerprint,
            "correlation_id": order.correlation_id,
            "amount": order.amount,
            "status": order.status,
            "stock": order.stock,
            "payment": order.payment,
            "fence": order.fence,
            "attempts": order.attempts,
            "lease_until": time.time() + LEASE_SECONDS,
        }
        places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
        sql = f"INSERT INTO orders ({', '.join(columns)}) VALUES ({places}) ON CONFLICT DO NOTHING"  # noqa: S608 - only names from above
        async with self._database.transaction() as transaction:
            return bool(await transaction.execute(sql, *columns.values()))

    async def get(self, order_id: str) -> Order | None:
        """The order as it stands."""
        rows = await self._database.fetch("SELECT * FROM orders WHERE id = $1", order_id)
        return Order.of(rows[0]) if rows else None

    async def with_key(self, customer: str, key: str) -> Order | None:
        """The order that this customer has made with this idempotency key."""
        rows = await self._database.fetch(
            "SELECT * FROM orders WHERE customer = $1 AND idempotency_key = $2", customer, key
        )
        return Order.of(rows[0]) if rows else None

    async def of_customer(self, customer: str) -> list[Order]:
        """The last hundred, the newest first."""
        rows = await self._database.fetch(
            "SELECT * FROM orders WHERE customer = $1 ORDER BY id DESC LIMIT 100", customer
        )
        return [Order.of(row) for row in rows]

    async def claim(self, most: int) -> list[Order]:
        """Orders that nobody works on, which are the caller's for one lease."""
        now = time.time()
        async with self._database.transaction() as transaction:
            # The condition stands twice: of two processes that pick the same row, the second one waits for the commit
            # of the first, and then must see that the row has gone.
            rows = await transaction.fetch(
                "UPDATE orders SET fence = fence + 1, lease_until = $2 WHERE id IN ("
                " SELECT id FROM orders WHERE settled_at IS NULL AND lease_until < $1 ORDER BY lease_until LIMIT $3"
                ") AND settled_at IS NULL AND lease_until < $1 RETURNING *",
                now,
                now + LEASE_SECONDS,
                most,
            )
        return [Order.of(row) for row in rows]

    async def move(self, order: Order, **changes: Value) -> Order:
        """Change it and renew the lease; the order as it is then. `TakenOver` if somebody else has it."""
        async with self._database.transaction() as transaction:
            return await _change(transaction, order, time.time() + LEASE_SECONDS, changes)

    async def decide(
        self, order: Order, status: str, reason: str | None, *, stock: str | None = None, payment: str | None = None
    ) -> Order:
        """Give it its status, and write the event that tells of it. What is to be undone then is for whoever claims it
        next."""
        now = time.time()
        order = replace(order, stock=stock or order.stock, payment=payment or order.payment)
        changes = {
            "status": status,
            "reason": reason,
            "stock": order.stock,
            "payment": order.payment,
            "attempts": 0,
            "decided_at": now,
            "settled_at": None if order.to_undo else now,
        }
        async with self._database.transaction() as transaction:
            order = await _change(transaction, order, 0.0, changes)
            await transaction.execute(
                "INSERT INTO outbox_events (id, order_id, body) VALUES ($1, $2, $3)",
                new_id("event"),
                order.id,
                json.dumps(order.event()),
            )
        return order

    async def undone(self, order: Order, *, stock: str, payment: str) -> Order:
        """Note what is undone; once nothing is left to undo the order is settled."""
        left = replace(order, stock=stock, payment=payment).to_undo
        return await self.move(order, stock=stock, payment=payment, settled_at=None if left else time.time())

    async def postpone(self, order: Order, seconds: float) -> None:
        """Give it up for a while: something could not be undone yet."""
        async with self._database.transaction() as transaction:
            await _change(transaction, order, time.time() + seconds, {"attempts": order.attempts + 1})

    async def success_rate(self) -> float:
        """The share of completed ones among the orders decided in the last minute; 1 if there were none."""
        [row] = await self._database.fetch(
            "SELECT AVG(CASE WHEN status = $1 THEN 1.0 ELSE 0.0 END) AS rate FROM orders WHERE decided_at > $2",
            COMPLETED,
            time.time() - SUCCESS_WINDOW_SECONDS,
        )
        return 1.0 if row["rate"] is None else float(row["rate"])

    async def unsettled(self) -> float:
        """How many orders are pending or have something to undo."""
        [row] = await self._database.fetch("SELECT COUNT(*) AS number FROM orders WHERE settled_at IS NULL")
        return float(row["number"])


async def _change(transaction: Transaction, order: Order, lease_until: float, changes: Mapping[str, Value]) -> Order:
    columns = {"lease_until": lease_until, **changes}
    assignments = ", ".join(f"{column} = ${number}" for number, column in enumerate(columns, 3))
    rows = await transaction.fetch(
        f"UPDATE orders SET {assignments} WHERE id = $1 AND fence = $2 RETURNING *",  # noqa: S608 - only names of columns
        order.id,
        order.fence,
        *columns.values(),
    )
    if not rows:
        raise TakenOver(order.id)
    return Order.of(rows[0])
