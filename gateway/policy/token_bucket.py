"""Token buckets: the arithmetic, and a bounded table of them.

A bucket holds `tokens ≤ capacity`; they grow by `refill_rate · t` and a request takes one:

    tokens(t) = min(capacity, tokens(t₀) + refill_rate · (t - t₀))

so the requests admitted in any window of t seconds are at most capacity + refill_rate · t. A bucket that is full is no
different from one that was never seen, so it may be forgotten.

Left out on purpose: costs other than one token, and sharing between replicas (see `lease`).
"""

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil
from typing import Final


@dataclass(frozen=True, slots=True)
class RateLimitPolicy:
    """A named token bucket: at most `capacity` tokens, `refill_rate` tokens per second, one per request.

    An idle bucket is remembered for `max_ttl` seconds at most. Usually it is full long before that; a bucket that would
    take longer to refill counts as full after `max_ttl` seconds without a request.
    """

    name: str
    capacity: int
    refill_rate: float
    max_ttl: float = 3600.0


class Decision:
    """What a bucket says to one request. Decisions with equal values are equal; nobody changes one.

    `remaining` tokens are left after the request. The bucket holds one token in `retry_after` seconds (0 when the
    request is allowed), and is full in `reset_after` seconds.
    """

    __slots__ = ("allowed", "remaining", "reset_after", "retry_after")

    def __init__(self, allowed: bool, remaining: float, retry_after: float, reset_after: float) -> None:
        self.allowed = allowed
        self.remaining = remaining
        self.retry_after = retry_after
        self.reset_after = reset_after

    def __repr__(self) -> str:
        return f"Decision({self.allowed!r}, {self.remaining!r}, {self.retry_after!r}, {self.reset_after!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Decision):
            return NotImplemented
        return (
            self.allowed == other.allowed
            and self.remaining == other.remaining
            and self.retry_after == other.retry_after
            and self.reset_after == other.reset_after
        )

    def __hash__(self) -> int:
        return hash((self.allowed, self.remaining, self.retry_after, self.reset_after))


EXEMPT: Final = Decision(True, 0.0, 0.0, 0.0)
"""The decision, always this object, about a client that no limit is for. It has no figures."""


def time_to_gain(policy: RateLimitPolicy, tokens: float) -> float:
    """Seconds until `tokens` more have flowed into an idle bucket; at most `max_ttl`, when it is forgotten."""
    if tokens <= 0.0:
        return 0.0
    if tokens >= policy.refill_rate * policy.max_ttl:
        return policy.max_ttl
    return tokens / policy.refill_rate


class Bucket:
    """`tokens` at the instant `at`; `spent` were taken of it since it `began`, beyond what was paid for already."""

    __slots__ = ("at", "began", "spent", "tokens")

    def __init__(self, tokens: float, at: float, paid: int = 0) -> None:
        self.tokens = tokens
        self.at = at
        self.began = at
        self.spent = -paid


class BucketTable:
    """The buckets of one policy's clients, in memory.

    The table holds `max_clients` buckets at most. For each new client it looks at the two buckets that have not been
    looked at for longest: it drops a full one, and moves another to the back. At the cap it drops the fuller of the two
    although it is not full. The client of that bucket may then exceed its limit: a flood of addresses loosens the
    limits of some clients, and does not make the table refuse everybody new.

    `share` scales the policy down, to one token at least: a replica on its own takes capacity / n and refill_rate / n.
    """

    __slots__ = ("_buckets", "_capacity", "_max_clients", "_rate", "_ttl", "policy")

    def __init__(self, policy: RateLimitPolicy, share: float = 1.0, max_clients: int = 100_000) -> None:
        self.policy = policy
        self.scale(share)
        self._ttl = policy.max_ttl
        self._max_clients = max(1, max_clients)
        # A plain dict takes time in proportion to the entries removed before its first one.
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def __contains__(self, client: str) -> bool:
        return client in self._buckets

    def scale(self, share: float) -> None:
        """Change the share. Buckets keep their tokens, as far as they still have room for them."""
        self._capacity = max(1.0, self.policy.capacity * share)
        self._rate = self.policy.refill_rate * share

    def take(self, client: str, now: float) -> Decision:
        """HOT. Take one token from the client's bucket; `now` never goes backwards."""
        bucket = self._buckets.get(client)
        if bucket is None:
            bucket = self.start(client, self._capacity, now)
        capacity = self._capacity
        idle = now - bucket.at
        tokens = bucket.tokens + idle * self._rate
        if tokens > capacity or idle >= self._ttl:
            tokens = capacity
        if tokens >= 1.0:
            bucket.tokens = tokens = tokens - 1.0
            bucket.at = now
            bucket.spent += 1
            return Decision(True, tokens, 0.0, self._wait(capacity - tokens))
        return Decision(False, tokens, self._wait(1.0 - tokens), self._wait(capacity - tokens))

    def refund(self, client: str) -> None:
        """Give back a token that `take` has just given, because its request is not to have it after all."""
        bucket = self._buckets.get(client)
        if bucket is not None:
            bucket.tokens = min(self._capacity, bucket.tokens + 1.0)
            bucket.spent -= 1

    def peek(self, client: str, now: float) -> Decision:
        """What `take` would decide, without taking anything."""
        bucket = self._buckets.get(client)
        capacity = tokens = self._capacity
        if bucket is not None and now - bucket.at < self._ttl:
            tokens = min(capacity, bucket.tokens + (now - bucket.at) * self._rate)
        allowed = tokens >= 1.0
        if allowed:
            tokens -= 1.0
        return Decision(allowed, tokens, 0.0 if allowed else self._wait(1.0 - tokens), self._wait(capacity - tokens))

    def start(self, client: str, tokens: float, now: float, paid: int = 0) -> Bucket:
        """Begin the client's bucket anew with `tokens`, at most its capacity; `paid` of them are no debt when spent."""
        self._evict(now)
        bucket = self._buckets[client] = Bucket(min(tokens, self._capacity), now, paid)
        return bucket

    def forget(self, client: str, now: float) -> int:
        """Drop the client's bucket, and return how many tokens the whole bucket, of which this is a share, owes for it.

        Those are the tokens taken since this bucket began. If it began so long ago that a bucket has filled up since,
        only what this one still lacks counts: the rest has flowed into this share again, while the whole bucket was
        full and had no room for it.
        """
        bucket = self._buckets.pop(client, None)
        if bucket is None or bucket.spent <= 0:
            return 0
        if now - bucket.began < time_to_gain(self.policy, self.policy.capacity):
            return bucket.spent
        idle = now - bucket.at
        lacks = 0.0 if idle >= self._ttl else self._capacity - bucket.tokens - idle * self._rate
        return max(0, min(bucket.spent, ceil(lacks)))

    def first(self) -> str | None:
        """The client whose bucket was not looked at for longest; None when there is none."""
        return next(iter(self._buckets), None)

    def _wait(self, tokens: float) -> float:
        # This is `time_to_gain` for this table's share of the policy.
        return tokens / self._rate if tokens < self._rate * self._ttl else self._ttl

    def _evict(self, now: float) -> None:
        buckets = self._buckets
        fullest, most = "", -1.0
        for _ in range(min(2, len(buckets))):
            client, bucket = buckets.popitem(last=False)
            tokens = bucket.tokens + (now - bucket.at) * self._rate
            if tokens >= self._capacity or now - bucket.at >= self._ttl:
                continue
            buckets[client] = bucket
            if tokens > most:
                fullest, most = client, tokens
        if len(buckets) >= self._max_clients:
            del buckets[fullest]
