"""The database port on SQLite: what is written together is kept together, and an outage is told apart from a defect."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from shop.common.connect import connect
from shop.common.database import Database, Unavailable


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await connect(f"sqlite:///{tmp_path / 'new' / 'some.db'}")
    await opened.create(["CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY)"])
    yield opened
    await opened.close()


async def names(database: Database) -> list[str]:
    return [row["name"] for row in await database.fetch("SELECT name FROM things ORDER BY name")]


async def test_an_exception_undoes_the_transaction(database: Database) -> None:
    insert = "INSERT INTO things (name) VALUES ($1)"

    async def fail() -> None:
        async with database.transaction() as transaction:
            assert await transaction.execute(insert, "a") == 1
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await names(database) == []
    async with database.transaction() as transaction:
        assert await transaction.execute(insert + " ON CONFLICT DO NOTHING", "a") == 1
        assert await transaction.execute(insert + " ON CONFLICT DO NOTHING", "a") == 0
        # Others see what is committed, without waiting.
        assert await names(database) == []
    assert await names(database) == ["a"]


async def test_a_cancelled_transaction_leaves_the_database_usable(database: Database) -> None:
    entered = asyncio.Event()

    async def forever() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO things (name) VALUES ($1)", "never")
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(forever())
    await entered.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with database.transaction() as transaction:
        await transaction.execute("INSERT INTO things (name) VALUES ($1)", "then")
    assert await names(database) == ["then"]


async def test_a_locked_file_is_unavailable_and_a_mistake_is_not(database: Database, tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await database.fetch("SELECT 1 FROM nowhere")
    other = sqlite3.connect(tmp_path / "new" / "some.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        async with database.transaction():
            pytest.fail("there was no lock")
    other.execute("ROLLBACK")
    other.close()
    async with database.transaction() as transaction:
        assert await transaction.fetch("INSERT INTO things (name) VALUES ($1) RETURNING name", "a") == [{"name": "a"}]


async def test_a_url_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="must begin with sqlite:/// or postgresql://"):
        await connect("mysql://localhost/shop")
