"""Faults on demand, the same over the memory store, served or not, and a real Redis."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest

from gateway.policy.faults import Fault
from gateway.store.faults import MOST, ChaosKey, fault_of, plain
from tests.conformance.stores import KINDS, MemoryStores, RedisStores, stores_of
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

KEY = "api-gateway:faults"
FAULT = Fault("a1", "pay", "delay", 12.5, "a drill: 50 % & é", "ann", "checkout", "[::1]:80", "X-User", 10.0, 0.25)


@pytest.fixture(params=KINDS)
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[MemoryStores | RedisStores]:
    made = stores_of(request.param, request)
    yield made
    await made.close()


def named(name: str, upstream: str = "pay") -> Fault:
    return dataclasses.replace(FAULT, id=name, upstream=upstream)


async def pass_time(stores: MemoryStores | RedisStores, seconds: float) -> None:
    await asyncio.sleep(seconds)  # Redis's clock cannot be moved
    if isinstance(stores, MemoryStores):
        await stores.advance(seconds)


async def test_what_one_replica_sets_all_know(stores: MemoryStores | RedisStores) -> None:
    a, b = stores.replica("a"), stores.replica("b")
    assert list(await b.faults()) == []
    assert await a.add_fault(FAULT, 60.0, 5.0) == ""
    (found,) = await b.faults()
    assert found.fault == FAULT
    assert 5.0 < found.left <= 60.0
    assert 0 < found.lease <= 5.0
    assert await b.drop_faults(["a1", "x"]) == 1
    assert await b.drop_faults(["a1"]) == 0
    assert await b.drop_faults([]) == 0
    assert list(await a.faults()) == []


async def test_all_of_them_are_of_one_upstream(stores: MemoryStores | RedisStores) -> None:
    store = stores.replica("a")
    await store.add_fault(named("one"), 60.0, 5.0)
    assert await store.add_fault(named("two"), 60.0, 5.0) == ""
    assert await store.add_fault(named("three", "orders"), 60.0, 5.0) == "pay"
    # One of the same id is replaced, and may not lead to another upstream, either.
    assert await store.add_fault(named("two", "orders"), 60.0, 5.0) == "pay"
    assert sorted(each.fault.id for each in await store.faults()) == ["one", "two"]
    assert await store.drop_faults(None) == 2
    assert await store.add_fault(named("three", "orders"), 60.0, 5.0) == ""
    assert await store.add_fault(named("three", "pay"), 60.0, 5.0) == ""


async def test_there_are_not_too_many(stores: MemoryStores | RedisStores) -> None:
    store = stores.replica("a")
    for number in range(MOST):
        assert await store.add_fault(named(f"f{number}"), 60.0, 5.0) == ""
    assert await store.add_fault(named("more"), 60.0, 5.0) == "*"
    assert await store.add_fault(named("f0"), 30.0, 5.0) == ""
    assert len(await store.faults()) == MOST


async def test_without_its_owner_a_fault_ends(stores: MemoryStores | RedisStores) -> None:
    store = stores.replica("a")
    # The word has to come within the lease, however busy the machine is, and Redis's clock is the real one.
    lease = 2.0 if isinstance(stores, RedisStores) else 0.1
    await store.add_fault(named("renewed"), 60.0, lease)
    await store.renew_faults(["renewed", "unknown"], 30.0)
    await store.add_fault(named("silent"), 60.0, 0.1)
    await pass_time(stores, 0.2)
    assert [each.fault.id for each in await store.faults()] == ["renewed"]
    # What has ended is not brought back by a word that comes late.
    await store.renew_faults(["silent"], 30.0)
    assert [each.fault.id for each in await store.faults()] == ["renewed"]


async def test_no_word_of_its_owner_makes_it_last_longer_than_it_was_to(stores: MemoryStores | RedisStores) -> None:
    store = stores.replica("a")
    await store.add_fault(FAULT, 0.2, 30.0)
    await store.renew_faults(["a1"], 30.0)
    (found,) = await store.faults()
    assert found.lease <= found.left <= 0.201
    await pass_time(stores, 0.3)
    assert list(await store.faults()) == []


async def test_each_change_is_announced(stores: MemoryStores | RedisStores) -> None:
    a, b = stores.replica("a"), stores.replica("b")
    versions = [(await b.sync([])).version]
    await a.add_fault(FAULT, 60.0, 5.0)
    versions.append((await b.sync([])).version)
    await a.drop_faults(None)
    versions.append((await b.sync([])).version)
    assert len(set(versions)) == 3


async def test_the_key_expires_and_may_hold_nonsense(redis: RedisServer) -> None:
    redis.execute("SET", KEY, "x")
    stores = RedisStores(redis)
    try:
        store = stores.replica("a")
        assert list(await store.faults()) == []
        await store.add_fault(FAULT, 60.0, 2.0)
        assert 0 < redis.execute("PTTL", KEY) <= 2000
        redis.execute("HSET", KEY, "b", "nonsense")
        redis.execute("HSET", KEY, "c", '99999999999999 99999999999999 pay {"kind":"magic"}')
        assert [each.fault.id for each in await store.faults()] == ["a1"]
        redis.execute("HDEL", KEY, "c")
        eventually(lambda: redis.execute("EXISTS", KEY) == 0, "the key expires")
    finally:
        await stores.close()


async def test_keys_that_are_written_by_hand(redis: RedisServer) -> None:
    stores = RedisStores(redis)
    try:
        store = stores.replica("a")
        assert list(await store.chaos(["pay", "orders"], 60.0)) == []
        redis.execute("SET", "chaos:pay:error_rate", "0.5")
        redis.execute("SET", "chaos:pay:latency_ms", "200", "EX", 20)
        redis.execute("SET", "chaos:orders:lock_contention_ms", "300", "EX", 7000)
        redis.execute("SET", "chaos:orders:error_rate", "much")
        redis.execute("SET", "chaos:orders:latency_ms", "inf")
        redis.execute("SET", "chaos:others:error_rate", "1")
        redis.execute("RPUSH", "chaos:shop:error_rate", "1")
        found = {each[:3]: each.left for each in await store.chaos(["pay", "orders", "shop"], 60.0)}
        assert list(found) == [
            ("pay", "error_rate", 0.5),
            ("pay", "latency_ms", 200.0),
            ("orders", "lock_contention_ms", 300.0),
        ]
        # Each has an end, and nobody else's key is touched.
        assert 0 < found["pay", "latency_ms", 200.0] <= 20.0
        assert 0 < found["pay", "error_rate", 0.5] <= 60.0
        assert 0 < redis.execute("TTL", "chaos:pay:error_rate") <= 60
        assert 0 < redis.execute("TTL", "chaos:orders:lock_contention_ms") <= 60
        assert redis.execute("TTL", "chaos:others:error_rate") == redis.execute("TTL", "chaos:shop:error_rate") == -1
        assert await store.drop_chaos([("pay", "error_rate"), ("pay", "latency_ms"), ("shop", "error_rate")]) == 2
        assert redis.execute("EXISTS", "chaos:shop:error_rate") == 1
        (left,) = await store.chaos(["pay", "orders"], 60.0)
        assert isinstance(left, ChaosKey)
    finally:
        await stores.close()


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "magic"}, {"percent": 0}, {"percent": 101.0}, {"percent": "5"}, {"status": 200}, {"delay": -1.0},
        {"rate": 0}, {"clients": 0.0}, {"upstream": 3}, {"newer": 1}, {"percent": True},
    ],
)  # fmt: skip
def test_what_another_version_means_is_no_fault(changed: dict[str, object]) -> None:
    assert fault_of(plain(FAULT)) == FAULT
    assert fault_of({**plain(FAULT), **changed}) is None


@pytest.mark.parametrize("data", [None, [], "x", {}, {"kind": "delay"}])
def test_what_is_no_fault_at_all(data: object) -> None:
    assert fault_of(data) is None
