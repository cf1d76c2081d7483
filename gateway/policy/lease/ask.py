"""What a replica asks the store about one bucket, and the answer: plain values, in the words of the store port.

Classes with slots: a client that is not hot is asked about for each of its requests, and to make an object of such a
class, and to read it, costs compiled code a third of what a named tuple costs.
"""

from gateway.policy.token_bucket import RateLimitPolicy


class Ask:
    """What one replica asks of one client's bucket: tokens for waiting requests, and a lease of further tokens.

    `want` requests wait now. `lease_id` is the lease of this bucket that this replica holds (0: none), and `unspent` is
    what is left of it. The call ends that lease and gives the unspent tokens back. With `lease` > 0 a new lease takes
    its place, of at least `unspent` and at most `unspent + lease` tokens. When the store knows another lease of this
    replica, a later message has overtaken this one or an answer was lost. Then that lease stands, and nothing is given
    back or leased.

    `debt` tokens were spent by this replica on its own while the store was away. They are taken off the bucket, which
    may leave it owing as much as its capacity. A debt below zero gives back tokens that were granted and not used, as
    far as the bucket has room. Each debt of a replica has a greater `debt_id` than the one before. A
    debt that the store knows already is not taken off again, so a replica may repeat one whose answer was lost.
    """

    __slots__ = ("client", "debt", "debt_id", "lease", "lease_id", "policy", "unspent", "want")

    def __init__(
        self,
        policy: RateLimitPolicy,
        client: str,
        want: int,
        lease: int = 0,
        unspent: int = 0,
        lease_id: int = 0,
        debt: int = 0,
        debt_id: int = 0,
    ) -> None:
        self.policy = policy
        self.client = client
        self.want = want
        self.lease = lease
        self.unspent = unspent
        self.lease_id = lease_id
        self.debt = debt
        self.debt_id = debt_id

    def __repr__(self) -> str:
        return f"<Ask {self.policy.name} {self.client} want={self.want} lease={self.lease} debt={self.debt}>"


class Grant:
    """The answer to an `Ask`, in the same order.

    `granted` of the `want` requests go through. This replica may spend `leased` tokens for `lease_time` seconds,
    counted from before the ask was sent; `lease_id` names that lease (0: none). `remaining` is what the bucket holds
    besides; it is below zero when the bucket owes. `retry_after` and `reset_after` are as in `Decision`.
    `held_elsewhere` tokens are leased to other replicas; what is unspent of them comes back within about `held_time`
    seconds.
    """

    __slots__ = (
        "granted",
        "held_elsewhere",
        "held_time",
        "lease_id",
        "lease_time",
        "leased",
        "remaining",
        "reset_after",
        "retry_after",
    )

    def __init__(
        self,
        granted: int,
        leased: int,
        lease_id: int,
        lease_time: float,
        remaining: float,
        retry_after: float,
        reset_after: float,
        held_elsewhere: int,
        held_time: float,
    ) -> None:
        self.granted = granted
        self.leased = leased
        self.lease_id = lease_id
        self.lease_time = lease_time
        self.remaining = remaining
        self.retry_after = retry_after
        self.reset_after = reset_after
        self.held_elsewhere = held_elsewhere
        self.held_time = held_time

    def __repr__(self) -> str:
        return f"<Grant granted={self.granted} leased={self.leased} remaining={self.remaining:g}>"
