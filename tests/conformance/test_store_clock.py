"""Shared circuits when the store's clock is set back, and when what the store holds cannot be meant."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Protocol

import pytest

from gateway.config.sections.redis.model import RedisConfig
from gateway.policy.lease.ask import Ask
from gateway.policy.outcome import Outcome
from gateway.policy.token_bucket import RateLimitPolicy
from gateway.store.memory.circuits import CircuitTable, MemoryCircuits
from gateway.store.port import ProbeLease
from gateway.store.redis.buckets import RedisBuckets
from gateway.store.redis.circuits import RedisCircuits
from gateway.store.redis.client import RedisClient
from tests.conformance.stores import KINDS
from tests.conformance.test_store_circuits import (
    CLOSED,
    FORCED_OPEN,
    HALF_OPEN,
    LONG,
    OPEN,
    StoreUnderTest,
    Voice,
    granted,
    half_open,
    until,
    voices,
)
from tests.support.redis_server import RedisServer
from tests.support.served_stores import ServedStores

CIRCUIT, REPLICAS = "api-gateway:circuit-breaker", "api-gateway:replicas"
HOUR = 3600.0
INSTANTS = {"opened_at", "retry_at", "suspected_at", "success_at", "reached_at"}


class Fleet(Protocol):
    def __call__(self, name: str) -> StoreUnderTest: ...

    def set_back(self, seconds: float) -> None:
        """Set the store's clock back."""
        ...


class MemoryFleet:
    def __init__(self) -> None:
        self._table = CircuitTable()

    def __call__(self, name: str) -> StoreUnderTest:
        return MemoryCircuits(self._table, name)

    def set_back(self, seconds: float) -> None:
        clock = self._table.clock
        self._table.clock = lambda: clock() - seconds


class ServedFleet(MemoryFleet):
    def __init__(self) -> None:
        self.served = ServedStores()
        self._table = self.served.server.shared.circuits

    def __call__(self, name: str) -> StoreUnderTest:
        store: StoreUnderTest = self.served.store(name)
        return store


class RedisFleet:
    """Redis has its own clock: it is set back by moving what is stored into the future."""

    def __init__(self, server: RedisServer, stack: AsyncExitStack) -> None:
        self._server = server
        self._stack = stack

    def __call__(self, name: str) -> StoreUnderTest:
        client = RedisClient(RedisConfig("single", ((self._server.host, self._server.port),), timeout=5.0))
        self._stack.push_async_callback(client.close)
        return RedisCircuits(client, "api-gateway", name)

    def set_back(self, seconds: float) -> None:
        def moved(text: str) -> str:
            return f"{float(text) + seconds:.6f}" if float(text) else text

        for name, value in self._server.execute("HGETALL", CIRCUIT).items():
            if name in INSTANTS or name.startswith(("word:", "probe:")):
                self._server.execute("HSET", CIRCUIT, name, moved(value))
            elif name.startswith("replica:"):
                numbers = value.split()
                numbers = [moved(each) if i == 0 or i >= 5 else each for i, each in enumerate(numbers)]
                self._server.execute("HSET", CIRCUIT, name, " ".join(numbers))
        for name, value in self._server.execute("HGETALL", REPLICAS).items():
            if not name.startswith(":"):
                self._server.execute("HSET", REPLICAS, name, moved(value))


@pytest.fixture(params=KINDS)
async def fleet(request: pytest.FixtureRequest) -> AsyncIterator[Fleet]:
    if request.param == "memory":
        yield MemoryFleet()
        return
    if request.param == "served":
        served_fleet = ServedFleet()
        yield served_fleet
        await served_fleet.served.close()
        return
    server: RedisServer = request.getfixturevalue("redis")
    async with AsyncExitStack() as stack:
        yield RedisFleet(server, stack)


class TestClockSetBack:
    async def test_an_open_circuit_is_open_no_longer_than_its_reset_timeout(self, fleet: Fleet) -> None:
        a = Voice(fleet("a"))
        await a.say()
        assert (await a.fails()).state is OPEN
        fleet.set_back(HOUR)
        assert (await a.say()).retry_after <= a.settings.reset_timeout
        await until(a.say, HALF_OPEN)

    async def test_a_force_lasts_no_longer_than_it_was_given(self, fleet: Fleet) -> None:
        a = Voice(fleet("a"))
        await a.say()
        await a.store.force("default", FORCED_OPEN, 0.3, "maintenance")
        fleet.set_back(HOUR)
        assert (await a.say()).retry_after <= 0.3
        await until(a.say, CLOSED)

    async def test_the_lease_of_a_probe_lapses_all_the_same(self, fleet: Fleet) -> None:
        a, b = await half_open(fleet, "a", "b")
        await granted(a, lease_time=0.3)
        fleet.set_back(HOUR)
        assert (await b.say()).retry_after <= 0.3
        await granted(b)

    async def test_a_dead_replica_does_not_count_for_an_hour(self, fleet: Fleet) -> None:
        a, _b = await voices(fleet, "a", "b")
        fleet.set_back(HOUR)
        async with asyncio.timeout(30.0):
            while a.replicas != 1:
                await a.say()
                await asyncio.sleep(0.05)

    async def test_a_success_from_before_does_not_deny_failures(self, fleet: Fleet) -> None:
        a, b = await voices(fleet, "a", "b", settings=LONG)
        await b.say(calls=1, success_age=0.0)
        async with asyncio.timeout(30.0):
            while a.replicas != 1:
                await a.say()
                await asyncio.sleep(0.05)
        await a.say()
        fleet.set_back(HOUR)
        await a.say()
        await until(a.fails, OPEN)


NONSENSE = ["nan", "-nan", "inf", "-inf", "1e308", "-1", "x", "", "0x7fffffffffffffff"]


@pytest.fixture
async def one(redis: RedisServer) -> AsyncIterator[Voice]:
    async with AsyncExitStack() as stack:
        yield Voice(RedisFleet(redis, stack)("a"), LONG)


class TestWhatCannotBeMeant:
    @pytest.mark.parametrize("value", NONSENSE)
    @pytest.mark.parametrize(
        "name",
        ["state", "failures", "generation", "opened_at", "retry_at", "suspected_at", "success_at", "reached_at",
         "successes", "max_probes", "word:b", "probe:b/x/1"],
    )  # fmt: skip
    async def test_in_a_circuit(self, redis: RedisServer, one: Voice, name: str, value: str) -> None:
        await one.say()
        redis.execute("HSET", CIRCUIT, name, value)
        said = await one.say()
        assert said.state is CLOSED
        # It works as ever after.
        await one.say()
        assert (await one.fails()).state is OPEN

    @pytest.mark.parametrize("value", NONSENSE)
    @pytest.mark.parametrize("at", range(10))
    async def test_in_the_evidence_of_a_replica(self, redis: RedisServer, one: Voice, at: int, value: str) -> None:
        await one.say()
        numbers = ["9999999999", "50", "50", "50", "0", "0", "0", "1", "2", "3"]
        numbers[at] = value or "?"
        redis.execute("HSET", CIRCUIT, "replica:b", " ".join(numbers))
        assert (await one.say(calls=5, success_age=0.0)).state is CLOSED

    @pytest.mark.parametrize("value", NONSENSE)
    @pytest.mark.parametrize("name", [":version", ":epoch", "a", "b"])
    async def test_in_the_list_of_replicas(self, redis: RedisServer, one: Voice, name: str, value: str) -> None:
        await one.say()
        redis.execute("HSET", REPLICAS, name, value)
        await one.say()
        assert one.replicas == 1
        assert (await one.fails()).state is OPEN

    @pytest.mark.parametrize("key", [CIRCUIT, REPLICAS])
    @pytest.mark.parametrize(
        "command", [("SET", "x"), ("RPUSH", "x"), ("SADD", "x"), ("ZADD", "1", "x")], ids=lambda words: words[0]
    )
    async def test_a_key_of_another_type(
        self, redis: RedisServer, one: Voice, key: str, command: tuple[str, ...], caplog: pytest.LogCaptureFixture
    ) -> None:
        await one.say()
        redis.execute("DEL", key)
        redis.execute(command[0], key, *command[1:])
        assert (await one.say()).state is CLOSED
        assert one.replicas == 1
        await one.say()
        assert (await one.fails()).state is OPEN
        assert redis.execute("TYPE", key) == "hash"
        assert caplog.text.count(f"what is not the gateway's: {key} (") == 1

    @pytest.mark.parametrize("value", NONSENSE)
    @pytest.mark.parametrize("name", ["retry_at", "opened_at", "probe:b/x/1"])
    async def test_in_an_open_circuit(self, redis: RedisServer, one: Voice, name: str, value: str) -> None:
        await one.say()
        assert (await one.fails()).state is OPEN
        redis.execute("HSET", CIRCUIT, name, value)
        said = await one.say()
        assert said.state in (OPEN, HALF_OPEN)
        assert 0.0 <= said.retry_after <= LONG.reset_timeout
        lease = await one.lease()
        if isinstance(lease, ProbeLease):
            await one.settle(lease, Outcome.IGNORED)


@pytest.mark.parametrize("value", NONSENSE)
@pytest.mark.parametrize("name", ["tokens", "ts"])
async def test_a_bucket_that_cannot_be_meant_still_limits(redis: RedisServer, name: str, value: str) -> None:
    redis.execute("HSET", "api-gateway:rate-limit:c", "tokens", "1", "ts", "1", name, value)
    async with AsyncExitStack() as stack:
        client = RedisClient(RedisConfig("single", ((redis.host, redis.port),), timeout=5.0))
        stack.push_async_callback(client.close)
        policy = RateLimitPolicy("default", 3, 0.01)
        buckets = RedisBuckets(client, "api-gateway", "one")
        (grant,) = await buckets.take([Ask(policy, "c", 10)])
        assert grant.granted <= 3
        (grant,) = await buckets.take([Ask(policy, "c", 10)])
        assert grant.granted == 0
