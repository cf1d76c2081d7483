"""Shared token buckets in this process: the reference for `lua/take.lua`, which does the same step by step.

The steps for each bucket, in this order:

1. Refill it up to its capacity less what is leased. A lease that has lapsed since then counts as spent, and as held
   until it lapsed.
2. Take off `debt`, unless the replica has told this debt before.
3. End the lease of the replica that asks, and give back what is `unspent` of it.
4. Grant the waiting requests.
5. Lease tokens, if the replica wants a lease.

The docstring of `gateway.policy.lease` says why this never admits too much. The refill comes before the giving back:
otherwise the tokens of a lease that was spent in its last instant would already have been refilled.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import floor

from gateway.policy.lease import GRACE, LEASE_SHARE, LEASE_TIME
from gateway.policy.token_bucket import RateLimitPolicy, time_to_gain
from gateway.store.port import Ask, Grant

HOLD = LEASE_TIME + GRACE
ROUNDING = 1e-9  # a bucket that lacks less than this for a token has it


@dataclass(slots=True)
class Lease:
    """`amount` tokens that `replica` may spend, booked at the instant `at`."""

    replica: str
    amount: int
    id: int
    at: float


@dataclass(slots=True)
class SharedBucket:
    """`tokens` at the instant `at`, the booked leases in the order of their booking, and for each replica the id of the
    last debt that it told."""

    tokens: float
    at: float
    leases: list[Lease] = field(default_factory=list)
    told: dict[str, int] = field(default_factory=dict)

    def advance(self, policy: RateLimitPolicy, now: float) -> None:
        """Bring the bucket to `now`."""
        if now - self.at >= policy.max_ttl:
            self.tokens = policy.capacity
        outstanding = sum(lease.amount for lease in self.leases)
        while self.leases and self.leases[0].at + HOLD <= now:
            lapsed = self.leases.pop(0)
            self._refill(policy, lapsed.at + HOLD, outstanding)
            outstanding -= lapsed.amount
        self._refill(policy, now, outstanding)

    def _refill(self, policy: RateLimitPolicy, now: float, outstanding: int) -> None:
        gained = max(0.0, now - self.at) * policy.refill_rate
        self.tokens = min(policy.capacity - outstanding, self.tokens + gained)
        self.at = max(self.at, now)


class MemoryBuckets:
    """The buckets of all clients. Several replicas of one process may share an instance.

    Full buckets are forgotten: each call looks at the two buckets that nobody has looked at for the longest time.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], tuple[RateLimitPolicy, SharedBucket]] = OrderedDict()
        self._lease_ids = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def __contains__(self, bucket: tuple[str, str]) -> bool:
        """Whether anything is known of the bucket (policy name, client)."""
        return bucket in self._buckets

    def take(self, replica: str, asks: Sequence[Ask]) -> list[Grant]:
        """See `Store.take`."""
        now = self._clock()
        return [self._take(replica, ask, now) for ask in asks]

    def _take(self, replica: str, ask: Ask, now: float) -> Grant:
        policy = ask.policy
        self._forget(now)
        known = self._buckets.get((policy.name, ask.client))
        idle = known[1] if known else SharedBucket(policy.capacity, now)
        bucket = SharedBucket(idle.tokens, idle.at, idle.leases[:], idle.told.copy())
        bucket.advance(policy, now)

        tokens = bucket.tokens
        if ask.debt and bucket.told.get(replica, 0) < ask.debt_id:
            tokens = max(min(tokens, -policy.capacity), tokens - ask.debt)
            bucket.told[replica] = ask.debt_id
        own = next((lease for lease in bucket.leases if lease.replica == replica), None)
        back = 0
        if own is not None and own.id == ask.lease_id:
            bucket.leases.remove(own)
            back = min(ask.unspent, own.amount)
            tokens += back
        leased = back if ask.lease else 0

        free = tokens - leased + ROUNDING
        granted = max(0, min(ask.want, floor(free)))
        free -= granted
        lease_id = 0
        if ask.lease and (own is None or own.id == ask.lease_id):
            room = min(policy.capacity // LEASE_SHARE - leased, floor(free - policy.capacity / 2))
            leased += max(0, min(ask.lease, room))
            if leased:
                self._lease_ids += 1
                lease_id = self._lease_ids
                bucket.leases.append(Lease(replica, leased, lease_id, now))
        bucket.tokens = tokens = tokens - granted - leased
        if granted or leased or ask.debt or (own is not None and own.id == ask.lease_id):
            # A refusal is not written: being refused must not keep an idle bucket from being forgotten.
            self._buckets[policy.name, ask.client] = policy, bucket

        held = [lease for lease in bucket.leases if lease.replica != replica]
        return Grant(
            granted=granted,
            leased=leased,
            lease_id=lease_id,
            lease_time=LEASE_TIME,
            remaining=tokens,
            retry_after=time_to_gain(policy, 1.0 - tokens),
            reset_after=time_to_gain(policy, policy.capacity - tokens),
            held_elsewhere=sum(lease.amount for lease in held),
            held_time=max((max(0.0, lease.at + LEASE_TIME - now) for lease in held), default=0.0),
        )

    def _forget(self, now: float) -> None:
        for _ in range(min(2, len(self._buckets))):
            key, (policy, bucket) = self._buckets.popitem(last=False)
            full = now - bucket.at >= min(policy.max_ttl, time_to_gain(policy, policy.capacity - bucket.tokens))
            if not full or (bucket.leases and bucket.leases[-1].at + HOLD > now):
                self._buckets[key] = policy, bucket
