"""Token buckets in Redis: one script call for all asks of a moment (on a cluster, one for each node).

A bucket is the hash `{prefix}:rate-limit:{client}` for the policy named "default" and
`{prefix}:rate-limit:{name}:{client}` for any other. `lua/take.lua` says what is in it.
"""

from collections.abc import Sequence

from gateway.policy.lease import GRACE, LEASE_SHARE, LEASE_TIME
from gateway.policy.lease.ask import Ask, Grant
from gateway.store.port import StoreUnavailable
from gateway.store.redis.client import Arg, RedisClient, script
from gateway.store.redis.encoding import FIELDS, grants, keys, packed


class RedisBuckets:
    """`replica` names the holder of leases: unique to this process, without colons or commas."""

    def __init__(self, client: RedisClient, prefix: str, replica: str) -> None:
        if not replica or set(replica) & set(":,"):
            raise ValueError(f"not a replica's name: {replica!r}")
        self._client = client
        self._prefix = f"{prefix}:rate-limit:".encode()
        self._script = script("take")
        self._head: tuple[Arg, ...] = (
            replica,
            round(LEASE_TIME * 1e6),
            round((LEASE_TIME + GRACE) * 1e6),
            LEASE_SHARE,
        )

    async def take(self, asks: Sequence[Ask]) -> list[Grant]:
        """See `Store.take`."""
        if self._client.clustered:
            calls = [(keys(self._prefix, (ask,)), (*self._head, packed((ask,)))) for ask in asks]
            answer = [
                field for fields in await self._client.run_many(self._script, calls, patient=True) for field in fields
            ]
        else:
            answer = await self._client.run(
                self._script, keys(self._prefix, asks), (*self._head, packed(asks)), patient=True
            )
        if not isinstance(answer, list) or len(answer) != FIELDS * len(asks):
            raise StoreUnavailable("Redis answered something else than asked")
        return grants(answer)
