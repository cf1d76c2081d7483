"""What one replica knows of one client's shared bucket: the state that `gateway.policy.lease` works on.

No decisions here: what the fields mean, and what follows from them and the time alone.
"""

from collections import OrderedDict, deque
from enum import IntEnum
from math import inf
from typing import Generic, TypeVar

from gateway.policy.token_bucket import RateLimitPolicy

MEMORY = 1.0  # how long a client's rate is remembered

W = TypeVar("W")


class State(IntEnum):
    """Of one account: nothing to ask, in line to be asked, being asked, waiting for other replicas' leases to end."""

    IDLE = 0
    QUEUED = 1
    ASKING = 2
    PARKED = 3


class Account(Generic[W]):
    """One client's bucket as this replica knows it, and the requests that wait for it.

    `tokens` of lease `lease_id` may be spent until `lease_end`. `pool` is what the bucket held besides at `pool_at`,
    and `owes` what it lacked to nothing. `debt` tokens were spent here without the store and are to be told;
    `debt_sent`, with the id `debt_id`, were told and are not confirmed; `credit` were granted to requests that had been
    decided already.
    Known to be empty until `ask_at`; the next token comes at `token_at`. `demand` requests arrived since `since`, and
    `steady` per LEASE_TIME before that.
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
        self.state = State.IDLE
        self.tokens = 0
        self.lease_id = 0
        self.lease_end = 0.0
        self.low = -1
        self.renew_at = inf
        self.pool = float(book.policy.capacity)
        self.pool_at = now
        self.ask_at = 0.0
        self.token_at = 0.0
        self.demand = 0
        self.since = now
        self.steady = 0.0
        self.waiting: deque[W] | None = None
        self.holdable = 0
        self.turn = 0
        self.want = self.lease = self.unspent = self.reported = 0
        self.owes = 0.0
        self.debt = self.debt_sent = self.debt_id = self.credit = 0

    def __repr__(self) -> str:
        waiting = len(self.waiting or ())
        return f"<Account {self.client} {self.state.name} tokens={self.tokens} pool={self.pool:g} waiting={waiting}>"

    @property
    def policy(self) -> RateLimitPolicy:
        return self.book.policy


class Book(Generic[W]):
    """The accounts of one policy's clients."""

    __slots__ = ("accounts", "policy", "refill_time")

    def __init__(self, policy: RateLimitPolicy) -> None:
        self.accounts: OrderedDict[str, Account[W]] = OrderedDict()
        self.adopt(policy)

    def adopt(self, policy: RateLimitPolicy) -> None:
        self.policy = policy
        # Seconds for one token, never infinite.
        self.refill_time = min(policy.max_ttl, 1.0 / policy.refill_rate if policy.refill_rate > 0 else inf)

    def level(self, account: Account[W], now: float) -> float:
        """What the bucket holds by now besides leases, as far as this replica can tell."""
        policy = self.policy
        idle = now - account.pool_at
        if idle >= policy.max_ttl:
            return policy.capacity
        return min(policy.capacity, account.pool - account.owes + idle * policy.refill_rate)


def forgettable(account: Account[W], now: float) -> bool:
    """Whether nothing that is worth knowing is lost with it."""
    return (
        now >= account.since + MEMORY
        and now >= account.lease_end
        and now >= account.ask_at
        and not account.lease_id
        and not account.debt
        and not account.debt_sent
        and account.book.level(account, now) >= account.policy.capacity
    )
