"""The journal in PostgreSQL, for a fleet.

Each operation is a transaction of its own on one connection of a small pool; a single statement needs no BEGIN and no
COMMIT, and so one round trip. PostgreSQL syncs the commits of several connections together. A wake-up is NOTIFY on one
channel, whose payload is the topic.

A connection that has failed, or was given up in the middle of an operation, is not used again. When the last operation
has failed for want of a server, no request waits for the next: all fail at once, until the loop in `_keep`, which tries
at once and then about twice a second, has found it again.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit

import asyncpg

from gateway.background import Background
from gateway.journal import fault_points, schema
from gateway.journal.listeners import Listeners
from gateway.journal.port import (
    CHANNEL,
    JournalState,
    JournalUnavailable,
    Notice,
    Operation,
    Rows,
    SchemaState,
    Statement,
    Step,
    Together,
    Woken,
)
from gateway.journal.postgresql_errors import ERRORS, trouble

Result = TypeVar("Result")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_NOTIFY: Final = Statement("SELECT 1", f"SELECT pg_notify('{CHANNEL}', $1)")
_RETRY: Final = 0.5
_LEAST: Final = 0.1
# A server that gives no more connections is asked for one again after so long.
_ENOUGH: Final = 1.0
# While it works, whether the connection that listens is alive, and whether the tables are still ours.
_LOOK: Final = 5.0
# A question of an operator's may take so many times as long as an operation.
_READ: Final = 4
# A statement whose connection was given up here goes on at the server until it ends there, and keeps its place among
# `max_connections`: one that waits for a lock must not wait for ever. It ends before the operation, to tell the reason.
_LOCK: Final = 0.75
# A transaction whose gateway was stopped (SIGSTOP) must not keep its rows from the others.
_IDLE_IN_TRANSACTION: Final = 10.0
_SETTINGS: Final = (
    # A commit is a promise; a server that is set to forget some at a crash is overruled.
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)


class PostgresqlJournal:
    """`url` is a `postgresql://` URL. `timeout` bounds one operation, in seconds, waiting for a connection included;
    `connections` is the size of the pool."""

    def __init__(
        self,
        url: str,
        timeout: float,
        connections: int,
        changed: Callable[[JournalState], None] = lambda _state: None,
    ) -> None:
        self.state = JournalState(time.time, changed)
        parts = urlsplit(url)
        self.name = f"PostgreSQL {parts.netloc.rpartition('@')[2] or 'on the local socket'}{parts.path}"
        self._url = url
        self._timeout = timeout
        self._bounds = {
            "lock_timeout": _milliseconds(_LOCK * timeout),
            "statement_timeout": _milliseconds(_READ * timeout),
        }
        self._free = asyncio.Semaphore(connections)
        self._idle: list[Connection] = []
        # How many are used or being made, when one of them may have come free, and until when the server is not asked
        # for another one.
        self._busy = 0
        self._given_back = asyncio.Event()
        self._enough_until = 0.0
        self._listeners = Listeners()
        self._ear: Connection | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._keeper = Background(self._keep, "journal-keeping")
        self._closing = False
        self._open = False
        # Set when it was open, and is no longer.
        self._lost = asyncio.Event()

    def __repr__(self) -> str:
        return f"<PostgresqlJournal {self.name} {self.state!r} running={len(self._tasks)}>"

    async def start(self) -> None:
        await self._try_to_open()
        self._keeper.start()

    async def close(self) -> None:
        self._closing = True
        await self._keeper.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._timeout)
        idle, self._idle = self._idle, []
        for each in [*idle, *([self._ear] if self._ear is not None else [])]:
            await _ended(each)
        self._ear = None

    def run(self, step: Step | Together) -> "asyncio.Future[Rows]":
        return self._refused() or self._task(self._run(_whole(step)))

    def transact(self, operation: Operation[Result]) -> "asyncio.Future[Result]":
        return self._refused() or self._task(self._transact(operation, self._timeout))

    async def read(self, operation: Operation[Result]) -> Result:
        if (refused := self._refused()) is not None:
            return cast("Result", await refused)
        return await self._transact(operation, _READ * self._timeout, readonly=True)

    def listen(self, topic: str, woken: Woken) -> Callable[[], None]:
        return self._listeners.add(topic, woken)

    async def schema(self) -> SchemaState:
        async with self._alone() as connection:
            return await _drive(connection, schema.look())

    async def upgrade(self) -> list[str]:
        async with self._alone() as connection, connection.transaction():
            return await _drive(connection, schema.upgrade())

    # Operations.

    def _task(self, doing: Any) -> "asyncio.Future[Any]":
        task = asyncio.get_running_loop().create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, step: Step) -> Rows:
        async with self._connection(self._timeout) as connection:
            fault_points.reach("journal.commit")
            rows = await connection.fetch(step.statement.postgresql, *step.arguments)
            fault_points.reach("journal.committed")
        self._worked()
        return cast("Rows", rows)

    async def _transact(self, operation: Operation[Result], seconds: float, *, readonly: bool = False) -> Result:
        try:
            async with self._connection(seconds) as connection:
                async with connection.transaction(readonly=readonly):
                    result = await _drive(connection, operation)
                    fault_points.reach("journal.commit")
                fault_points.reach("journal.committed")
            # That it can be read says nothing of writes.
            if not readonly:
                self._worked()
            return result
        finally:
            operation.close()

    @contextlib.asynccontextmanager
    async def _connection(self, seconds: float) -> AsyncIterator[Connection]:
        """One of the pool. What fails in it that is no answer of the journal's becomes JournalUnavailable."""
        connection: Connection | None = None
        used = False
        try:
            async with asyncio.timeout(seconds), self._free:
                connection = await self._taken()
                self._busy += 1
                used = True
                yield connection
                if not self._closing:
                    self._idle.append(connection)
                    connection = None
        except ERRORS as error:
            why = trouble(error, self.name, unsure=used)
            # A value that a column cannot have says nothing of the journal.
            if not isinstance(error, asyncpg.DataError):
                # That a right is missing is no better on another connection, and others may have theirs.
                self._failed(why, reopen=not isinstance(error, asyncpg.InsufficientPrivilegeError))
            raise why from error
        finally:
            if connection is not None:
                connection.terminate()
            if used:
                self._one_less()

    async def _taken(self) -> Connection:
        """One that nobody else uses: an idle one, or a new one. Where the server has no more for us
        (`max_connections`, the limit of a role), the next one that is given back."""
        while (spare := self._spare()) is None:
            left = self._enough_until - time.monotonic()
            if self._busy and left > 0.0:
                self._given_back.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._given_back.wait()
                continue
            self._busy += 1
            try:
                return await self._connected(self._bounds)
            except asyncpg.TooManyConnectionsError:
                if self._busy == 1 and not self._idle:
                    # Nobody has one that could be given back.
                    raise
                self._enough_until = time.monotonic() + _ENOUGH
            finally:
                self._one_less()
        return spare

    def _one_less(self) -> None:
        self._busy -= 1
        self._given_back.set()

    def _spare(self) -> "Connection | None":
        """One that is idle and has not been ended by the server, or by whatever is between."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _connected(self, bounds: dict[str, str] | None = None) -> Connection:
        connection: Connection = await asyncpg.connect(
            self._url,
            timeout=self._timeout,
            server_settings={
                "application_name": "gateway",
                "idle_in_transaction_session_timeout": _milliseconds(_IDLE_IN_TRANSACTION),
                **(bounds or {}),
            },
        )
        try:
            await connection.execute(_SETTINGS)
        except BaseException:
            # Nobody else knows of it yet.
            connection.terminate()
            raise
        return connection

    @contextlib.asynccontextmanager
    async def _alone(self, bounds: dict[str, str] | None = None) -> AsyncIterator[Connection]:
        """A connection for one use, whether the journal is open or not. Without `bounds` a statement may take its time:
        an operator waits for it."""
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._connected(bounds)
            yield connection
        except ERRORS as error:
            raise trouble(error, self.name) from error
        finally:
            if connection is not None:
                await _ended(connection)

    # Opening, and opening again.

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK if self._open and self.state.works else _RETRY):
                    await self._lost.wait()
            self._lost.clear()
            if not self._open:
                await self._try_to_open()
                # A server that answers, and fails every operation, is not asked without a pause.
                await asyncio.sleep(_LEAST)
                continue
            with contextlib.suppress(JournalUnavailable):
                await self._run(schema.PROBE())
            if self._open and (self._ear is None or self._ear.is_closed()):
                with contextlib.suppress(JournalUnavailable):
                    await self._hear()

    async def _try_to_open(self) -> None:
        try:
            async with self._alone(self._bounds) as connection, asyncio.timeout(self._timeout):
                await _drive(connection, schema.usable())
            await self._hear()
        except JournalUnavailable as why:
            self.state.failed(why)
            return
        self._open = True
        self.state.worked()

    async def _hear(self) -> None:
        """Listen for what others have committed. What was missed meanwhile may be for anybody."""
        try:
            async with asyncio.timeout(self._timeout):
                before, self._ear = self._ear, None
                if before is not None:
                    before.terminate()
                self._ear = ear = await self._connected()
                await ear.add_listener(CHANNEL, self._heard)
        except ERRORS as error:
            raise trouble(error, self.name) from error
        self._listeners.wake_all()

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._listeners.wake([str(payload)])

    def _worked(self) -> None:
        self.state.operations += 1
        self.state.commits += 1
        self.state.worked()

    def _failed(self, why: JournalUnavailable, *, reopen: bool) -> None:
        self.state.failed(why)
        if reopen and why.trouble in {"unreachable", "schema", "read_only"}:
            # After a failover the old server may still answer, and takes no writes.
            if self._open:
                self._open = False
                self._lost.set()
            idle, self._idle = self._idle, []
            for each in idle:
                each.terminate()

    def _refused(self) -> "asyncio.Future[Any] | None":
        """What an operation comes to that is not even tried; None while it can be."""
        if self._open and not self._closing:
            return None
        why = JournalUnavailable(self.state.trouble or "failed", self.state.text)
        if self._closing:
            why = JournalUnavailable("closed", "the gateway is stopping")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(why)
        return future


async def _drive(connection: Connection, operation: Operation[Result]) -> Result:
    """Run the steps of an operation; what it returns."""
    try:
        step = next(operation)
        while True:
            if isinstance(step, Notice):
                step, notice = _NOTIFY(step.topic), True
            else:
                notice = False
                step = _whole(step)
            rows = cast("Rows", await connection.fetch(step.statement.postgresql, *step.arguments))
            step = operation.send(() if notice else rows)
    except StopIteration as end:
        return cast("Result", end.value)


def _whole(step: Step | Together) -> Step:
    return step.whole() if isinstance(step, Together) else step


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


async def _ended(connection: Connection) -> None:
    with contextlib.suppress(*ERRORS):
        await connection.close(timeout=1.0)
