"""What one replica knows of one client's shared bucket.

This module makes no decisions. It holds what is known, says what the attributes mean, and works out what follows from
them and from the time alone.
"""

from collections import deque
from enum import IntEnum
from math import ceil, inf
from typing import Final, Generic, TypeVar

from gateway.policy.lease.times import HOT, LEASE_SHARE, LEASE_TIME, MEMORY
from gateway.policy.token_bucket import RateLimitPolicy

W = TypeVar("W")


class AccountState(IntEnum):
    """What happens to an account now."""

    IDLE = 0
    """There is nothing to ask."""
    QUEUED = 1
    """It is in line to be asked about."""
    ASKING = 2
    """An ask is under way."""
    PARKED = 3
    """Its requests wait for the leases of other replicas to end."""


IDLE: Final = AccountState.IDLE
QUEUED: Final = AccountState.QUEUED
ASKING: Final = AccountState.ASKING
PARKED: Final = AccountState.PARKED


class Account(Generic[W]):
    """One client's bucket as this replica knows it, and the requests that wait for it.

    What may be spent: `tokens` of lease `lease_id`, until `lease_end`. The lease is renewed when no more than `low`
    tokens are left or `renew_at` has come.

    What the bucket held besides leases at `pool_at`: `pool` tokens, or, below zero, it lacked `owes`. It is known to be
    empty until `ask_at`, and its next token comes at `token_at`.

    What was spent without the store: `debt` tokens are still to be told, or below zero to be given back; `debt_sent`,
    with the id `debt_id`, were told and are not confirmed; `credit` tokens were granted by the store to requests that
    had been decided already.

    The ask under way, with the number `turn`: it wants tokens for `want` requests and a lease of `lease` tokens, and
    reports that `unspent` tokens of the old lease are left. Of those, `reported` remain spendable meanwhile.

    The requests: `waiting` ones, oldest first; at most `holdable` of them may wait for other replicas' leases. `demand`
    requests have arrived since `since`, and `steady` per LEASE_TIME arrived before that.
    """

    __slots__ = (
        "ask_at",
        "book",
        "client",
        "credit",
        "debt",
        "debt_id",
        "debt_sent",
        "demand",
        "holdable",
        "lease",
        "lease_end",
        "lease_id",
        "low",
        "owes",
        "pool",
        "pool_at",
        "renew_at",
        "reported",
        "since",
        "state",
        "steady",
        "token_at",
        "tokens",
        "turn",
        "unspent",
        "waiting",
        "want",
    )

    def __init__(self, book: "Book[W]", client: str, now: float) -> None:
        self.book = book
        self.client = client
        self.state = IDLE
        self.tokens = 0
        self.lease_id = 0
        self.lease_end = 0.0
        self.low = -1
        self.renew_at = inf
        self.pool = float(book.policy.capacity)
        self.pool_at = now
        self.owes = 0.0
        self.ask_at = 0.0
        self.token_at = 0.0
        self.demand = 0
        self.since = now
        self.steady = 0.0
        self.waiting: deque[W] | None = None
        self.holdable = 0
        self.turn = 0
        self.want = 0
        self.lease = 0
        self.unspent = 0
        self.reported = 0
        self.debt = 0
        self.debt_sent = 0
        self.debt_id = 0
        self.credit = 0

    def __repr__(self) -> str:
        waiting = len(self.waiting or ())
        return f"<Account {self.client} {self.state.name} tokens={self.tokens} pool={self.pool:g} waiting={waiting}>"

    @property
    def policy(self) -> RateLimitPolicy:
        """The rate limit that the bucket belongs to."""
        return self.book.policy

    def level(self, now: float) -> float:
        """How many tokens the bucket holds at `now` besides leases, as far as this replica can tell; below zero when it
        owes some."""
        policy = self.book.policy
        idle = now - self.pool_at
        if idle >= policy.max_ttl:
            return policy.capacity
        return min(policy.capacity, self.pool - self.owes + idle * policy.refill_rate)

    def useful_lease(self, now: float) -> int:
        """The number of tokens that this client is likely to use here within LEASE_TIME; 0 when it is not hot."""
        elapsed = now - self.since
        if elapsed < LEASE_TIME:
            expected = max(self.steady, self.demand)
        else:
            expected = self.steady = self.demand * LEASE_TIME / elapsed
            self.since = now
            self.demand = 0
        return min(ceil(expected), self.book.policy.capacity // LEASE_SHARE) if expected >= HOT else 0

    def forgettable(self, now: float) -> bool:
        """Whether nothing that is worth knowing is lost when this account is dropped."""
        return (
            now >= self.since + MEMORY
            and now >= self.lease_end
            and now >= self.ask_at
            and not self.lease_id
            and not self.debt
            and not self.debt_sent
            and self.level(now) >= self.book.policy.capacity
        )


class Book(Generic[W]):
    """The accounts of one policy's clients.

    `refill_time` is the seconds in which one token flows in, at most the policy's `max_ttl`.
    """

    __slots__ = ("_order", "accounts", "policy", "refill_time")

    def __init__(self, policy: RateLimitPolicy) -> None:
        self.accounts: dict[str, Account[W]] = {}
        # All of them, the one not looked at for longest first. A dict takes time in proportion to the entries removed
        # before its first one, and an ordered one five times as many instructions as both of these.
        self._order: deque[Account[W]] = deque()
        self.policy = policy
        self.refill_time = _refill_time(policy)

    def adopt(self, policy: RateLimitPolicy) -> None:
        """Go on under another policy of the same name."""
        self.policy = policy
        self.refill_time = _refill_time(policy)

    def open(self, client: str, now: float, most: int) -> Account[W]:
        """A new account, of a client that has none, so that there are `most` at most.

        Looks at the two accounts not looked at for longest. Drops those that are forgettable, and at the cap those that
        are not; accounts with something under way always stay. A lease that is dropped lapses in the store.
        """
        accounts, order = self.accounts, self._order
        for _ in range(min(2, len(order))):
            oldest = order.popleft()
            if oldest.state is IDLE and (len(order) >= most - 1 or oldest.forgettable(now)):
                del accounts[oldest.client]
            else:
                order.append(oldest)
        account = accounts[client] = Account(self, client, now)
        order.append(account)
        return account


def _refill_time(policy: RateLimitPolicy) -> float:
    return min(policy.max_ttl, 1.0 / policy.refill_rate if policy.refill_rate > 0 else inf)
