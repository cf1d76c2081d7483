"""The store port in the memory of one process, for any number of replicas.

It says in Python what the Lua scripts do, and one conformance suite holds both to the same answers. A gateway without
Redis runs on it: the supervisor keeps it for its workers (gateway/store/served). Tests model whole fleets with it, on a
clock that they move.

It takes a bounded amount of memory: see `MemoryBuckets` for the clients. Circuits and figures are of the upstreams that
a configuration names, and are forgotten when no replica speaks of them any more.
"""

import time
from collections.abc import Callable, Mapping, Sequence

from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.faults import Fault
from gateway.policy.lease.ask import Ask, Grant
from gateway.policy.outcome import Outcome
from gateway.store.faults import ChaosKey, ChaosSetting, SharedFault
from gateway.store.keys import KeyRecord
from gateway.store.memory.buckets import MemoryBuckets
from gateway.store.memory.circuits import CircuitTable, MemoryCircuits
from gateway.store.memory.endpoints import OutTable
from gateway.store.memory.faults import FaultTable
from gateway.store.memory.keys import KeyTable
from gateway.store.memory.usage import UsageTable
from gateway.store.port import CircuitReport, CircuitSnapshot, EndpointOut, ProbeLease, SyncAnswer


class SharedMemory:
    """What several `MemoryStore` share, as replicas share a Redis. `clock` gives seconds for all parts of it.

    `epoch` is that of `SyncAnswer`. Where it is an instant in microseconds, no lease has a number that a lease of an
    earlier store had.
    """

    def __init__(self, clock: Callable[[], float] | None = None, epoch: int = 1) -> None:
        self.buckets = MemoryBuckets(clock or time.monotonic, lease_ids=epoch)
        self.circuits = CircuitTable(clock or time.time, epoch)
        self.endpoints = OutTable(clock or time.time)
        self.keys = KeyTable(clock or time.time)
        self.faults = FaultTable(clock or time.time)
        self.usage = UsageTable()

    def take_out(self, out: EndpointOut) -> None:
        """See `Store.take_out`."""
        self.endpoints.put(out)
        self.circuits.version += 1

    def bring_back(self, upstream: str, endpoint: str) -> bool:
        """See `Store.bring_back`."""
        self.circuits.version += 1
        return self.endpoints.drop(upstream, endpoint)

    def add_fault(self, fault: Fault, duration: float, lease: float) -> str:
        """See `FaultStore.add_fault`."""
        self.circuits.version += 1
        return self.faults.add(fault, duration, lease)

    def drop_faults(self, ids: Sequence[str] | None) -> int:
        """See `FaultStore.drop_faults`."""
        self.circuits.version += 1
        return self.faults.drop(ids)


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
        self._shared.take_out(out)

    async def bring_back(self, upstream: str, endpoint: str) -> bool:
        """See `Store.bring_back`."""
        return self._shared.bring_back(upstream, endpoint)

    async def endpoints_out(self) -> Sequence[EndpointOut]:
        """See `Store.endpoints_out`."""
        return self._shared.endpoints.listed()

    async def read_keys(self, ids: Sequence[str]) -> Sequence[KeyRecord | None]:
        """See `KeyStore.read_keys`."""
        return self._shared.keys.read(ids)

    async def add_key(self, record: KeyRecord) -> bool:
        """See `KeyStore.add_key`."""
        self._shared.circuits.version += 1
        return self._shared.keys.add(record)

    async def expire_key(self, key_id: str, not_after: float) -> bool:
        """See `KeyStore.expire_key`."""
        self._shared.circuits.version += 1
        return self._shared.keys.expire(key_id, not_after)

    async def revoke_key(self, key_id: str) -> bool:
        """See `KeyStore.revoke_key`."""
        self._shared.circuits.version += 1
        return self._shared.keys.revoke(key_id)

    async def list_keys(self) -> Sequence[KeyRecord]:
        """See `KeyStore.list_keys`."""
        return self._shared.keys.listed()

    async def changed_keys(self) -> Mapping[str, float]:
        """See `KeyStore.changed_keys`."""
        return self._shared.keys.changed()

    async def add_usage(self, day: str, sequence: int, used: Mapping[str, int]) -> Mapping[str, int]:
        """See `UsageStore.add_usage`."""
        return self._shared.usage.add(self._replica, day, sequence, used)

    async def add_fault(self, fault: Fault, duration: float, lease: float) -> str:
        """See `FaultStore.add_fault`."""
        return self._shared.add_fault(fault, duration, lease)

    async def renew_faults(self, ids: Sequence[str], lease: float) -> None:
        """See `FaultStore.renew_faults`."""
        self._shared.faults.renew(ids, lease)

    async def drop_faults(self, ids: Sequence[str] | None) -> int:
        """See `FaultStore.drop_faults`."""
        return self._shared.drop_faults(ids)

    async def faults(self) -> Sequence[SharedFault]:
        """See `FaultStore.faults`."""
        return self._shared.faults.listed()

    async def chaos(self, upstreams: Sequence[str], most: float) -> Sequence[ChaosKey]:
        """See `FaultStore.chaos`: there are no keys without Redis."""
        return ()

    async def drop_chaos(self, keys: Sequence[tuple[str, ChaosSetting]]) -> int:
        """See `FaultStore.drop_chaos`: there are no keys without Redis."""
        return 0

    async def close(self) -> None:
        """Leave the fleet."""
        await self._circuits.leave()
