"""Where the conformance suites keep their data: a real Redis, or fakeredis where none is installed; for the journal a
SQLite file and a real PostgreSQL."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conformance.journals import KINDS, Journals, journals_at, journals_in
from tests.support.fake_redis import FakeRedis
from tests.support.redis_server import RedisServer, redis_is_installed


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer | FakeRedis]:
    """In place of the fixture for the whole run, whose tests need a real one. CI always has a real one."""
    if redis_is_installed() or os.environ.get("CI", "").lower() == "true":
        with RedisServer(tmp_path_factory.mktemp("redis")) as server:
            yield server
    else:
        with FakeRedis() as fake:
            yield fake


@pytest.fixture(params=KINDS)
async def journals(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Journals]:
    """The journal in each backend, with the tables of this gateway."""
    made = journals_in(tmp_path) if request.param == "sqlite" else journals_at(request.getfixturevalue("postgres_url"))
    yield made
    await made.close()
