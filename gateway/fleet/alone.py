"""Rate limit decisions of a replica that has to do without the store.

    local    this replica's share: capacity / replicas and refill_rate / replicas, beginning with its share of what was
             last known to remain
    open     allowed
    closed   refused

What `local` admits is a debt of the client's bucket in the store: when the link is up again it goes to the lease table,
which tells the store. So the requests admitted in any window of t seconds are at most

    capacity + refill_rate · t + capacity

however often the store comes and goes: of the last summand a replica has its share (capacity / replicas), whatever it
believes the bucket to hold, and it cannot have it again before the debt is paid. That holds while `replicas` is true
and no replica is without the store for longer than an empty bucket takes to fill. One that is, while others have it,
admits up to refill_rate / replicas a second for as long as that lasts. A replica that is killed meanwhile takes its
debts with it, one share at most.

Pure: no I/O and no clock.
"""

from typing import Any, Final, Literal

from gateway.fleet.link import Link
from gateway.policy.lease import LeaseTable
from gateway.policy.token_bucket import BucketTable, Decision, RateLimitPolicy

REFUSED_UNSEEN: Final = Decision(False, 0.0, 1.0, 1.0)
"""What `closed` decides, always this object: of the bucket nothing is known. The store may be back in a second."""


class Alone:
    """`link` says how many replicas there are; `leases` knows what the store said last, and is told what is owed.
    At most `max_clients` buckets are kept for a policy."""

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

    def peek(self, policy: RateLimitPolicy, client: str, now: float) -> Decision:
        """What `take` would decide; of a bucket that has not begun, as if it were full."""
        if self._on_failure != "local":
            return self.take(policy, client, now)
        return self._table(policy).peek(client, now)

    def owe(self, policy: RateLimitPolicy, client: str, now: float) -> None:
        """The store is back, for this client: what it spent here becomes a debt, and its bucket ends."""
        table = self._tables.get(policy.name)
        if table and client in table:
            self._leases.owe(policy, client, table.forget(client, now), now)

    def owe_some(self, most: int, now: float) -> None:
        """The same for some clients more, at most that many."""
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
