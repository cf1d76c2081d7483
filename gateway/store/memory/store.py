"""The reference implementation of the store port: its rules in Python, for as many replicas of one process as wanted.

No gateway runs on it. It says step by step what the Lua scripts do, and one conformance suite holds them to it; tests
model whole fleets with it, by a clock of theirs. Without Redis there is nothing to share: the "embedded store"
of the documentation are `EmbeddedLimiter` and local circuits (gateway/fleet).
"""

import time
from collections.abc import Callable, Sequence

from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.outcome import Outcome
from gateway.store.memory.buckets import MemoryBuckets
from gateway.store.memory.circuits import CircuitTable, MemoryCircuits
from gateway.store.memory.endpoints import OutTable
from gateway.store.port import Ask, CircuitReport, CircuitSnapshot, EndpointOut, Grant, ProbeLease, SyncAnswer


class SharedMemory:
    """What several `MemoryStore` share, as replicas share a Redis. `clock` replaces the clocks of both halves."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.buckets = MemoryBuckets(clock or time.monotonic)
        self.circuits = CircuitTable(clock or time.time)
        self.endpoints = OutTable(clock or time.time)


class MemoryStore:
    """The store port for the replica named `replica`. Nothing awaits, so every operation is atomic."""

    def __init__(self, shared: SharedMemory | None = None, replica: str = "one") -> None:
        shared = shared or SharedMemory()
        self._replica = replica
        self._shared = shared
        self._buckets = shared.buckets
        self._circuits = MemoryCircuits(shared.circuits, replica)

    time_limit = 0.05

    async def take(self, asks: Sequence[Ask]) -> Sequence[Grant]:
        return self._buckets.take(self._replica, asks)

    async def sync(self, reports: Sequence[CircuitReport]) -> SyncAnswer:
        return await self._circuits.sync(reports)

    async def lease_probe(
        self, upstream: str, settings: BreakerSettings, lease_time: float
    ) -> ProbeLease | CircuitSnapshot:
        return await self._circuits.lease_probe(upstream, settings, lease_time)

    async def settle_probe(
        self, lease: ProbeLease, settings: BreakerSettings, outcome: Outcome, reached: bool = True
    ) -> CircuitSnapshot:
        return await self._circuits.settle_probe(lease, settings, outcome, reached)

    async def force(self, upstream: str, state: CircuitState | None, duration: float, cause: str) -> CircuitSnapshot:
        return await self._circuits.force(upstream, state, duration, cause)

    async def reset(self, upstream: str) -> None:
        await self._circuits.reset(upstream)

    async def take_out(self, out: EndpointOut) -> None:
        self._shared.endpoints.put(out)
        self._shared.circuits.version += 1

    async def bring_back(self, upstream: str, endpoint: str) -> bool:
        self._shared.circuits.version += 1
        return self._shared.endpoints.drop(upstream, endpoint)

    async def endpoints_out(self) -> Sequence[EndpointOut]:
        return self._shared.endpoints.listed()

    async def close(self) -> None:
        """Leave the fleet."""
        await self._circuits.leave()
