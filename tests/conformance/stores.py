"""The stores under test, behind one face: several replicas on one shared state, and time that passes when told to."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from gateway.config.model import RedisConfig
from gateway.policy.token_bucket import RateLimitPolicy
from gateway.store.memory import MemoryStore, SharedMemory
from gateway.store.port import Ask, Grant, Store
from gateway.store.redis import RedisStore
from tests.support.redis_server import RedisServer

MICRO = 1_000_000


class Stores(Protocol):
    def replica(self, name: str) -> Store: ...

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


class RedisStores:
    """Redis has its own clock: time passes by moving what is in the buckets into the past, the ids of leases too."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self._replicas: dict[str, RedisStore] = {}
        self._moved = 0
        self._moved_at_issue: dict[int, int] = {}

    def replica(self, name: str) -> Store:
        if name not in self._replicas:
            config = RedisConfig("single", ((self.server.host, self.server.port),), timeout=8.0)
            self._replicas[name] = RedisStore(config, name)
        return self._replicas[name]

    async def take(self, replica: str, *asks: Ask) -> Sequence[Grant]:
        moved = [
            ask._replace(lease_id=ask.lease_id - self._moved + self._moved_at_issue[ask.lease_id])
            if ask.lease_id in self._moved_at_issue
            else ask
            for ask in asks
        ]
        grants = await self.replica(replica).take(moved)
        self._moved_at_issue.update((grant.lease_id, self._moved) for grant in grants if grant.lease_id)
        return grants

    async def advance(self, seconds: float) -> None:
        await asyncio.to_thread(self._advance, round(seconds * MICRO))

    def _advance(self, micro: int) -> None:
        self._moved += micro
        for key in self.server.execute("KEYS", "api-gateway:rate-limit:*"):
            left = self.server.execute("PTTL", key) - micro // 1000
            self.server.execute("PEXPIRE", key, left)
            if left <= 0:
                continue
            self.server.execute("HINCRBY", key, "ts", -micro)
            leases = [
                entry.split(":") for entry in (self.server.execute("HGET", key, "leases") or "").split(",") if entry
            ]
            if leases:
                moved = "".join(f"{holder}:{amount}:{int(at) - micro}," for holder, amount, at in leases)
                self.server.execute("HSET", key, "leases", moved)

    async def forgotten(self, key: str) -> bool:
        return not await asyncio.to_thread(self.server.execute, "EXISTS", f"api-gateway:rate-limit:{key}")

    async def close(self) -> None:
        for store in self._replicas.values():
            await store.close()
