"""The reference implementation of the store port, for any number of replicas in one process.

No gateway runs on it. It says in Python what the Lua scripts do, and one conformance suite holds both to the same
answers. Tests model whole fleets with it, on a clock that they move. A gateway without Redis shares nothing: what the
documentation calls the embedded store is `EmbeddedLimiter` and the local circuits in gateway/fleet.
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
    """What several `MemoryStore` share, as replicas share a Redis. `clock` gives seconds for all parts of it."""

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
        """See `Store.take`."""
        return self._buckets.take(self._replica, asks)

    async def sync(self, reports: Sequence[CircuitReport]) -> SyncAnswer:
        """See `Store.sync`."""
        return await self._circuits.sync(reports)

    async def lease_probe(
        self, upstream: str, settings: BreakerSettings, lease_time: float
    ) -> ProbeLease | CircuitSnapshot:
        """See `Store.lease_probe`."""
        return await self._circuits.lease_probe(upstream, settings, lease_time)

    async def settle_probe(
        self, lease: ProbeLease, settings: BreakerSettings, outcome: Outcome, reached: bool = True
    ) -> CircuitSnapshot:
        """See `Store.settle_probe`."""
        return await self._circuits.settle_probe(lease, settings, outcome, reached)

    async def force(self, upstream: str, state: CircuitState | None, duration: float, cause: str) -> CircuitSnapshot:
        """See `Store.force`."""
        return await self._circuits.force(upstream, state, duration, cause)

    async def reset(self, upstream: str) -> None:
        """See `Store.reset`."""
        await self._circuits.reset(upstream)

    async def take_out(self, out: EndpointOut) -> None:
        """See `Store.take_out`."""
        self._shared.endpoints.put(out)
        self._shared.circuits.version += 1

    async def bring_back(self, upstream: str, endpoint: str) -> bool:
        """See `Store.bring_back`."""
        self._shared.circuits.version += 1
        return self._shared.endpoints.drop(upstream, endpoint)

    async def endpoints_out(self) -> Sequence[EndpointOut]:
        """See `Store.endpoints_out`."""
        return self._shared.endpoints.listed()

    async def close(self) -> None:
        """Leave the fleet."""
        await self._circuits.leave()
