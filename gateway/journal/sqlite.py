"""The journal in a SQLite file, for all the workers of one host.

    requests ──▶ waiting ──▶ BEGIN IMMEDIATE, every operation that waits ──▶ COMMIT (on a thread) ──▶ results

Group commit: while one COMMIT is being synced to the disk, what comes meanwhile waits and goes into the next. So a
commit carries one operation when little happens, and hundreds under load; nothing is ever delayed to fill a group. The
statements themselves take microseconds and run on the event loop. Only the sync is waited for on a thread: statements
on a thread would have to win the interpreter's lock from the loop for each of them, which takes up to 5 ms.

WAL with `synchronous=FULL`: a COMMIT that has returned survives a power cut (https://sqlite.org/pragma.html). Each
worker has a connection of its own, and the file's lock says whose turn it is; the one that finds it taken asks again
every half millisecond, which is fairer than the pauses of SQLite's own busy handler.

A failed COMMIT is rolled back as a whole, so nothing is half-written. What cannot be done (a full disk, a file that
nobody may write) is in `state`, and is tried again twice a second.
"""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from gateway.background import Background
from gateway.journal import fault_points, schema
from gateway.journal.listeners import Listeners
from gateway.journal.port import JournalState, JournalUnavailable, Operation, Rows, SchemaState, Step, Together, Woken
from gateway.journal.sqlite_file import carry_out, drive, open_file, stamp_of, trouble

Result = TypeVar("Result")

_MOST_IN_GROUP: Final = 256
_BUSY_PAUSE: Final = 0.0005
_RETRY: Final = 0.5
# How late a worker learns of what another one has committed.
_LOOK: Final = 0.1


class _Work:
    """One operation that waits for its commit. `result` and `error` are what came of its steps."""

    __slots__ = ("asked", "error", "future", "operation", "result")

    def __init__(self, operation: Step | Operation[Any], future: "asyncio.Future[Any]", asked: float) -> None:
        self.operation = operation
        self.future = future
        self.asked = asked
        self.result: Any = None
        self.error: BaseException | None = None


class SqliteJournal:
    """`timeout` bounds, in seconds, how long an operation waits for another process that holds the file."""

    def __init__(
        self, path: str, timeout: float, changed: Callable[[JournalState], None] = lambda _state: None
    ) -> None:
        self.state = JournalState(time.time, changed)
        self.name = f"SQLite file {path}"
        self._path = Path(path)
        self._timeout = timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = ThreadPoolExecutor(1, "journal")
        self._read_thread = ThreadPoolExecutor(1, "journal-read")
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._stamp: tuple[int, int] | None = None
        self._waiting: list[_Work] = []
        self._committing: list[_Work] = []
        self._topics: list[str] = []
        self._scheduled: asyncio.Handle | None = None
        self._committing_since = 0.0
        self._stalled = False
        self._listeners = Listeners()
        self._seen = 0
        self._keeper = Background(self._keep, "journal-keeping")
        self._closing = False

    def __repr__(self) -> str:
        return f"<SqliteJournal {self._path} {self.state!r} waiting={len(self._waiting)}>"

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._open()
        self._keeper.start()

    async def close(self) -> None:
        self._closing = True
        await self._keeper.stop()
        await self._told([*self._committing, *(self._waiting if self._connection is not None else ())])
        self._fail_waiting(self._closed())
        if not self._stalled:
            await self._shut()
        self._thread.shutdown(wait=not self._stalled)
        self._read_thread.shutdown(wait=not self._stalled)

    def run(self, step: Step | Together) -> "asyncio.Future[Rows]":
        return self._ask(step if isinstance(step, Step) else _alone(step))

    def transact(self, operation: Operation[Result]) -> "asyncio.Future[Result]":
        return self._ask(operation)

    async def read(self, operation: Operation[Result]) -> Result:
        reader, loop = self._reader, self._loop
        if reader is None or loop is None or self._closing:
            raise self._unavailable()
        return cast("Result", await loop.run_in_executor(self._read_thread, _read, reader, operation))

    def listen(self, topic: str, woken: Woken) -> Callable[[], None]:
        return self._listeners.add(topic, woken)

    async def schema(self) -> SchemaState:
        return await asyncio.to_thread(_looked_at, self._path, self._timeout)

    async def upgrade(self) -> list[str]:
        return await asyncio.to_thread(_upgraded, self._path, self._timeout)

    # Group commit. All of it on the event loop, but for `commit`.

    def _ask(self, operation: Step | Operation[Any]) -> "asyncio.Future[Any]":
        loop = self._loop
        assert loop is not None  # noqa: S101 - it was started
        future: asyncio.Future[Any] = loop.create_future()
        if self._connection is None or self._closing or self._stalled:
            future.set_exception(self._unavailable())
            return future
        self._waiting.append(_Work(operation, future, time.monotonic()))
        self._schedule(0.0)
        return future

    def _schedule(self, seconds: float) -> None:
        if self._scheduled is None and not self._committing and self._loop is not None:
            self._scheduled = (
                self._loop.call_later(seconds, self._begin) if seconds else self._loop.call_soon(self._begin)
            )

    def _begin(self) -> None:
        """Run what waits in one transaction, and have it committed."""
        self._scheduled = None
        connection, loop = self._connection, self._loop
        if connection is None or loop is None or not self._waiting:
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            why = trouble(error, self._path)
            if why.trouble == "locked" and time.monotonic() - self._waiting[0].asked < self._timeout:
                self._schedule(_BUSY_PAUSE)
            else:
                self._failed(why)
                self._fail_waiting(why)
            return
        group, self._waiting = self._waiting[:_MOST_IN_GROUP], self._waiting[_MOST_IN_GROUP:]
        self._committing = group
        for work in group:
            self._execute(connection, work)
            if not connection.in_transaction:
                # SQLite has rolled all of it back by itself: the disk is full, for one.
                self._ended(trouble(work.error, self._path))
                return
        self._committing_since = time.monotonic()
        done = loop.run_in_executor(self._thread, _commit, connection)
        done.add_done_callback(self._committed)

    def _execute(self, connection: sqlite3.Connection, work: _Work) -> None:
        """Run the steps of one operation. If one fails, what the others of the group have done stands."""
        operation, topics = work.operation, len(self._topics)
        try:
            if isinstance(operation, Step):
                work.result = carry_out(connection, operation)
                return
            connection.execute("SAVEPOINT one")
            try:
                work.result = drive(connection, operation, self._topics)
                connection.execute("RELEASE one")
            except BaseException:
                operation.close()
                del self._topics[topics:]
                if connection.in_transaction:
                    connection.execute("ROLLBACK TO one")
                    connection.execute("RELEASE one")
                raise
        except Exception as error:  # noqa: BLE001 - whoever has asked is told, whatever it is
            work.error = error

    def _committed(self, done: "asyncio.Future[None]") -> None:
        error = done.exception()
        if error is None:
            self._ended(None)
            return
        with contextlib.suppress(sqlite3.Error):
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._ended(trouble(error, self._path))

    def _ended(self, why: JournalUnavailable | None) -> None:
        """The group is committed, or all of it is rolled back."""
        self._stalled = False
        group, self._committing = self._committing, []
        topics, self._topics = self._topics, []
        if why is None:
            self.state.operations += len(group)
            self.state.commits += 1
            self.state.worked()
        else:
            self._failed(why)
        for work in group:
            _tell(work, why, self._path)
        if why is None:
            self._listeners.wake(topics)
        if self._waiting:
            self._schedule(0.0)

    def _stall(self) -> None:
        """The disk has not taken a commit for longer than anybody waits. Whether it will is not known."""
        self._stalled = True
        text = f"the disk of {self._path} does not take what is written"
        why = JournalUnavailable("timeout", text, unsure=True)
        self.state.failed(why)
        for work in self._committing:
            _tell(work, why, self._path)
        self._fail_waiting(JournalUnavailable("timeout", text))

    def _fail_waiting(self, why: JournalUnavailable) -> None:
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            _tell(work, why, self._path)

    def _failed(self, why: JournalUnavailable) -> None:
        self.state.failed(why)
        if why.trouble not in {"locked", "full"}:
            # Whatever it was may be over with another connection: the file was replaced, or may be written again.
            self._seen = 0
            self._stamp = None

    # Opening, and opening again.

    async def _keep(self) -> None:
        """Open the file as soon as that works, notice when it was replaced, and look for what others have committed."""
        looked = 0.0
        while True:
            await asyncio.sleep(_LOOK)
            self._look_for_others()
            now = time.monotonic()
            if self._committing:
                if not self._stalled and now - self._committing_since > self._timeout:
                    self._stall()
                continue
            if now - looked < _RETRY:
                continue
            looked = now
            if self._connection is None or self._stamp is None or stamp_of(self._path) != self._stamp:
                if self._connection is not None and self._stamp is not None:
                    self._failed(JournalUnavailable("failed", f"{self._path} was removed or replaced"))
                await self._open_again()
            elif not self.state.works:
                with contextlib.suppress(JournalUnavailable):
                    await self.run(schema.PROBE())

    def _look_for_others(self) -> None:
        connection = self._connection
        if connection is None or self._committing or not self._listeners:
            return
        with contextlib.suppress(sqlite3.Error):
            seen = int(connection.execute("PRAGMA data_version").fetchone()[0])
            if seen != self._seen:
                self._seen = seen
                self._listeners.wake_all()

    async def _open_again(self) -> None:
        await self._told(self._committing)
        await self._shut()
        await self._open()
        if self._connection is None:
            self._fail_waiting(self._unavailable())

    async def _told(self, works: list[_Work]) -> None:
        """Wait until all of these have their results."""
        if works:
            await asyncio.wait([work.future for work in works], timeout=2 * self._timeout)

    async def _open(self) -> None:
        assert self._loop is not None  # noqa: S101 - it was started
        try:
            opened = await self._loop.run_in_executor(self._thread, open_file, self._path, self._timeout)
        except JournalUnavailable as why:
            self.state.failed(why)
            return
        self._connection, self._reader = opened
        self._stamp = stamp_of(self._path)
        self.state.worked()
        if self._waiting:
            self._schedule(0.0)

    async def _shut(self) -> None:
        connection, self._connection = self._connection, None
        reader, self._reader = self._reader, None
        if self._loop is None:
            return
        for each, thread in ((reader, self._read_thread), (connection, self._thread)):
            if each is not None:
                with contextlib.suppress(sqlite3.Error):
                    await self._loop.run_in_executor(thread, each.close)

    def _unavailable(self) -> JournalUnavailable:
        if self._closing:
            return self._closed()
        return JournalUnavailable(self.state.trouble or "failed", self.state.text or "it is being opened again")

    @staticmethod
    def _closed() -> JournalUnavailable:
        return JournalUnavailable("closed", "the gateway is stopping")


def _alone(step: Together) -> Operation[Rows]:
    return (yield step)


def _commit(connection: sqlite3.Connection) -> None:
    fault_points.reach("journal.commit")
    connection.execute("COMMIT")
    fault_points.reach("journal.committed")


def _tell(work: _Work, why: JournalUnavailable | None, path: Path) -> None:
    future, error = work.future, why or work.error
    if future.done():
        return
    if error is None:
        future.set_result(work.result)
    else:
        future.set_exception(trouble(error, path) if isinstance(error, sqlite3.Error) else error)


def _read(connection: sqlite3.Connection, operation: Operation[Result]) -> Result:
    try:
        connection.execute("BEGIN")
        try:
            return drive(connection, operation, [])
        finally:
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise trouble(error, Path()) from error


def _looked_at(path: Path, timeout: float) -> SchemaState:
    if not path.exists():
        return SchemaState(0, schema.known())
    try:
        connection = sqlite3.connect(f"file:{os.fspath(path)}?mode=ro", timeout, uri=True)
    except sqlite3.Error as error:
        raise trouble(error, path) from error
    with contextlib.closing(connection):
        connection.row_factory = sqlite3.Row
        return _read(connection, schema.look())


def _upgraded(path: Path, timeout: float) -> list[str]:
    done: list[str] = []
    for connection in open_file(path, timeout, done):
        connection.close()
    return done
