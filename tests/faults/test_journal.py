"""The journal when something fails: a clear reason, nothing lost that was acknowledged, nothing half-written."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.journal.port import Journal, JournalUnavailable, Operation, Statement
from gateway.journal.postgresql import PostgresqlJournal
from gateway.journal.schema import PROBE, known, migrations
from gateway.journal.sqlite import SqliteJournal
from tests.support.postgres_server import PostgresServer, execute
from tests.support.processes import ROOT, clean_environment

PATIENCE = 60.0
_LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
_WAIT_FOR_A_LOCK = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
_END_THE_OTHERS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query NOT LIKE 'LISTEN%'"
)
_END_ALL = _END_THE_OTHERS.removesuffix(" AND query NOT LIKE 'LISTEN%'")
_ADD = Statement(
    "INSERT INTO outbox_events (id, target, state, method, path, headers, body, size, correlation_id, created_at)"
    " VALUES ($1, 't', 'queued', 'POST', $3, $3, $2, 0, '', {now})"
)
_RECORD = Statement(
    "INSERT INTO idempotency_records (id, route, state, owner, fence, lease_until, created_at, expires_at)"
    " VALUES ($2, $1, 'running', '', 1, 0, {now}, {now})"
)
_COUNT = Statement(
    "SELECT (SELECT count(*) FROM outbox_events) AS events, (SELECT count(*) FROM idempotency_records) AS records"
)


def add(name: str, size: int = 10) -> Operation[None]:
    """Two rows in two tables: half of it is easily told from all of it."""
    yield _ADD(name, b"x" * size, b"")
    yield _RECORD(name, name.encode())


def one_row() -> Operation[object]:
    return (yield _COUNT())


async def counts(journal: Journal) -> tuple[int, int]:
    rows = await journal.run(_COUNT())
    return rows[0]["events"], rows[0]["records"]


@asynccontextmanager
async def sqlite(path: Path, seconds: float = 5.0) -> AsyncIterator[SqliteJournal]:
    journal = SqliteJournal(str(path), seconds)
    await journal.start()
    try:
        yield journal
    finally:
        await journal.close()


@asynccontextmanager
async def postgresql(url: str, seconds: float = 20.0) -> AsyncIterator[PostgresqlJournal]:
    journal = PostgresqlJournal(url, seconds, 4)
    await journal.start()
    try:
        yield journal
    finally:
        await journal.close()


@asynccontextmanager
async def own_role(url: str) -> AsyncIterator[tuple[str, Callable[[str], Awaitable[object]]]]:
    """A role that may log in to a journal with its tables and has no rights yet, and what carries out SQL as the
    superuser."""
    role = f"role_{uuid.uuid4().hex}"
    await PostgresqlJournal(url, 20.0, 1).upgrade()

    async def tell(sql: str) -> None:
        await asyncio.to_thread(execute, sql, url)

    await tell(f"CREATE ROLE {role} LOGIN")
    try:
        yield role, tell
    finally:
        await tell(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


async def eventually_none(connection: "asyncpg.Connection[asyncpg.Record]", sql: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while await connection.fetchval(sql):
            await asyncio.sleep(0.05)


async def trouble_of(asked: "asyncio.Future[Any]") -> JournalUnavailable:
    with pytest.raises(JournalUnavailable) as caught:
        await asked
    return caught.value


# SQLite.


async def test_the_file_is_made_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.db"
    async with sqlite(path) as journal:
        await journal.transact(add("1"))
        assert path.stat().st_mode & 0o777 == 0o600
        assert {each.stat().st_mode & 0o077 for each in path.parent.iterdir()} == {0}
    async with sqlite(path) as journal:
        assert await counts(journal) == (1, 1)


async def test_a_file_that_another_process_has_locked_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with sqlite(path) as journal:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        asked = journal.transact(add("1"))
        await asyncio.sleep(0.05)
        assert not asked.done()
        other.execute("COMMIT")
        await asked
        other.close()


async def test_a_file_that_stays_locked_is_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with sqlite(path, 0.2) as journal:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        why = await trouble_of(journal.transact(add("1")))
        assert (why.trouble, journal.state.trouble) == ("locked", "locked")
        assert str(path) in str(why)
        other.execute("COMMIT")
        other.close()
        await until(lambda: journal.state.works)
        await journal.transact(add("2"))
        assert await counts(journal) == (1, 1)


async def test_a_full_disk_is_a_reason_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    async with sqlite(tmp_path / "journal.db") as journal:
        await journal.transact(add("1"))
        assert journal._connection is not None
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        # SQLite answers with SQLITE_FULL, as for a disk.
        journal._connection.execute(f"PRAGMA max_page_count = {pages + 4}")
        asked = [journal.transact(add(str(each), size)) for each, size in ((2, 1), (3, 200_000), (4, 1))]
        done = await asyncio.gather(*asked, return_exceptions=True)
        assert any(isinstance(each, JournalUnavailable) and each.trouble == "full" for each in done)
        events, records = await counts(journal)
        assert events == records == 1 + sum(each is None for each in done)
        journal._connection.execute("PRAGMA max_page_count = 1000000")
        await until(lambda: journal.state.works)
        await journal.transact(add("5", 200_000))
        assert await counts(journal) == (events + 1, records + 1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    (disk := tmp_path / "disk").mkdir()
    if mount is None or umount is None or os.geteuid() != 0:
        pytest.skip("only root mounts a file system")
    asked = [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("a container may not mount a file system")
    try:
        yield disk
    finally:
        subprocess.run([umount, "--lazy", str(disk)], check=True)


async def test_a_file_system_that_is_full_is_a_reason_until_it_has_room(small_disk: Path) -> None:
    async with sqlite(small_disk / "journal.db") as journal:
        await journal.transact(add("1"))
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        why = await trouble_of(journal.transact(add("2", 100_000)))
        assert why.trouble == "full"
        assert await counts(journal) == (1, 1)
        filler.unlink()
        await until(lambda: journal.state.works)
        await journal.transact(add("3", 100_000))
        assert await counts(journal) == (2, 2)
    with contextlib.closing(sqlite3.connect(small_disk / "journal.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_disk_that_takes_nothing_is_a_reason_and_nobody_waits_for_it(tmp_path: Path) -> None:
    async with sqlite(tmp_path / "journal.db", 0.3) as journal:
        goes_on = threading.Event()
        # The commit waits behind it on its thread, as for a disk that has come to a halt.
        journal._thread.submit(goes_on.wait, PATIENCE)
        why = await trouble_of(journal.transact(add("1")))
        assert (why.trouble, why.unsure) == ("timeout", True)
        assert (await trouble_of(journal.transact(add("2")))).trouble == "timeout"
        assert journal.state.trouble == "timeout"
        goes_on.set()
        await until(lambda: journal.state.works)
        await journal.transact(add("3"))
        # What nobody knew of has happened.
        assert await counts(journal) == (2, 2)


async def test_a_file_that_takes_no_writes_is_a_reason_until_it_does(tmp_path: Path) -> None:
    async with sqlite(tmp_path / "journal.db") as journal:
        assert journal._connection is not None
        journal._connection.execute("PRAGMA query_only = ON")
        why = await trouble_of(journal.transact(add("1")))
        assert why.trouble == "read_only"
        # Another connection may do what this one could not.
        await until(lambda: journal.state.works)
        await journal.transact(add("1"))


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be read as one" * 100])
async def test_a_file_that_is_no_database_is_a_reason(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    async with sqlite(path) as journal:
        assert journal.state.trouble == "failed"
        assert "not a database" in journal.state.text
        assert (await trouble_of(journal.transact(add("1")))).trouble == "failed"
    assert path.read_bytes() == content


async def test_a_directory_that_cannot_be_made_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with sqlite(tmp_path / "file" / "journal.db") as journal:
        assert journal.state.trouble == "unreachable"
        (tmp_path / "file").unlink()
        await until(lambda: journal.state.works)
        await journal.transact(add("1"))


async def test_a_file_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    """What was in it is lost; what comes then must not go where nobody can read it."""
    path = tmp_path / "journal.db"
    async with sqlite(path) as journal:
        await journal.transact(add("1"))
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
        await until(path.exists)
        await until(lambda: journal.state.works)
        await journal.transact(add("2"))
    async with sqlite(path) as journal:
        assert await counts(journal) == (1, 1)


async def test_a_file_of_an_older_gateway_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    old = sqlite3.connect(path, isolation_level=None)
    old.execute("CREATE TABLE journal_schema (version BIGINT PRIMARY KEY, name TEXT, applied_at DOUBLE PRECISION)")
    for statement in migrations()[0].statements:
        old.execute(statement.sqlite)
    old.execute("INSERT INTO journal_schema VALUES (1, '0001_idempotency', 0)")
    old.close()
    async with sqlite(path) as journal:
        assert (await journal.schema()).version == known()
        await journal.transact(add("1"))


# PostgreSQL.


async def test_tables_of_an_older_gateway_are_refused_with_the_command_to_run(postgres_url: str) -> None:
    async with postgresql(postgres_url) as journal:
        assert journal.state.trouble == "schema"
        assert "`gateway journal upgrade`" in journal.state.text
        assert (await trouble_of(journal.transact(add("1")))).trouble == "schema"
        assert await journal.upgrade() == [each.name for each in migrations()]
        await until(lambda: journal.state.works)
        await journal.transact(add("1"))
        assert await counts(journal) == (1, 1)


async def test_two_that_upgrade_at_once_do_it_once(postgres_url: str) -> None:
    journals = [PostgresqlJournal(postgres_url, 20.0, 1) for _ in range(4)]
    done = await asyncio.gather(*(each.upgrade() for each in journals))
    assert sorted(len(each) for each in done) == [0, 0, 0, known()]


async def test_a_journal_that_opens_again_listens_on_one_connection(postgres_url: str) -> None:
    """Where the others broke and the one that listens did not."""
    async with postgresql(postgres_url) as journal:
        await journal.upgrade()
        await until(lambda: journal.state.works)
        for _ in range(3):
            await journal.run(PROBE())
            await asyncio.to_thread(execute, _END_THE_OTHERS, postgres_url)
            with contextlib.suppress(JournalUnavailable):
                await journal.run(PROBE())
            await until(lambda: journal.state.works)
        assert await asyncio.to_thread(execute, _LISTENING, postgres_url) == "1"


@pytest.mark.parametrize(
    "may", ["CONNECTION LIMIT 50", "SUPERUSER; ALTER ROLE {role} SET default_transaction_read_only = on"],
    ids=["no-permission", "read-only"],
)  # fmt: skip
async def test_a_user_that_may_only_read_is_a_reason_until_it_may_write(postgres_url: str, may: str) -> None:
    """That the journal can be read says nothing of its promises."""
    async with own_role(postgres_url) as (role, tell):
        await tell(f"ALTER ROLE {role} {may.format(role=role)}")
        await tell(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        async with postgresql(postgres_url.replace("postgres@", f"{role}@")) as journal:
            assert journal.state.trouble == "read_only"
            await tell(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
            await tell(f"ALTER ROLE {role} RESET default_transaction_read_only")
            await until(lambda: journal.state.works)
            await journal.transact(add("a"))
            await tell(f"ALTER ROLE {role} NOSUPERUSER; REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}")
            await tell(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
            assert (await trouble_of(journal.transact(add("b")))).trouble == "read_only"
            with contextlib.suppress(JournalUnavailable):
                await journal.read(one_row())
            assert journal.state.trouble == "read_only"


async def test_a_right_that_is_missing_on_one_table_does_not_close_the_others(postgres_url: str) -> None:
    async with own_role(postgres_url) as (role, tell):
        await tell(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        await tell(f"REVOKE INSERT ON outbox_events FROM {role}")
        async with postgresql(postgres_url.replace("postgres@", f"{role}@")) as journal:
            assert journal.state.works
            for _ in range(3):
                assert (await trouble_of(journal.transact(add("a")))).trouble == "read_only"
                await journal.run(PROBE())
                assert journal.state.works


async def test_a_table_that_is_locked_does_not_hold_up_the_start(postgres_url: str) -> None:
    await PostgresqlJournal(postgres_url, 20.0, 1).upgrade()
    other = await asyncpg.connect(postgres_url)
    try:
        async with asyncio.timeout(PATIENCE):
            await other.execute("BEGIN; LOCK TABLE outbox_events IN ACCESS EXCLUSIVE MODE")
            async with postgresql(postgres_url, 2.0) as journal:
                assert journal.state.trouble == "locked"
                await other.execute("ROLLBACK")
                await until(lambda: journal.state.works)
                await journal.transact(add("a"))
    finally:
        other.terminate()


async def test_a_connection_that_is_lost_is_no_outage(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is opened again at once, and not at the next look."""
    monkeypatch.setattr("gateway.journal.postgresql._LOOK", 3600.0)
    await PostgresqlJournal(postgres_url, 20.0, 1).upgrade()
    async with postgresql(postgres_url) as journal:
        await journal.transact(add("a"))
        await asyncio.to_thread(execute, _END_THE_OTHERS, postgres_url)
        with contextlib.suppress(JournalUnavailable):
            await journal.transact(add("b"))
        await until(lambda: journal.state.works)
        await journal.transact(add("c"))


async def test_a_postgresql_that_is_restarted_loses_nothing_that_was_acknowledged(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is opened again without waiting for the next look.
    monkeypatch.setattr("gateway.journal.postgresql._LOOK", 3600.0)
    url = own_postgres.new_database()
    await PostgresqlJournal(url, 20.0, 1).upgrade()
    acknowledged: list[str] = []
    refused: list[JournalUnavailable] = []
    async with postgresql(url) as journal:
        going = True

        async def client(name: int) -> None:
            number = 0
            while going:
                number += 1
                try:
                    await journal.transact(add(f"{name}-{number}"))
                    acknowledged.append(f"{name}-{number}")
                except JournalUnavailable as why:
                    refused.append(why)
                    await asyncio.sleep(0.01)

        clients = [asyncio.create_task(client(name)) for name in range(8)]
        for end in (own_postgres.stop, own_postgres.kill):
            before = len(acknowledged)
            await until(lambda before=before: len(acknowledged) > before + 50)  # type: ignore[misc]  # a lambda with a default
            await asyncio.to_thread(end)
            await until(lambda: not journal.state.works)
            await asyncio.to_thread(own_postgres.start)
            await until(lambda: journal.state.works)
        before = len(acknowledged)
        await until(lambda: len(acknowledged) > before + 50)
        going = False
        await asyncio.gather(*clients)
        both = Statement("SELECT id FROM outbox_events WHERE id IN (SELECT route FROM idempotency_records)")
        rows = await journal.run(both())
        written = {row["id"] for row in rows}
        events, records = await counts(journal)
    assert set(acknowledged) <= written
    assert events == records == len(written)
    assert {why.trouble for why in refused} <= {"unreachable"}
    # What was written without an answer is at most what had no certain one.
    assert len(written) - len(acknowledged) <= sum(why.unsure for why in refused)


async def test_a_table_that_stays_locked_is_a_reason_and_uses_up_no_connections(postgres_url: str) -> None:
    """A statement that waits for a lock keeps its connection at the server, also when nobody waits for it any more."""
    await PostgresqlJournal(postgres_url, 20.0, 1).upgrade()
    async with postgresql(postgres_url, 1.0) as journal:
        other = await asyncpg.connect(postgres_url)
        try:
            transaction = other.transaction()
            await transaction.start()
            await other.execute("LOCK TABLE outbox_events IN ACCESS EXCLUSIVE MODE")
            refused: list[object] = []
            for _ in range(3):
                asked = [journal.run(_ADD("a", b"", b"")) for _ in range(4)]
                refused += await asyncio.gather(*asked, return_exceptions=True)
            # It is not called healthy while it is so, although its other tables can be used.
            assert (await trouble_of(journal.run(PROBE()))).trouble in {"locked", "timeout"}
            # While the lock is held: nothing that was given up waits for it any more.
            await eventually_none(other, _WAIT_FOR_A_LOCK)
            await transaction.rollback()
        finally:
            other.terminate()
        await until(lambda: journal.state.works)
        await journal.transact(add("b"))
        assert await counts(journal) == (1, 1)
    assert {getattr(why, "trouble", why) for why in refused} <= {"locked", "timeout"}


async def test_a_server_that_gives_no_more_connections_is_no_outage_while_there_are_some(postgres_url: str) -> None:
    """Several gateways may want more connections together than `max_connections`."""
    async with own_role(postgres_url) as (role, tell):
        await tell(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        # One of them listens.
        await tell(f"ALTER ROLE {role} CONNECTION LIMIT 3")
        async with postgresql(postgres_url.replace("postgres@", f"{role}@")) as journal:
            await asyncio.gather(*(journal.transact(add(str(number))) for number in range(40)))
            assert journal.state.failures == 0
            # Whoever has none, and gets none, says so.
            await tell(f"ALTER ROLE {role} CONNECTION LIMIT 0")
            await asyncio.to_thread(execute, _END_ALL, postgres_url)
            await until(lambda: not journal.state.works)
            assert (await trouble_of(journal.run(PROBE()))).trouble == "unreachable"
            await tell(f"ALTER ROLE {role} CONNECTION LIMIT 3")
            await until(lambda: journal.state.works)
            assert await counts(journal) == (40, 40)


async def test_a_value_that_postgresql_does_not_take_says_nothing_of_the_journal(postgres_url: str) -> None:
    await PostgresqlJournal(postgres_url, 20.0, 1).upgrade()
    async with postgresql(postgres_url) as journal:
        with pytest.raises(JournalUnavailable, match="invalid byte sequence"):
            await journal.transact(add("a\0b"))
        assert journal.state.works
        await journal.transact(add("b"))


async def test_without_a_server_everything_fails_at_once(own_postgres: PostgresServer) -> None:
    url = own_postgres.url()
    own_postgres.stop()
    async with postgresql(url) as journal:
        began = asyncio.get_running_loop().time()
        for _ in range(100):
            assert (await trouble_of(journal.transact(add("1")))).trouble == "unreachable"
        assert asyncio.get_running_loop().time() - began < 10
        assert "127.0.0.1" in journal.state.text


# kill -9.

_WRITER = """
import asyncio, sys
from tests.faults.test_journal import add
from gateway.journal.sqlite import SqliteJournal
from gateway.journal.postgresql import PostgresqlJournal

async def main(where):
    journal = PostgresqlJournal(where, 20.0, 4) if where.startswith("postgresql") else SqliteJournal(where, 20.0)
    await journal.start()
    async def client(name):
        for number in range(1000):
            await journal.transact(add(f"{name}-{number}"))
            print(f"{name}-{number}", flush=True)
    await asyncio.gather(*(client(name) for name in range(5)))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("point", ["journal.commit:20", "journal.committed:20"])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_what_was_acknowledged_before_a_kill_is_there_and_nothing_is_half_written(
    kind: str, point: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    where = str(tmp_path / "journal.db") if kind == "sqlite" else request.getfixturevalue("postgres_url")
    journal: Journal = SqliteJournal(where, 20.0) if kind == "sqlite" else PostgresqlJournal(where, 20.0, 2)
    await journal.upgrade()
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _WRITER, where],
        cwd=ROOT,
        env=clean_environment(GATEWAY_FAULT_POINT=point, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == -9, done.stderr
    acknowledged = set(done.stdout.split())
    assert acknowledged
    await journal.start()
    try:
        rows = await journal.run(Statement("SELECT id FROM outbox_events")())
        events, records = await counts(journal)
    finally:
        await journal.close()
    assert acknowledged <= {row["id"] for row in rows}
    assert events == records
