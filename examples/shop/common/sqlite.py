"""SQLite behind the port of `database.py`.

SQLite calls block, so each of the two connections has a thread of its own: one for transactions, one for queries. In
WAL mode a query sees the last commit and never waits for a writer. `synchronous=FULL` makes a commit a promise that
survives a power cut, not only the death of the process.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Self, TypeVar

from shop.common.database import Database, Row, Transaction, Unavailable, Value

T = TypeVar("T")

# For the lock of another process; transactions of this one queue in `transaction`.
BUSY_SECONDS = 1.0
# The file is locked, cannot be read or written, or the disk is full.
AWAY = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
}
# A request that has waited longer is better answered with 503 than done when nobody waits for it any more.
QUEUE_SECONDS = 3.0


class _Connection:
    """One connection and its thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None

    async def run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """The call runs to its end even when the caller is cancelled: a half-done one would break the order."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, call)
        return await asyncio.shield(future)

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        return await self.run(lambda connection: [dict(row) for row in connection.execute(sql, _named(values))])

    async def execute(self, sql: str, *values: Value) -> int:
        return await self.run(lambda connection: connection.execute(sql, _named(values)).rowcount)

    async def close(self) -> None:
        await self.run(sqlite3.Connection.close)
        self._thread.shutdown()

    def _guarded(self, call: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._open()
            return call(self._connection)
        except sqlite3.OperationalError as error:
            # The rest are defects, such as a statement with a mistake.
            if error.sqlite_errorcode & 0xFF in AWAY:
                raise Unavailable(str(error)) from error
            raise

    def _open(self) -> sqlite3.Connection:
        # autocommit: BEGIN and COMMIT are ours.
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection


class SqliteDatabase(Database):
    """A file."""

    def __init__(self, path: str) -> None:
        self._writer = _Connection(path)
        self._reader = _Connection(path)
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, path: str) -> Self:
        """Opened on first use; its directory is made if it is not there."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        await self._wait_for_turn()
        try:
            # IMMEDIATE takes the write lock now: a transaction that reads first might not get it later.
            await self._writer.execute("BEGIN IMMEDIATE")
            yield self._writer
            await self._writer.execute("COMMIT")
        except BaseException:
            # There is none if BEGIN has failed, and some errors end it themselves.
            with suppress(Unavailable, sqlite3.OperationalError):
                await self._writer.execute("ROLLBACK")
            raise
        finally:
            self._turn.release()

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        return await self._reader.fetch(sql, *values)

    async def create(self, schema: Sequence[str]) -> None:
        async with self.transaction() as transaction:
            for statement in schema:
                await transaction.execute(statement)

    async def close(self) -> None:
        await self._writer.close()
        await self._reader.close()

    async def _wait_for_turn(self) -> None:
        try:
            async with asyncio.timeout(QUEUE_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise Unavailable(f"no turn to write within {QUEUE_SECONDS:g} s") from None


def _named(values: Sequence[Value]) -> dict[str, Value]:
    """SQLite takes `$1` for a parameter with the name 1."""
    return {str(number): value for number, value in enumerate(values, 1)}
