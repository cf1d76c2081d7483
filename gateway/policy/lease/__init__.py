"""Leases: what one replica knows of the shared token buckets, so that it need not ask the store about every request.

A replica may withdraw some tokens of a busy client from the store and spend them without asking again. The store books
every such lease until the replica reports it or the lease has lapsed. The store holds

    Φ = tokens + Σ booked leases ≤ capacity      (refill stops there)

so a token is always in exactly one place. The requests admitted by all replicas in any window of t seconds are
therefore at most capacity + refill_rate · t: even a lease that is spent all at once was part of the Φ that was full
before. This holds whatever goes wrong:

- *The holder of a lease dies or falls silent.* The lease lapses in the store LEASE_TIME + GRACE seconds after it was
  booked, and counts as spent. The replica stops spending LEASE_TIME seconds after it *sent* the ask, which is earlier.
  GRACE covers a decision that was made with a clock read some time ago, and gives unspent tokens that come back late a
  chance to be accepted.
- *Tokens are spent while a renewal is under way.* The ask reports `unspent` tokens, and the replica goes on spending
  them until the old lease ends. By contract the new lease has at least `unspent` tokens, and what was spent meanwhile
  is taken off it. An ask that wants no new lease gives the tokens up before it is sent.
- *The answer is lost after the store has acted.* The new lease is booked and no replica knows of it, so it lapses. The
  old tokens that were spent before the loss was noticed are covered by that booking. The rest is forfeited.
- *The answer is late.* The waiting requests were decided without it (`abandon`), and the tokens they took are owed.
  `settle_late` takes the tokens that the store had granted to them off that debt, and keeps the new lease until its
  end.
- *The store was away and this replica admitted requests by itself.* Their tokens are a debt (`owe`). The debt is told
  with the next ask and kept until an answer confirms it. Debts have ids, so a debt that is told twice counts once. The
  store lets a bucket owe at most its capacity, and nobody is admitted until that has been refilled.
- *A message is delayed and overtaken*, for example in the buffer of a store that was stopped. Leases have ids, and the
  store ends a lease only for an ask that names it, so an old message gives no tokens back twice. Its tokens are lost.
- *Answers come out of order.* At most one ask for a bucket is under way; an answer to any other ask is ignored.
- *The store's clock is set back or forward.* Refill is wrong by the step at most. On this side leases are durations.

Leases are small (capacity / LEASE_SHARE), are made only for clients seen HOT times within LEASE_TIME, and never leave
the bucket less than half full. So near exhaustion tokens are taken one by one, and a client limited to N requests gets
N. When the bucket is empty while other replicas hold leases of it, as many requests as those replicas hold tokens wait
until the tokens have come back, and ask again. Requests beyond that are refused at once, so that a flood does not pile
up. Waiting requests are served in order of arrival.

A client without tokens is refused from memory until its next token, but for EXHAUSTED_MEMORY seconds at most, because
an operator may have deleted the bucket.

This package does no I/O. It says what to ask (`next_asks`), takes the answers (`settle`), and names the instant at
which it wants to be called again (`next_wake`, `wake`). Left out on purpose: what to do when the store is gone; and
making up for refill that was lost because a lease filled the bucket up to its capacity (at most refill_rate ·
LEASE_TIME tokens, and never too many).

    table.py     what the request path asks, and the way in for everything else
    account.py   one client's bucket as this replica knows it
    ask.py       an ask, and a grant
    asks.py      what is asked of the store, and what its answers mean
    line.py      which accounts are in line to be asked about, and when others have to be looked at again
    debts.py     what was spent without the store
    times.py     the constants
"""

from gateway.policy.lease.account import Account
from gateway.policy.lease.table import LeaseTable
from gateway.policy.lease.times import EXHAUSTED_MEMORY, GRACE, LEASE_SHARE, LEASE_TIME, RETURN_DELAY

__all__ = ["EXHAUSTED_MEMORY", "GRACE", "LEASE_SHARE", "LEASE_TIME", "RETURN_DELAY", "Account", "LeaseTable"]
