"""PostgreSQL behind the port of `database.py`: a pool of connections, and which of its errors mean "try again".

A lock that others hold is waited for as long as SQLite's queue is. Without that limit a row that is locked up would
take one connection after another.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Self

import asyncpg

from shop.common.database import Database, Row, Transaction, Unavailable, Value

MOST_CONNECTIONS: Final = 10
ACQUIRE_SECONDS: Final = 3.0
COMMAND_SECONDS: Final = 5.0
SETTINGS: Final = {"lock_timeout": "3s", "application_name": "shop"}
# Two services that start at the same time would make the same table twice.
SCHEMA_LOCK: Final = 7_310_001


class _Transaction:
    """The statements of one transaction, on one connection of the pool."""

    def __init__(self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
        self._connection = connection

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        return [dict(row) for row in await self._connection.fetch(sql, *values)]

    async def execute(self, sql: str, *values: Value) -> int:
        status = await self._connection.execute(sql, *values)
        # Such as "UPDATE 1" or "INSERT 0 1"; "CREATE TABLE" has no number.
        number = status.rpartition(" ")[2]
        return int(number) if number.isdigit() else 0


class PostgresDatabase(Database):
    """A database of a server, which several processes may share."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connections are made when they are needed."""
        pool = asyncpg.create_pool(
            url, min_size=0, max_size=MOST_CONNECTIONS, command_timeout=COMMAND_SECONDS, server_settings=SETTINGS
        )
        with _translated():
            await pool
        return cls(pool)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        with _translated():
            async with self._pool.acquire(timeout=ACQUIRE_SECONDS) as connection, connection.transaction():
                yield _Transaction(connection)

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        with _translated():
            return [dict(row) for row in await self._pool.fetch(sql, *values)]

    async def create(self, schema: Sequence[str]) -> None:
        async with self.transaction() as transaction:
            await transaction.fetch("SELECT pg_advisory_xact_lock($1)", SCHEMA_LOCK)
            for statement in schema:
                await transaction.execute(statement)

    async def close(self) -> None:
        await self._pool.close()


@contextmanager
def _translated() -> Iterator[None]:
    """A server that is away, stops or has no connection left, and a transaction that lost against another one. Errors
    in the statements themselves are defects, and stay what they are."""
    try:
        yield
    except (
        asyncpg.PostgresConnectionError,
        asyncpg.InterfaceError,
        # What the pool may say of a connection that breaks while it is given back.
        asyncpg.InternalClientError,
        asyncpg.exceptions.OperatorInterventionError,
        asyncpg.exceptions.InsufficientResourcesError,
        asyncpg.exceptions.TransactionRollbackError,
        asyncpg.exceptions.LockNotAvailableError,
        OSError,
        TimeoutError,
    ) as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from error
