"""Where the conformance suite of the stores keeps its data: a real Redis, or fakeredis where none is installed."""

import os
from collections.abc import Iterator

import pytest

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
