"""Rate limit decisions of a replica that has to do without the store.

    local    this replica decides with its share of the bucket, capacity / replicas and refill_rate / replicas. It
             begins with its share of what was last known to remain
    open     every request is allowed
    closed   every request is refused

The tokens that `local` spends are a debt of the client's bucket in the store. When the link is up again the lease table
takes the debt over and tells the store. So the requests admitted in any window of t seconds are at most

    capacity + refill_rate · t + capacity

however often the store comes and goes. Each replica has its share (capacity / replicas) of the last summand, whatever
it believes the bucket to hold, and it cannot have that share again before the debt is paid. The bound holds while
`replicas` is right and no replica is without the store for longer than an empty bucket takes to fill. A replica that is
without it for longer, while others have it, admits up to refill_rate / replicas a second for as long as that lasts. A
replica that is killed meanwhile takes its debts with it, which are one share at most.

Pure: no I/O and no clock.
"""

from typing import Any, Final, Literal

from gateway.fleet.link import Link
from gateway.policy.lease import LeaseTable
from gateway.policy.token_bucket import BucketTable, Decision, RateLimitPolicy

REFUSED_UNSEEN: Final = Decision(False, 0.0, 1.0, 1.0)
"""The decision of `closed`, always this object. Nothing is known of the bucket; the store may be back in a second."""


class Alone:
    """Decides without the store, as `on_failure` says.

    `link` says how many replicas there are. `leases` knows what the store said last, and is told what is owed. At most
    `max_clients` buckets are kept for each policy. Every `now` is an instant of one clock, in seconds.
    """

    def __init__(
        self,
        on_failure: Literal["local", "open", "closed"],
        link: Link,
        leases: LeaseTable[Any],
        max_clients: int,
    ) -> None:
        self._on_failure = on_failure
        self._link = link
        self._leases = leases
        self._max_clients = max_clients
        self._tables: dict[str, BucketTable] = {}
        self._replicas = link.replicas

    def take(self, policy: RateLimitPolicy, client: str, now: float) -> Decision:
        """Take one token of the client's bucket here."""
        if self._on_failure == "open":
            return Decision(True, float(policy.capacity), 0.0, 0.0)
        if self._on_failure == "closed":
            return REFUSED_UNSEEN
        table = self._table(policy)
        if client not in table:
            known = self._leases.surrender(policy, client, now)
            if known is not None:
                pool, own, debt = known
                table.start(client, pool / self._replicas + own - debt, now, paid=own)
        return table.take(client, now)

    def refund(self, policy: RateLimitPolicy, client: str) -> None:
        """Give back a token that `take` has just given."""
        table = self._tables.get(policy.name)
        if table is not None:
            table.refund(client)

    def peek(self, policy: RateLimitPolicy, client: str, now: float) -> Decision:
        """What `take` would decide. A bucket that has not begun counts as full."""
        if self._on_failure != "local":
            return self.take(policy, client, now)
        return self._table(policy).peek(client, now)

    def owe(self, policy: RateLimitPolicy, client: str, now: float) -> None:
        """The store is back: what the client spent here becomes a debt, and its bucket here ends."""
        table = self._tables.get(policy.name)
        if table and client in table:
            self._leases.owe(policy, client, table.forget(client, now), now)

    def owe_some(self, most: int, now: float) -> None:
        """Do the same for other clients, `most` at most."""
        for table in self._tables.values():
            while most > 0 and (client := table.first()) is not None:
                most -= 1
                spent = table.forget(client, now)
                if spent:
                    self._leases.owe(table.policy, client, spent, now)

    def _table(self, policy: RateLimitPolicy) -> BucketTable:
        table = self._tables.get(policy.name)
        if self._replicas != self._link.replicas:
            self._replicas = self._link.replicas
            for each in self._tables.values():
                each.scale(1.0 / self._replicas)
        if table is None or table.policy is not policy:
            table = self._tables[policy.name] = BucketTable(policy, 1.0 / self._replicas, self._max_clients)
        return table
