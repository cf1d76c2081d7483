"""Shared token buckets in this process: the reference for `lua/take.lua`, which does the same step by step.

The steps for each bucket, in this order:

1. Refill it up to its capacity less what is leased. A lease that has lapsed since then counts as spent, and as held
   until it lapsed.
2. Take off `debt`, unless the replica has told this debt before; a debt below zero is given back.
3. End the lease of the replica that asks, and give back what is `unspent` of it.
4. Grant the waiting requests.
5. Lease tokens, if the replica wants a lease.

The docstring of `gateway.policy.lease` says why this never admits too much. The refill comes before the giving back:
otherwise the tokens of a lease that was spent in its last instant would already have been refilled.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Final, NamedTuple

from gateway.policy.lease import GRACE, LEASE_SHARE, LEASE_TIME
from gateway.policy.lease.ask import Ask, Grant
from gateway.policy.token_bucket import RateLimitPolicy, time_to_gain

HOLD = LEASE_TIME + GRACE
ROUNDING = 1e-9  # a bucket that lacks less than this for a token has it
MOST_BUCKETS: Final = 250_000
"""How many buckets that are not full are kept: at about 450 bytes each, some 110 MB."""
SAMPLE: Final = 8
MOST_TOLD: Final = 64
"""How many replicas' debts one bucket remembers. Workers that are replaced have new names."""


class Lease(NamedTuple):
    """`amount` tokens that `replica` may spend, booked at the instant `at`."""

    replica: str
    amount: int
    id: int
    at: float


@dataclass(slots=True)
class SharedBucket:
    """`tokens` at the instant `at`, the booked leases in the order of their booking, and for each replica the id of the
    last debt that it told. What is in `leases` and `told` is never changed, only replaced."""

    policy: RateLimitPolicy
    tokens: float
    at: float
    leases: tuple[Lease, ...] = ()
    told: Mapping[str, int] | None = None

    def advance(self, policy: RateLimitPolicy, now: float) -> None:
        """Bring the bucket to `now`."""
        if now - self.at >= policy.max_ttl:
            self.tokens = policy.capacity
        outstanding = sum([lease.amount for lease in self.leases]) if self.leases else 0
        while self.leases and self.leases[0].at + HOLD <= now:
            lapsed = self.leases[0]
            self.leases = self.leases[1:]
            self._refill(policy, lapsed.at + HOLD, outstanding)
            outstanding -= lapsed.amount
        self._refill(policy, now, outstanding)

    def _refill(self, policy: RateLimitPolicy, now: float, outstanding: int) -> None:
        gained = max(0.0, now - self.at) * policy.refill_rate
        self.tokens = min(policy.capacity - outstanding, self.tokens + gained)
        self.at = max(self.at, now)

    def is_full(self, now: float) -> bool:
        """Whether it is no different from a bucket that nobody has seen."""
        policy = self.policy
        full = now - self.at >= min(policy.max_ttl, time_to_gain(policy, policy.capacity - self.tokens))
        return full and not (self.leases and self.leases[-1].at + HOLD > now)

    def note_debt(self, replica: str, debt_id: int) -> None:
        """A debt of this replica was taken off."""
        told = {**(self.told or {}), replica: debt_id}
        while len(told) > MOST_TOLD:
            del told[next(iter(told))]
        self.told = told


class MemoryBuckets:
    """The buckets of all clients. Several replicas of one process may share an instance.

    Full buckets are forgotten: each ask looks at the two buckets that nobody has looked at for the longest time. Where
    more than `most` remain that are not full, each new one costs another its place: of the `SAMPLE` that nobody has
    looked at for the longest time, the one that was used the longest ago. Its client begins with a full bucket again.

    The ids of leases are greater than `lease_ids`.
    """

    def __init__(self, clock: Callable[[], float], most: int = MOST_BUCKETS, lease_ids: int = 0) -> None:
        self.clock = clock
        self._most = most
        self.buckets: OrderedDict[tuple[str, str], SharedBucket] = OrderedDict()
        self.lease_ids = lease_ids

    def __len__(self) -> int:
        return len(self.buckets)

    def __contains__(self, bucket: tuple[str, str]) -> bool:
        """Whether anything is known of the bucket (policy name, client)."""
        return bucket in self.buckets

    def take(self, replica: str, asks: Sequence[Ask]) -> list[Grant]:
        """See `Store.take`."""
        now = self.clock()
        return [self._take(replica, ask, now) for ask in asks]

    def _take(self, replica: str, ask: Ask, now: float) -> Grant:
        self._forget(now)
        policy, lease, debt, debt_id = ask.policy, ask.lease, ask.debt, ask.debt_id
        key = (policy.name, ask.client)
        known = self.buckets.get(key)
        if known is None:
            bucket = SharedBucket(policy, float(policy.capacity), now)
        else:
            bucket = SharedBucket(policy, known.tokens, known.at, known.leases, known.told)
            bucket.advance(policy, now)
        tokens = bucket.tokens
        if debt and (bucket.told or {}).get(replica, 0) < debt_id:
            outstanding = sum([each.amount for each in bucket.leases]) if bucket.leases else 0
            tokens = max(min(tokens, -policy.capacity), min(policy.capacity - outstanding, tokens - debt))
            bucket.note_debt(replica, debt_id)
        own = next((each for each in bucket.leases if each.replica == replica), None) if bucket.leases else None
        renews = own is None or own.id == ask.lease_id
        back = 0
        if own is not None and renews:
            bucket.leases = tuple([each for each in bucket.leases if each is not own])
            back = min(ask.unspent, own.amount)
            tokens += back
        leased = back if lease else 0
        free = tokens - leased + ROUNDING
        granted = max(0, min(ask.want, floor(free)))
        free -= granted
        lease_id = 0
        if lease and renews:
            room = min(policy.capacity // LEASE_SHARE - leased, floor(free - policy.capacity / 2))
            leased += max(0, min(lease, room))
            if leased:
                self.lease_ids = lease_id = self.lease_ids + 1
                bucket.leases = (*bucket.leases, Lease(replica, leased, lease_id, now))
        bucket.tokens = tokens = tokens - granted - leased
        if granted or leased or debt or (own is not None and renews):
            # A refusal is not written: being refused must not keep an idle bucket from being forgotten.
            self.buckets[key] = bucket
            if len(self.buckets) > self._most:
                self._make_room(key, now)
        held, held_time = _held_elsewhere(bucket, replica, now) if bucket.leases else (0, 0.0)
        return Grant(
            *(granted, leased, lease_id, LEASE_TIME, tokens),
            time_to_gain(policy, 1.0 - tokens),
            time_to_gain(policy, policy.capacity - tokens),
            *(held, held_time),
        )

    def _forget(self, now: float) -> None:
        buckets = self.buckets
        for _ in range(min(2, len(buckets))):
            key = next(iter(buckets))
            if buckets[key].is_full(now):
                del buckets[key]
            else:
                buckets.move_to_end(key)

    def _make_room(self, new: tuple[str, str], now: float) -> None:
        buckets = self.buckets
        oldest, used_at = None, float("inf")
        for _ in range(min(SAMPLE, len(buckets))):
            key = next(iter(buckets))
            bucket = buckets[key]
            if key != new and bucket.at < used_at:
                oldest, used_at = key, bucket.at
            buckets.move_to_end(key)
        if oldest is not None:
            del buckets[oldest]


def _held_elsewhere(bucket: SharedBucket, replica: str, now: float) -> tuple[int, float]:
    held = [lease for lease in bucket.leases if lease.replica != replica]
    most = max([max(0.0, lease.at + LEASE_TIME - now) for lease in held], default=0.0)
    return sum([lease.amount for lease in held]), most
