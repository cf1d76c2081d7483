"""The stores under test, behind one face: several replicas on one shared state, and time that passes when told to."""

from collections.abc import Sequence
from typing import Protocol, cast

import pytest

from gateway.config.sections.redis.model import RedisConfig
from gateway.policy.lease.ask import Ask, Grant
from gateway.policy.token_bucket import RateLimitPolicy
from gateway.store.memory import MemoryStore, SharedMemory
from gateway.store.port import Store
from gateway.store.redis import RedisStore
from gateway.store.redis.buckets import RedisBuckets
from gateway.store.redis.client import RedisClient
from gateway.store.served.server import StoreServer
from tests.support.made_up_clock import MadeUpClock
from tests.support.redis_server import RedisServer
from tests.support.served_stores import ServedStores

MICRO = 1_000_000
KINDS = ["memory", "served", "redis"]


class Stores(Protocol):
    async def take(self, replica: str, *asks: Ask) -> Sequence[Grant]: ...

    async def advance(self, seconds: float) -> None:
        """Let time pass for the buckets."""
        ...

    async def forgotten(self, key: str) -> bool:
        """Whether the store keeps nothing under the bucket `key`, a client or "name:client"."""
        ...

    async def close(self) -> None: ...


class MemoryStores:
    def __init__(self) -> None:
        self.now = 1000.0
        self._shared = SharedMemory(lambda: self.now)
        self._replicas: dict[str, MemoryStore] = {}

    def replica(self, name: str) -> Store:
        return self._replicas.setdefault(name, MemoryStore(self._shared, name))

    async def take(self, replica: str, *asks: Ask) -> Sequence[Grant]:
        return await self.replica(replica).take(asks)

    async def advance(self, seconds: float) -> None:
        self.now += seconds

    async def forgotten(self, key: str) -> bool:
        buckets = self._shared.buckets
        for _ in range(len(buckets)):  # each ask looks at two
            buckets.take("nobody", [Ask(RateLimitPolicy("nothing", 1, 1.0), "nobody", 0)])
        name, _, client = key.rpartition(":")
        return (name or "default", client) not in buckets

    async def close(self) -> None:
        for store in self._replicas.values():
            await store.close()


class ServedMemoryStores(MemoryStores):
    """The same over channels: what the workers of one host share without Redis."""

    def __init__(self) -> None:
        super().__init__()
        self._served = ServedStores(StoreServer(self._shared))
        self._stores: dict[str, Store] = {}

    def replica(self, name: str) -> Store:
        if name not in self._stores:
            self._stores[name] = self._served.store(name)
        return self._stores[name]

    async def close(self) -> None:
        for store in self._stores.values():
            await store.close()
        await self._served.close()


class RedisStores:
    """Stores as gateways have them, on Redis's clock: time passes by moving what is in the buckets into the past."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self._replicas: dict[str, RedisStore] = {}

    def replica(self, name: str) -> Store:
        if name not in self._replicas:
            config = RedisConfig("single", ((self.server.host, self.server.port),), timeout=8.0)
            self._replicas[name] = RedisStore(config, name)
        return self._replicas[name]

    async def take(self, replica: str, *asks: Ask) -> Sequence[Grant]:
        return await self.replica(replica).take(asks)

    async def advance(self, seconds: float) -> None:
        """Let time pass for buckets without leases, whose ids are times as well."""
        for key in age(self.server, seconds):
            self.server.execute("HINCRBY", key, "ts", -round(seconds * MICRO))

    async def close(self) -> None:
        for store in self._replicas.values():
            await store.close()


class RedisBucketsOnOurClock:
    """The buckets in Redis, whose script takes the test's clock for its own: however long a command takes, no time
    passes but what the test lets pass. A lease lapses within 0.3 s; on a busy machine two commands may be further
    apart."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._clock = MadeUpClock(server, expires=True)
        self._clock.begin()
        self._replicas: dict[str, RedisBuckets] = {}

    async def take(self, replica: str, *asks: Ask) -> Sequence[Grant]:
        if replica not in self._replicas:
            self._replicas[replica] = RedisBuckets(cast(RedisClient, self._clock), "api-gateway", replica)
        return await self._replicas[replica].take(asks)

    async def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)

    async def forgotten(self, key: str) -> bool:
        return not self._server.execute("EXISTS", f"api-gateway:rate-limit:{key}")

    async def close(self) -> None:
        self._clock.close()


def age(server: RedisServer, seconds: float) -> Sequence[str]:
    """Let the buckets expire so much sooner; the keys of those that are left."""
    keys = server.execute("KEYS", "api-gateway:rate-limit:*")
    return [
        key
        for key in keys
        if server.execute("PEXPIRE", key, server.execute("PTTL", key) - round(seconds * 1000))
        and server.execute("EXISTS", key)
    ]


def stores_of(kind: str, request: pytest.FixtureRequest) -> "MemoryStores | RedisStores":
    """The stores of one of `KINDS`."""
    if kind == "redis":
        return RedisStores(request.getfixturevalue("redis"))
    return memory_stores(kind)


def memory_stores(kind: str) -> MemoryStores:
    """Those of the kinds that need no server."""
    return MemoryStores() if kind == "memory" else ServedMemoryStores()
