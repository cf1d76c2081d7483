"""The port: how operations are written, and what a journal does with them.

An operation is a generator. It yields steps and is sent the rows of each; what it returns is its result:

    COUNT = Statement("SELECT count(*) AS n FROM outbox_events WHERE state = $1")

    def waiting() -> Operation[int]:
        rows = yield COUNT("queued")
        return int(rows[0]["n"])

    depth = await journal.transact(waiting())

A journal runs the steps of one operation in one transaction: all of them happen, or none. It may run several operations
in one commit (group commit). The generator itself does nothing but yield, so it is the same on a thread-free SQLite
connection and on an asynchronous PostgreSQL one. It must not read clocks: `{now}` is the journal's.

`$1`, `$2`… are the arguments. `{now}` is the present time in seconds since the epoch, by the clock of the journal, so
replicas agree although their clocks differ. `{skip_locked}` stands behind a SELECT that claims rows which other
replicas may be claiming. SQL beyond that is what SQLite 3.37 and PostgreSQL 14 have in common, with RETURNING,
ON CONFLICT and partial indexes. `{{` and `}}` are not needed: nothing else in braces is replaced.
"""

import asyncio
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

Result = TypeVar("Result")

# The start of the Unix epoch as a Julian day, whose unit is a day; precise to about 0.1 ms.
_SQLITE_NOW: Final = "((julianday('now') - 2440587.5) * 86400.0)"
# Stable within a statement, so that an index is used for comparisons with it.
_POSTGRESQL_NOW: Final = "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"


class Row(Protocol):
    """A row, by the names of its columns."""

    def __getitem__(self, column: str, /) -> Any: ...


Rows = Sequence[Row]

CHANNEL: Final = "gateway_journal"
"""The channel of PostgreSQL by which replicas wake each other; the payload is the topic."""


class Statement:
    """SQL for both backends, with its placeholders filled in once. `parts` are further words in braces, with what
    stands in their place. `postgresql` is a text of its own where the two have nothing in common. Call it with the
    arguments to get a step."""

    __slots__ = ("postgresql", "sqlite")

    def __init__(self, text: str, postgresql: str | None = None, **parts: str) -> None:
        for word, part in parts.items():
            text = text.replace(f"{{{word}}}", part)
        # SQLite takes `$1` for a parameter with the name 1.
        self.sqlite: Final = text.replace("{now}", _SQLITE_NOW).replace("{skip_locked}", "")
        self.postgresql: Final = (
            (postgresql or text).replace("{now}", _POSTGRESQL_NOW).replace("{skip_locked}", "FOR UPDATE SKIP LOCKED")
        )

    def __call__(self, *arguments: object) -> "Step":
        return Step(self, arguments)

    def __repr__(self) -> str:
        return f"<Statement {self.sqlite}>"


class Step(NamedTuple):
    """A statement with its arguments: None, bool, int, float, str or bytes."""

    statement: Statement
    arguments: tuple[object, ...]


class Notice(NamedTuple):
    """A step that wakes whoever listens for `topic`, once the operation is committed."""

    topic: str


class Together(NamedTuple):
    """A step of several statements. `parts` makes them: where the first returns a row, the rest happens, too. `whole`
    makes one statement that does the same and returns the same rows, as PostgreSQL has them and SQLite has not. A
    backend asks for what it uses, so the other one is never made."""

    whole: Callable[[], Step]
    parts: Callable[[], tuple[Step, tuple["Step | Notice", ...]]]


Operation = Generator[Step | Notice | Together, Rows, Result]

Trouble = Literal["unreachable", "timeout", "locked", "full", "read_only", "schema", "closed", "failed"]
"""Why a journal cannot do what it is asked: it does not answer, or not in time; somebody else holds the file; the disk
is full; nothing may be written; the tables are those of another version; the gateway is stopping; anything else."""


class JournalUnavailable(Exception):
    """Nothing was kept, or it is not known whether it was: `unsure` says so. The text is safe to log and names what to
    do about it where there is something."""

    def __init__(self, trouble: Trouble, text: str, *, unsure: bool = False) -> None:
        super().__init__(text)
        self.trouble: Final = trouble
        self.unsure: Final = unsure


@dataclass(frozen=True, slots=True)
class SchemaState:
    """`version` is that of the tables, 0 for none; `known` the one that this gateway has been made for."""

    version: int
    known: int

    @property
    def current(self) -> bool:
        """Whether this gateway can use the tables as they are."""
        return self.version == self.known


class JournalState:
    """Whether the journal works, as of the last time that it was used. `trouble` is None while it does; `since` is the
    time of the last change, in seconds since the epoch. `changed` is told when it works again, and of each failure.
    `operations`, `commits` and `failures` are counted from the start."""

    __slots__ = ("_changed", "_clock", "commits", "failures", "operations", "since", "text", "trouble")

    def __init__(
        self, clock: Callable[[], float], changed: Callable[["JournalState"], None] = lambda _state: None
    ) -> None:
        self.trouble: Trouble | None = "unreachable"
        self.text = "it is not open yet"
        self.operations = 0
        self.commits = 0
        self.failures = 0
        self._clock = clock
        self._changed = changed
        self.since = clock()

    def __repr__(self) -> str:
        return f"<JournalState {self.trouble or 'works'}>"

    @property
    def works(self) -> bool:
        """Whether it does."""
        return self.trouble is None

    def worked(self) -> None:
        """It did what it was asked."""
        if self.trouble is not None:
            self.trouble = None
            self.text = ""
            self.since = self._clock()
            self._changed(self)

    def failed(self, why: JournalUnavailable) -> None:
        """It did not. May be called many times."""
        self.failures += 1
        if why.trouble == "closed":
            return
        self.text = str(why)
        if self.trouble != why.trouble:
            self.trouble = why.trouble
            self.since = self._clock()
        self._changed(self)


Woken = Callable[[], None]
"""Called on the event loop when something may be there for the topic that was listened for; sometimes for nothing."""


class Journal(Protocol):
    """Both backends. Everything is called on the event loop that has started it."""

    @property
    def state(self) -> JournalState:
        """Whether it works."""
        ...

    @property
    def name(self) -> str:
        """What and where it is, without any secret, for logs and operators."""
        ...

    async def start(self) -> None:
        """Open it, or begin to try. Never fails: what is wrong is in `state`, and is tried again until it works."""
        ...

    async def close(self) -> None:
        """Finish what was asked, and close. Later calls fail with `closed`."""
        ...

    def run(self, step: Step | Together) -> "asyncio.Future[Rows]":
        """One step as an operation of its own. Fails with `JournalUnavailable`, also at once."""
        ...

    def transact(self, operation: Operation[Result]) -> "asyncio.Future[Result]":
        """All the steps of an operation, or none. Fails with `JournalUnavailable`, or with what the operation itself
        raises; then nothing of it has happened."""
        ...

    async def read(self, operation: Operation[Result]) -> Result:
        """As `transact`, for questions that may take their time and change nothing: it goes beside the operations of
        requests, so that they do not wait behind it. Raises JournalUnavailable."""
        ...

    def listen(self, topic: str, woken: Woken) -> Callable[[], None]:
        """Call `woken` when a `Notice` of the topic may have been committed, here or by another replica. A wake-up may
        be lost when the journal is: whoever listens also looks from time to time. Returns what ends it."""
        ...

    async def schema(self) -> SchemaState:
        """The version of the tables. Raises JournalUnavailable."""
        ...

    async def upgrade(self) -> list[str]:
        """Bring the tables to the version that this gateway knows; the names of the migrations that were run. Raises
        JournalUnavailable, also for tables of a newer gateway."""
        ...
