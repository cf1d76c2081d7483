"""Connections to PostgreSQL that nobody wants any more: each is closed, whatever it was in the middle of."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from gateway.journal.port import Operation, Rows, Statement
from gateway.journal.postgresql import PostgresqlJournal

PATIENCE = 60.0
_OURS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'gateway'"
_SLOW = Statement("SELECT 1", "SELECT pg_sleep(0.5)")


def slow() -> Operation[Rows]:
    return (yield _SLOW())


class Deaf:
    """A way to a server that passes everything on but what has `word` in it. `begun` connections have come, and of
    those `ended` were closed by the client."""

    def __init__(self, target: tuple[str, int], word: bytes) -> None:
        self.begun = 0
        self.ended = 0
        self._target = target
        self._word = word

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.begun += 1
        answers, questions = await asyncio.open_connection(*self._target)
        answering = asyncio.create_task(self._answer(answers, writer))
        try:
            while sent := await reader.read(65_536):
                if self._word not in sent:
                    questions.write(sent)
        except ConnectionError:
            pass
        finally:
            self.ended += 1
            answering.cancel()
            questions.close()
            writer.close()

    async def _answer(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while received := await answers.read(65_536):
            writer.write(received)


@asynccontextmanager
async def deaf(url: str, word: bytes) -> AsyncIterator[tuple[str, Deaf]]:
    """The URL of a way to the server of `url`."""
    parts = urlsplit(url)
    way = Deaf((parts.hostname or "127.0.0.1", parts.port or 5432), word)
    async with await asyncio.start_server(way.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield url.replace(f":{parts.port}", f":{port}"), way


@pytest.mark.parametrize("called_off", [False, True], ids=["its time is over", "the journal is closed"])
async def test_a_connection_that_is_given_up_while_it_is_set_up_is_closed(postgres_url: str, called_off: bool) -> None:
    async with deaf(postgres_url, b"set_config") as (url, way):
        journal = PostgresqlJournal(url, PATIENCE if called_off else 0.5, 1)
        starting = asyncio.create_task(journal.start())
        async with asyncio.timeout(PATIENCE):
            if called_off:
                while not way.begun:
                    await asyncio.sleep(0.01)
                # Logged in, it is told its settings, and hears no more.
                await asyncio.wait([starting], timeout=0.5)
                starting.cancel()
            await asyncio.wait([starting])
            assert not journal.state.works
            await journal.close()
            while way.ended < way.begun:
                await asyncio.sleep(0.01)


async def test_a_connection_that_comes_back_to_a_closed_journal_is_closed(postgres_url: str) -> None:
    await PostgresqlJournal(postgres_url, 20.0, 1).upgrade()
    journal = PostgresqlJournal(postgres_url, 20.0, 2)
    await journal.start()
    reading = asyncio.ensure_future(journal.read(slow()))
    other = await asyncpg.connect(postgres_url)
    try:
        async with asyncio.timeout(PATIENCE):
            while not await other.fetchval(_OURS + " AND query LIKE '%pg_sleep%'"):
                await asyncio.sleep(0.01)
            await journal.close()
            await reading
            while await other.fetchval(_OURS):
                await asyncio.sleep(0.05)
    finally:
        other.terminate()
