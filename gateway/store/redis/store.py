"""The store on Redis: token buckets and circuits over one `RedisClient`."""

import contextlib
from collections.abc import Callable, Mapping, Sequence

from gateway.config.sections.redis.model import RedisConfig
from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.faults import Fault
from gateway.policy.lease.ask import Ask, Grant
from gateway.policy.outcome import Outcome
from gateway.store.faults import ChaosKey, ChaosSetting, SharedFault
from gateway.store.keys import KeyRecord
from gateway.store.port import CircuitReport, CircuitSnapshot, EndpointOut, ProbeLease, StoreUnavailable, SyncAnswer
from gateway.store.redis.buckets import RedisBuckets
from gateway.store.redis.circuits import RedisCircuits
from gateway.store.redis.client import RedisClient, ignore
from gateway.store.redis.endpoints import RedisEndpoints
from gateway.store.redis.faults import RedisFaults
from gateway.store.redis.keys import RedisKeys
from gateway.store.redis.usage import RedisUsage


class RedisStore:
    """The store port for the replica named `replica`, unique to this process. Raises only `StoreUnavailable`.

    Nothing connects before the first call. `observe(command, seconds)` is told of every exchange.
    """

    def __init__(self, config: RedisConfig, replica: str, observe: Callable[[str, float], None] = ignore) -> None:
        self._client = RedisClient(config, observe)
        self._buckets = RedisBuckets(self._client, config.key_prefix, replica)
        self._circuits = RedisCircuits(self._client, config.key_prefix, replica)
        self._endpoints = RedisEndpoints(self._client, config.key_prefix)
        self._keys = RedisKeys(self._client, config.key_prefix)
        self._faults = RedisFaults(self._client, config.key_prefix)
        self._usage = RedisUsage(self._client, config.key_prefix, replica)

    @property
    def time_limit(self) -> float:
        """See `Store.time_limit`."""
        return self._client.time_limit

    async def take(self, asks: Sequence[Ask]) -> Sequence[Grant]:
        """See `Store.take`."""
        return await self._buckets.take(asks)

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
        await self._endpoints.put(out)
        await self._circuits.announce()

    async def bring_back(self, upstream: str, endpoint: str) -> bool:
        """See `Store.bring_back`."""
        was_out = await self._endpoints.drop(upstream, endpoint)
        await self._circuits.announce()
        return was_out

    async def endpoints_out(self) -> Sequence[EndpointOut]:
        """See `Store.endpoints_out`."""
        return await self._endpoints.listed()

    async def read_keys(self, ids: Sequence[str]) -> Sequence[KeyRecord | None]:
        """See `KeyStore.read_keys`."""
        return await self._keys.read(ids)

    async def add_key(self, record: KeyRecord) -> bool:
        """See `KeyStore.add_key`."""
        added = await self._keys.add(record)
        await self._circuits.announce()
        return added

    async def expire_key(self, key_id: str, not_after: float) -> bool:
        """See `KeyStore.expire_key`."""
        found = await self._keys.expire(key_id, not_after)
        await self._circuits.announce()
        return found

    async def revoke_key(self, key_id: str) -> bool:
        """See `KeyStore.revoke_key`."""
        found = await self._keys.revoke(key_id)
        await self._circuits.announce()
        return found

    async def list_keys(self) -> Sequence[KeyRecord]:
        """See `KeyStore.list_keys`."""
        return await self._keys.listed()

    async def changed_keys(self) -> Mapping[str, float]:
        """See `KeyStore.changed_keys`."""
        return await self._keys.changed()

    async def add_usage(self, day: str, sequence: int, used: Mapping[str, int]) -> Mapping[str, int]:
        """See `UsageStore.add_usage`."""
        return await self._usage.add(day, sequence, used)

    async def add_fault(self, fault: Fault, duration: float, lease: float) -> str:
        """See `FaultStore.add_fault`."""
        refused = await self._faults.add(fault, duration, lease)
        await self._circuits.announce()
        return refused

    async def renew_faults(self, ids: Sequence[str], lease: float) -> None:
        """See `FaultStore.renew_faults`."""
        await self._faults.renew(ids, lease)

    async def drop_faults(self, ids: Sequence[str] | None) -> int:
        """See `FaultStore.drop_faults`."""
        count = await self._faults.drop(ids)
        await self._circuits.announce()
        return count

    async def faults(self) -> Sequence[SharedFault]:
        """See `FaultStore.faults`."""
        return await self._faults.listed()

    async def chaos(self, upstreams: Sequence[str], most: float) -> Sequence[ChaosKey]:
        """See `FaultStore.chaos`."""
        return await self._faults.chaos(upstreams, most)

    async def drop_chaos(self, keys: Sequence[tuple[str, ChaosSetting]]) -> int:
        """See `FaultStore.drop_chaos`."""
        return await self._faults.drop_chaos(keys)

    async def close(self) -> None:
        """Leave the fleet, as far as the store can be told so, and close every connection."""
        with contextlib.suppress(StoreUnavailable):
            await self._circuits.leave()
        await self._client.close()
