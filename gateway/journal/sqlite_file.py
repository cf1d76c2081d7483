"""Opening the SQLite file of the journal, and what its errors mean."""

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final, TypeVar, cast

from gateway.journal import schema
from gateway.journal.port import JournalUnavailable, Notice, Operation, Rows, Step, Together, Trouble

Result = TypeVar("Result")

# The low byte of an extended result code (https://sqlite.org/rescode.html).
_TROUBLES: Final[dict[int, Trouble]] = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_PERM: "read_only",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_CANTOPEN: "unreachable",
}
_OF_ERRNO: Final[dict[int, Trouble]] = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EPERM: "read_only",
    errno.EACCES: "read_only",
    errno.EROFS: "read_only",
}
_SENTENCES: Final[dict[Trouble, str]] = {
    "locked": "{path} is locked by another process",
    "read_only": "{path} cannot be written",
    "full": "there is no space left for {path}",
    "unreachable": "{path} cannot be opened",
}
_PRAGMAS: Final = (
    # A COMMIT syncs the log, so that it survives a power cut.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -8192",
    # After a burst the log goes back to 16 MiB.
    "PRAGMA journal_size_limit = 16777216",
)


def open_file(
    path: Path, timeout: float, done: list[str] | None = None
) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """Two connections, one that writes and never waits for a lock, and one that only reads. The file is made where it
    is missing, for this user alone, and brought to the schema of this gateway; `done` gets the names of the migrations
    that were run. Raises JournalUnavailable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        writer = _connected(path, timeout)
        try:
            ran = _upgraded(writer)
            if done is not None:
                done += ran
            for pragma in _PRAGMAS:
                writer.execute(pragma)
            # Whoever waits for the lock waits on the event loop, and asks again.
            writer.execute("PRAGMA busy_timeout = 0")
            reader = _connected(path, timeout)
            reader.execute("PRAGMA query_only = ON")
        except BaseException:
            writer.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise trouble(error, path) from error
    return writer, reader


def carry_out(connection: sqlite3.Connection, step: Step) -> Rows:
    """The rows of one statement. Raises sqlite3.Error."""
    # By name, because `$1` is one to SQLite. From Python 3.12 on a sequence is for placeholders without names.
    arguments = {str(number): value for number, value in enumerate(step.arguments, 1)}
    return connection.execute(step.statement.sqlite, arguments).fetchall()


def drive(connection: sqlite3.Connection, operation: Operation[Result], topics: list[str]) -> Result:
    """Run the steps of an operation; what it returns. Its notices go to `topics`. Raises sqlite3.Error."""
    try:
        step = next(operation)
        while True:
            first, rest = step.parts() if isinstance(step, Together) else (step, ())
            rows = _one(connection, first, topics)
            for each in rest if rows else ():
                _one(connection, each, topics)
            step = operation.send(rows)
    except StopIteration as end:
        return cast("Result", end.value)


def _one(connection: sqlite3.Connection, step: Step | Notice, topics: list[str]) -> Rows:
    if isinstance(step, Notice):
        topics.append(step.topic)
        return ()
    return carry_out(connection, step)


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Which file this is: another one has another stamp. None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def trouble(error: BaseException | None, path: Path) -> JournalUnavailable:
    """What an error of SQLite, or of the file system, means for whoever has asked."""
    if isinstance(error, JournalUnavailable):
        return error
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        what = _TROUBLES.get(code, "failed")
        if "no such table" in str(error) or "no such column" in str(error):
            what = "schema"
    elif isinstance(error, OSError):
        what = _OF_ERRNO.get(error.errno or 0, "unreachable")
    else:
        what = "failed"
    sentence = _SENTENCES.get(what, "{path} cannot be used").format(path=path)
    return JournalUnavailable(what, f"{sentence}: {error}")


def _connected(path: Path, timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    # A text that is not UTF-8 is a damaged one, and fails nobody who reads its row.
    connection.text_factory = lambda text: text.decode(errors="replace")
    try:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    except BaseException:
        connection.close()
        raise
    if mode != "wal":
        connection.close()
        raise JournalUnavailable("failed", f"{path} is on a file system without shared memory; it needs a local one")
    return connection


def _upgraded(connection: sqlite3.Connection) -> list[str]:
    """One statement alone where nothing is to be done: several workers start at once."""
    state = drive(connection, schema.look(), [])
    if state.version > state.known:
        raise schema.newer(state)
    if state.current:
        return []
    connection.execute("BEGIN IMMEDIATE")
    try:
        ran = drive(connection, schema.upgrade(), [])
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return ran
