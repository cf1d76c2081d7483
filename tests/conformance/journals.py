"""The journals under test, behind one face: several replicas on one database, and time that passes when told to."""

import asyncio
from pathlib import Path
from typing import Protocol

from gateway.journal.port import Journal, Operation, Rows, Statement
from gateway.journal.postgresql import PostgresqlJournal
from gateway.journal.sqlite import SqliteJournal

KINDS = ["sqlite", "postgresql"]
TIMEOUT = 20.0


class Open(Protocol):
    def __call__(self) -> Journal: ...


class Journals:
    """Each `replica` has connections of its own, as another process has."""

    def __init__(self, make: Open) -> None:
        self.make = make
        self._replicas: dict[str, Journal] = {}

    async def replica(self, name: str = "a") -> Journal:
        if name not in self._replicas:
            journal = self.make()
            await journal.start()
            if not journal.state.works:
                await journal.upgrade()
                await asyncio.wait_for(_works(journal), TIMEOUT)
            self._replicas[name] = journal
        return self._replicas[name]

    async def rows(self, sql: str, *arguments: object) -> Rows:
        """What a statement of the test's own returns."""
        return await (await self.replica("test")).run(Statement(sql)(*arguments))

    async def pass_time(self, table: str, seconds: float, *columns: str) -> None:
        """Move what these columns say into the past."""
        moved = ", ".join(f"{column} = {column} - $1" for column in columns)
        await self.rows(f"UPDATE {table} SET {moved}", float(seconds))  # noqa: S608 - names of this test

    async def close(self) -> None:
        for journal in self._replicas.values():
            await journal.close()


def journals_in(directory: Path) -> Journals:
    return Journals(lambda: SqliteJournal(str(directory / "journal.db"), TIMEOUT))


def journals_at(url: str) -> Journals:
    return Journals(lambda: PostgresqlJournal(url, TIMEOUT, 4))


async def _works(journal: Journal) -> None:
    while not journal.state.works:
        await asyncio.sleep(0.01)


def one(sql: str, *arguments: object) -> Operation[Rows]:
    """An operation of one statement."""
    return (yield Statement(sql)(*arguments))
