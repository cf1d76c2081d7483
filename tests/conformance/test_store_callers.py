"""API keys, and what tenants use: the same over the memory store, served or not, and a real Redis."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from gateway.store.keys import KeyRecord, KeyStore
from gateway.store.memory import MemoryStore
from gateway.store.port import SyncAnswer
from gateway.store.redis import RedisStore
from gateway.store.usage import UsageStore
from tests.conformance.stores import KINDS, MemoryStores, RedisStores, stores_of
from tests.support.redis_server import RedisServer

Made = MemoryStores | RedisStores


@pytest.fixture(params=["memory", "redis"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Made]:
    made: Made = MemoryStores() if request.param == "memory" else RedisStores(request.getfixturevalue("redis"))
    if isinstance(made, MemoryStores):
        made.now = time.time()
    yield made
    await made.close()


def replica(stores: Made, name: str) -> MemoryStore | RedisStore:
    found = stores.replica(name)
    assert isinstance(found, MemoryStore | RedisStore)
    return found


def record(key_id: str, consumer: str = "web", not_after: float | None = None) -> KeyRecord:
    return KeyRecord(key_id, "ab" * 32, consumer, "acme", ("a:read", "b"), not_after, 1_700_000_000.5)


async def test_a_key_is_there_until_it_is_revoked(stores: Made) -> None:
    a: KeyStore = replica(stores, "a")
    b: KeyStore = replica(stores, "b")
    assert list(await a.read_keys(["key00001", "key00002"])) == [None, None]
    assert await a.add_key(record("key00001"))
    assert list(await b.read_keys(["key00002", "key00001"])) == [None, record("key00001")]
    assert not await a.add_key(record("key00001", "another"))
    assert list(await b.list_keys()) == [record("key00001")]
    added = (await b.changed_keys())["key00001"]
    assert await b.changed_keys() == {"key00001": added}
    assert await b.revoke_key("key00001")
    assert (await a.changed_keys())["key00001"] > added
    assert not await b.revoke_key("key00001")
    assert (list(await a.read_keys(["key00001"])), list(await a.list_keys())) == ([None], [])


async def test_a_consumer_has_two_keys_that_are_good_and_others_have_their_own(stores: Made) -> None:
    a: KeyStore = replica(stores, "a")
    now = time.time()
    assert await a.add_key(record("key00000", not_after=now - 60))
    assert await a.add_key(record("key00001"))
    assert await a.add_key(record("key00002", not_after=now + 600))
    assert not await a.add_key(record("key00003"))
    assert await a.add_key(record("key00004", "other"))
    assert await a.expire_key("key00001", now - 1)
    assert await a.add_key(record("key00005"))


async def test_a_key_ends_sooner_and_never_later(stores: Made) -> None:
    a: KeyStore = replica(stores, "a")
    await a.add_key(record("key00001"))
    assert await a.expire_key("key00001", 2_000_000_000.0)
    assert await a.expire_key("key00001", 2_100_000_000.0)
    (found,) = await a.read_keys(["key00001"])
    assert found is not None
    assert found.not_after == 2_000_000_000.0
    assert not await a.expire_key("unknown0", 2_000_000_000.0)


async def version(store: MemoryStore | RedisStore) -> int:
    answer: SyncAnswer = await store.sync([])
    return answer.version


async def test_each_change_raises_the_version_so_that_replicas_look(stores: Made) -> None:
    a, b = replica(stores, "a"), replica(stores, "b")
    seen = await version(b)
    for change in (a.add_key(record("key00001")), a.expire_key("key00001", 2e9), a.revoke_key("key00001")):
        await change
        now = await version(b)
        assert now != seen
        seen = now


@pytest.mark.parametrize("kind", KINDS)
async def test_usage_is_added_once_for_each_replica_and_day(kind: str, request: pytest.FixtureRequest) -> None:
    stores = stores_of(kind, request)
    a: UsageStore = stores.replica("a")
    b: UsageStore = stores.replica("b")
    assert await a.add_usage("2027-01-31", 0, {}) == {}
    assert await a.add_usage("2027-01-31", 1, {"acme": 3, "x": 1}) == {"acme": 3, "x": 1}
    assert await a.add_usage("2027-01-31", 1, {"acme": 3, "x": 1}) == {"acme": 3, "x": 1}
    assert await b.add_usage("2027-01-31", 1, {"acme": 2}) == {"acme": 5, "x": 1}
    assert await a.add_usage("2027-02-01", 2, {"acme": 1}) == {"acme": 1}
    assert await b.add_usage("2027-01-31", 1, {}) == {"acme": 5, "x": 1}
    await stores.close()


async def test_keys_of_another_kind_in_redis_make_nothing_fail_and_are_named_in_the_log(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    made = RedisStores(redis)
    names = ("key:key00001", "keys", "key-changes", "usage:2027-01-31")
    for name in names:
        await asyncio.to_thread(redis.execute, "SET", f"api-gateway:{name}", "x")
    # Each replica writes at most one such line a minute.
    assert list(await replica(made, "a").read_keys(["key00001"])) == [None]
    assert list(await replica(made, "b").list_keys()) == []
    assert await replica(made, "c").changed_keys() == {}
    assert await replica(made, "d").add_usage("2027-01-31", 1, {"acme": 1}) == {"acme": 1}
    await made.close()
    assert [each.getMessage() for each in caplog.records] == [
        f"removed from Redis what is not the gateway's: api-gateway:{name} (string)" for name in names
    ]


@pytest.mark.parametrize(
    "field",
    [
        *[("not_after", each) for each in ("soon", "nan", "inf")],
        *[("consumer", each) for each in ("", "web\r\nX-Consumer: admin", "a b", "x" * 65)],
        *[("tenant", each) for each in ("acme\n", "{acme}")],
        ("sha256", ""),
    ],
)
async def test_a_record_that_is_not_understood_is_no_key(field: tuple[str, str], redis: RedisServer) -> None:
    made = RedisStores(redis)
    store = replica(made, "a")
    await store.add_key(record("key00001"))
    await asyncio.to_thread(redis.execute, "HSET", "api-gateway:key:key00001", *field)
    assert list(await store.read_keys(["key00001"])) == [None]
    await made.close()
