"""Endpoints that operators have taken out, the same over the memory store, served or not, and a real Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.store.port import EndpointOut
from tests.conformance.stores import KINDS, MemoryStores, RedisStores, stores_of
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

KEY = "api-gateway:endpoints"


@pytest.fixture(params=KINDS)
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[MemoryStores | RedisStores]:
    made = stores_of(request.param, request)
    yield made
    await made.close()


def out(endpoint: str, left: float = 60.0, upstream: str = "orders", reason: str = "new disk") -> EndpointOut:
    return EndpointOut(upstream, endpoint, "drained", left, reason)


def known(found: object) -> list[tuple[str, str, str, str]]:
    assert isinstance(found, list)
    return sorted((each.upstream, each.endpoint, each.mode, each.reason) for each in found)


async def test_what_one_replica_takes_out_all_know(stores: MemoryStores | RedisStores) -> None:
    a, b = stores.replica("a"), stores.replica("b")
    assert list(await b.endpoints_out()) == []
    await a.take_out(out("[::1]:80", reason="why: 50 % & more"))
    await b.take_out(EndpointOut("pay", "h:1", "disabled", 30.0, "é"))
    found = list(await a.endpoints_out())
    expected = [("orders", "[::1]:80", "drained", "why: 50 % & more"), ("pay", "h:1", "disabled", "é")]
    assert known(found) == expected
    assert all(0 < each.left <= 60.0 for each in found)
    assert await b.bring_back("orders", "[::1]:80") is True
    assert await b.bring_back("orders", "[::1]:80") is False
    assert known(list(await a.endpoints_out())) == expected[1:]


async def test_the_last_word_counts(stores: MemoryStores | RedisStores) -> None:
    store = stores.replica("a")
    await store.take_out(out("h:1"))
    await store.take_out(EndpointOut("orders", "h:1", "disabled", 5.0, "later"))
    (found,) = await store.endpoints_out()
    assert (found.mode, found.reason) == ("disabled", "later")
    assert found.left <= 5.0


async def test_each_change_is_announced(stores: MemoryStores | RedisStores) -> None:
    a, b = stores.replica("a"), stores.replica("b")
    versions = [(await b.sync([])).version]
    await a.take_out(out("h:1"))
    versions.append((await b.sync([])).version)
    await a.bring_back("orders", "h:1")
    versions.append((await b.sync([])).version)
    assert len(set(versions)) == 3


async def test_each_ends_by_itself(stores: MemoryStores | RedisStores) -> None:
    store = stores.replica("a")
    await store.take_out(out("h:1", left=0.05))
    await store.take_out(out("h:2", left=30.0))
    await asyncio.sleep(0.1)  # Redis's clock cannot be moved
    if isinstance(stores, MemoryStores):
        await stores.advance(0.1)
    assert [each.endpoint for each in await store.endpoints_out()] == ["h:2"]


async def test_a_key_of_another_type_says_nothing(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    redis.execute("SET", KEY, "x")
    stores = RedisStores(redis)
    try:
        assert list(await stores.replica("a").endpoints_out()) == []
        await stores.replica("a").take_out(out("h:1", left=5.0))
        assert len(await stores.replica("a").endpoints_out()) == 1
        assert caplog.text.count(f"removed from Redis what is not the gateway's: {KEY} (string)") == 1
        # Nothing is left behind for ever.
        assert 0 < redis.execute("PTTL", KEY) <= 5000
        redis.execute("HSET", KEY, "orders h:2", "nonsense")
        assert [each.endpoint for each in await stores.replica("a").endpoints_out()] == ["h:1"]
        eventually(lambda: redis.execute("EXISTS", KEY) == 0, "the key expires")
    finally:
        await stores.close()
