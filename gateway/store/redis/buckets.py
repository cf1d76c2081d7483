"""Token buckets in Redis: one script call for all asks of a moment (on a cluster, one for each node).

A bucket is the hash `{prefix}:rate-limit:{client}` for the policy named "default" and
`{prefix}:rate-limit:{name}:{client}` for any other. `lua/take.lua` says what is in it.
"""

import struct
from collections.abc import Callable, Sequence

from gateway.policy.lease import GRACE, LEASE_SHARE, LEASE_TIME
from gateway.store.port import Ask, Grant, StoreUnavailable
from gateway.store.redis.client import Arg, RedisClient, script

FIELDS = 8
_new: Callable[[type[Grant], tuple[int | float, ...]], Grant] = tuple.__new__  # half of what Grant's own costs


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
            calls = [((self._key(ask),), (*self._head, _packed((ask,)))) for ask in asks]
            answer = [
                field for fields in await self._client.run_many(self._script, calls, patient=True) for field in fields
            ]
        else:
            answer = await self._client.run(
                self._script, [self._key(ask) for ask in asks], (*self._head, _packed(asks)), patient=True
            )
        if not isinstance(answer, list) or len(answer) != FIELDS * len(asks):
            raise StoreUnavailable("Redis answered something else than asked")
        return [_grant(answer[i : i + FIELDS]) for i in range(0, len(answer), FIELDS)]

    def _key(self, ask: Ask) -> bytes:
        # Bytes: what is none yet costs redis-py a microsecond to encode.
        name = ask.policy.name
        return self._prefix + (ask.client if name == "default" else f"{name}:{ask.client}").encode()


def _packed(asks: Sequence[Ask]) -> bytes:
    # One argument instead of nine for each ask: encoding each costs redis-py more than everything else done for it.
    numbers: list[float] = []
    for policy, _, want, lease, unspent, lease_id, debt, debt_id in asks:
        numbers += (policy.capacity, policy.refill_rate, policy.max_ttl, want, lease, unspent, lease_id, debt, debt_id)
    return struct.pack(f">{len(numbers)}d", *numbers)


def _grant(fields: Sequence[int]) -> Grant:
    granted, leased, lease_id, remaining, retry_after, reset_after, held, held_time = fields
    return _new(
        Grant,
        (
            granted,
            leased,
            lease_id,
            LEASE_TIME,
            remaining / 1e6,
            retry_after / 1e6,
            reset_after / 1e6,
            held,
            held_time / 1e6,
        ),
    )
