"""The schema of the journal: numbered migrations, run in order, each once, all in one transaction.

A migration is a file `migrations/NNNN_name.sql` of statements that SQLite and PostgreSQL both understand; each ends
with a semicolon at the end of a line. A capability adds files and never changes one that was released. A migration only
adds (tables, columns with a default, indexes): what it leaves must still serve a gateway of the version before, while a
fleet is being upgraded.

Types that both know: TEXT, BIGINT, BOOLEAN, DOUBLE PRECISION, and BYTEA, which SQLite takes as it takes any word. Times
are DOUBLE PRECISION, in seconds since the epoch (PostgreSQL: `to_timestamp(created_at)`, SQLite:
`datetime(created_at, 'unixepoch')`).
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from gateway.journal.port import JournalUnavailable, Operation, SchemaState, Statement

_DIRECTORY: Final = Path(__file__).with_name("migrations")
_NAME: Final = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql")

_CREATE: Final = Statement(
    "CREATE TABLE IF NOT EXISTS journal_schema"
    " (version BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_at DOUBLE PRECISION NOT NULL)"
)
# Two gateways that upgrade at once: the second one waits. SQLite has locked the whole file already.
_ALONE: Final = Statement("SELECT 1", "SELECT pg_advisory_xact_lock(7164311)")
_TABLE: Final = Statement(
    "SELECT count(*) AS n FROM sqlite_master WHERE type = 'table' AND name = 'journal_schema'",
    "SELECT count(*) AS n FROM pg_class WHERE oid = to_regclass('journal_schema')",
)
_VERSION: Final = Statement("SELECT coalesce(max(version), 0) AS version FROM journal_schema")
_APPLIED: Final = Statement("INSERT INTO journal_schema (version, name, applied_at) VALUES ($1, $2, {now})")

TABLES: Final = ("idempotency_records", "outbox_events", "saga_runs", "saga_steps", "saga_events")
PROBE: Final = Statement(
    "UPDATE journal_schema SET applied_at = applied_at WHERE version = 1"
    " AND NOT EXISTS (SELECT 1 FROM {tables} WHERE 1 = 0)",
    tables=", ".join(TABLES),
)
"""Writes without changing anything, and reads no row: whether the journal takes writes, and each table is there and not
locked as a whole."""


class Migration(NamedTuple):
    """`name` is that of its file without the ending."""

    version: int
    name: str
    statements: tuple[Statement, ...]


@cache
def migrations(directory: Path = _DIRECTORY) -> tuple[Migration, ...]:
    """All of them, in their order. Raises ValueError for a gap, or a file that is called otherwise."""
    found: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        named = _NAME.fullmatch(path.name)
        if named is None or int(named[1]) != len(found) + 1:
            raise ValueError(f"{path}: expected {len(found) + 1:04d}_name.sql")
        found.append(Migration(int(named[1]), path.stem, tuple(_statements(path.read_text(encoding="utf-8")))))
    return tuple(found)


def known() -> int:
    """The version that this gateway has been made for."""
    return len(migrations())


def look() -> Operation[SchemaState]:
    """The version of the tables."""
    rows = yield _TABLE()
    if not rows[0]["n"]:
        return SchemaState(0, known())
    rows = yield _VERSION()
    return SchemaState(int(rows[0]["version"]), known())


def usable() -> Operation[None]:
    """Whether the tables are those of this gateway and take writes. Raises JournalUnavailable, or what the journal says
    to a write."""
    state = yield from look()
    if not state.current:
        raise newer(state) if state.version > state.known else older(state)
    yield PROBE()


def upgrade(steps: Sequence[Migration] | None = None) -> Operation[list[str]]:
    """Run what is missing; the names of what was run. `steps` are all migrations that there are."""
    steps = migrations() if steps is None else steps
    yield _ALONE()
    yield _CREATE()
    rows = yield _VERSION()
    version = int(rows[0]["version"])
    if version > len(steps):
        raise newer(SchemaState(version, len(steps)))
    done = []
    for migration in steps[version:]:
        for statement in migration.statements:
            yield statement()
        yield _APPLIED(migration.version, migration.name)
        done.append(migration.name)
    return done


def older(state: SchemaState) -> JournalUnavailable:
    """The refusal of tables that have to be upgraded first."""
    return JournalUnavailable(
        "schema",
        f"its schema has version {state.version}, and this gateway needs {state.known}: run `gateway journal upgrade`",
    )


def newer(state: SchemaState) -> JournalUnavailable:
    """The refusal of tables that a newer gateway has made."""
    return JournalUnavailable(
        "schema",
        f"its schema has version {state.version}, and this gateway knows {state.known}: run the newer gateway",
    )


def _statements(text: str) -> list[Statement]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    parts = re.split(r";[ \t]*$", "\n".join(lines), flags=re.MULTILINE)
    return [Statement(part.strip()) for part in parts if part.strip()]
