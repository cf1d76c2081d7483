"""A database as the services see it: transactions, and the errors that a caller may try again after.

The SQL of the shop is written once, for SQLite and PostgreSQL: placeholders are `$1`, `$2`, …; amounts are integers of
cents; times that SQL compares are seconds since the epoch. A row that may be there already is inserted with
`ON CONFLICT DO NOTHING`, and the number of rows says who was first, in whatever order transactions come.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

Row = dict[str, Any]
Value = str | int | float | bool | None


class Unavailable(Exception):
    """The database is locked, away, or does not answer in time. Nothing was written, unless it went away during the
    commit: then nobody knows. Asking again with the same idempotency key is right in both cases."""


class Transaction(Protocol):
    """Committed when its context ends, undone when an exception leaves it."""

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        """The rows of a statement, also of an INSERT or UPDATE with RETURNING."""
        ...

    async def execute(self, sql: str, *values: Value) -> int:
        """The number of rows that the statement has inserted, changed or deleted."""
        ...


class Database(Protocol):
    """Every method raises `Unavailable`."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction that may write. Keep it short: SQLite has one at a time."""
        ...

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        """A query of its own, which does not wait for transactions that write."""
        ...

    async def create(self, schema: Sequence[str]) -> None:
        """Run the statements that make the tables; each is harmless where the table exists."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
