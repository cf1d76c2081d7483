"""What tenants use, in Redis: the hash `{prefix}:usage:{day}` (`lua/usage.lua`)."""

from collections.abc import Mapping
from typing import Any

from gateway.store.port import StoreUnavailable
from gateway.store.redis.client import Arg, RedisClient, script
from gateway.store.usage import DAYS_KEPT

_DAY = 86_400


class RedisUsage:
    """The usage part of the store port for one replica. Raises only `StoreUnavailable`."""

    def __init__(self, client: RedisClient, prefix: str, replica: str) -> None:
        self._client = client
        self._prefix = f"{prefix}:usage:"
        self._replica = replica
        self._script = script("usage")

    async def add(self, day: str, sequence: int, used: Mapping[str, int]) -> Mapping[str, int]:
        """See `UsageStore.add_usage`."""
        arguments: list[Arg] = [self._replica, sequence, DAYS_KEPT * _DAY]
        for tenant, count in used.items():
            arguments += (tenant, count)
        answer: Any = await self._client.run(self._script, (self._prefix + day,), arguments, patient=True)
        if not isinstance(answer, list) or len(answer) % 2:
            raise StoreUnavailable("Redis answered something else than asked")
        return {answer[at].decode("utf-8", "replace"): int(answer[at + 1]) for at in range(0, len(answer), 2)}
