"""Leases: what one replica knows of the shared token buckets, so that it need not ask about every request.

A replica may withdraw some tokens of a client that is hot on it and spend them without asking. The store books every
such lease until it is reported or has lapsed, and holds

    Φ = tokens + Σ booked leases ≤ capacity      (refill stops there)

so a token is always in exactly one place, and the requests admitted by all replicas in any window of t seconds are at
most capacity + refill_rate · t: a lease spent all at once is part of the Φ that was full before. What can go wrong:

- *The holder dies or falls silent.* A lease lapses in the store LEASE_TIME + GRACE after it was booked and counts as
  spent. The replica stops spending at LEASE_TIME after it *sent* the ask, which is before the store booked it; GRACE
  covers a decision made on a clock read earlier, and lets what is unspent come back although it is a little late.
- *Tokens are spent while a renewal is under way.* The ask reports `unspent`, and they remain spendable until the old
  lease ends. The new lease has at least `unspent` tokens by contract, and what was spent meanwhile is taken off it. An
  ask without a new lease gives up the tokens before it is sent.
- *The answer is lost after the store acted.* The new lease is booked and nobody knows: it lapses. The old tokens that
  were spent before the loss was noticed are covered by that booking; the rest is forfeited.
- *The answer is late.* The requests were decided without it (`abandon`) and what was admitted is owed. `settle_late`
  takes the tokens that the store had granted to them off that, and keeps the new lease until it ends.
- *The store was away and this replica admitted requests by itself.* They are a debt (`owe`), told with the next ask and
  kept until an answer confirms it. Debts have ids, so one that is told twice counts once. The store lets a bucket owe,
  at most its capacity; nobody is admitted until that has been refilled.
- *A message is delayed and overtaken*, for example in the buffer of a store that was stopped. Leases have ids; the
  store ends a lease only for an ask that names it, so an old message gives back nothing twice. What it takes is lost.
- *Answers out of order.* There is at most one ask under way for a bucket; an answer to any other is ignored.
- *The store's clock is set back or forward.* Refill is off by the step at most; on this side leases are durations.

Leases are small (capacity / LEASE_SHARE), only for clients seen HOT times within LEASE_TIME, and never leave the bucket
less than half full. So near exhaustion tokens are taken one by one and a client limited to N gets N. When the bucket is
empty while others hold leases of it, as many requests as they hold tokens wait until those have come back, and ask
again; requests beyond that are refused at once, so that a flood does not pile up.

A client without tokens is refused from memory until its next token, EXHAUSTED_MEMORY at most (an operator may have
deleted the bucket). Waiting requests are served in order of arrival.

This module does no I/O: it says what to ask (`next_asks`), takes the answers (`settle`), and names the instant at which
it wants to be called again (`next_wake`, `wake`). Left out on purpose: what to do when the store is gone; refill that
was lost because a lease filled the bucket up to its capacity (at most refill_rate · LEASE_TIME tokens, never too many).
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from math import ceil, inf
from typing import Generic, Protocol

from gateway.policy.account import Account, Book, State, W, forgettable
from gateway.policy.token_bucket import Decision, RateLimitPolicy

LEASE_TIME = 0.1
GRACE = 0.2
LEASE_SHARE = 16
HOT = 4
EXHAUSTED_MEMORY = 1.0
RENEW_AT = 0.6  # of LEASE_TIME: late enough to be rare, early enough for one answer to arrive
RETURN_DELAY = 0.01  # between the end of a lease and its rest being back in the bucket

_new: Callable[[type[Decision], tuple[bool, float, float, float]], Decision] = tuple.__new__


_IDLE = State.IDLE
_PARKED = State.PARKED  # HOT: looking up a member of an enum costs as much as a call


class Grant(Protocol):
    """What `settle` reads of the store's answer (see the store port)."""

    @property
    def granted(self) -> int: ...
    @property
    def leased(self) -> int: ...
    @property
    def lease_id(self) -> int: ...
    @property
    def lease_time(self) -> float: ...
    @property
    def remaining(self) -> float: ...
    @property
    def retry_after(self) -> float: ...
    @property
    def reset_after(self) -> float: ...
    @property
    def held_elsewhere(self) -> int: ...
    @property
    def held_time(self) -> float: ...


class LeaseTable(Generic[W]):
    """All accounts of this replica. `W` is what a waiting request is to the caller; it is only handed back.

    `notify` is called when there is something new in line to be asked or an earlier instant to wake at. It must not
    call back. At most `max_clients` accounts are kept for a policy, apart from those with requests waiting: each new
    one pays for looking at the two not looked at for longest, and drops them if nothing worth knowing is lost or the
    cap is reached (a dropped lease lapses in the store).
    """

    def __init__(self, notify: Callable[[], None], max_clients: int = 65_536) -> None:
        self._notify = notify
        self._max_clients = max_clients
        self._books: dict[str, Book[W]] = {}
        self._line: deque[Account[W]] = deque()
        self._busy: dict[Account[W], None] = {}
        self._debtors: dict[Account[W], None] = {}
        self._timers: list[tuple[float, int, Account[W]]] = []
        self._turn = 0

    def __len__(self) -> int:
        return sum(len(book.accounts) for book in self._books.values())

    def __repr__(self) -> str:
        return f"<LeaseTable {len(self)} accounts, {len(self._busy)} busy, {len(self._timers)} timers>"

    @property
    def in_line(self) -> int:
        return len(self._line)

    @property
    def next_wake(self) -> float:
        """When `wake` is due; infinity for never."""
        return self._timers[0][0] if self._timers else inf

    def try_take(self, policy: RateLimitPolicy, client: str, now: float) -> Decision | None:
        """HOT. Decide from what is known here, or None."""
        book = self._books.get(policy.name)
        if book is None:
            return None
        account = book.accounts.get(client)
        if account is None:
            return None
        tokens = account.tokens
        if tokens > 0 and now < account.lease_end:
            account.tokens = tokens = tokens - 1
            account.demand += 1
            if (tokens <= account.low or now >= account.renew_at) and account.state is _IDLE:
                self._renew(account, now)
            remaining = account.pool + tokens
            return _new(Decision, (True, remaining, 0.0, (policy.capacity - remaining) * book.refill_time))
        if now < account.ask_at:
            if account.state is _PARKED and len(account.waiting or ()) < account.holdable:
                return None
            remaining = account.pool
            wait = account.token_at - now
            return _new(Decision, (False, remaining, wait, (policy.capacity - remaining) * book.refill_time))
        return None

    def held(self, policy: RateLimitPolicy, client: str, now: float) -> int:
        """How many tokens of the client this replica may spend now without asking."""
        book = self._books.get(policy.name)
        account = book.accounts.get(client) if book else None
        return account.tokens if account is not None and now < account.lease_end else 0

    def enter(self, policy: RateLimitPolicy, client: str, waiter: W, now: float) -> Decision | None:
        """Decide at once if that is possible now, or let the request wait (None) for `settle` or `abandon`."""
        decision = self.try_take(policy, client, now)
        if decision is not None:
            return decision
        account = self._account(policy, client, now)
        account.demand += 1
        waiting = account.waiting
        if waiting is None:
            waiting = account.waiting = deque()
        elif len(waiting) >= policy.capacity:
            # More than the bucket can ever hold wait already.
            return Decision(False, 0.0, account.book.refill_time, policy.capacity * account.book.refill_time)
        waiting.append(waiter)
        if account.state is _IDLE:
            self._queue(account)
        return None

    def next_asks(self, now: float, limit: int) -> list[Account[W]]:
        """Take up to `limit` accounts out of the line; send for each its `want`, `lease`, `unspent`, `lease_id`, and
        `debt_sent` with `debt_id`.

        Their answers go to `settle`, in one list with these and in the same order.
        """
        asks: list[Account[W]] = []
        line = self._line
        while line and len(asks) < limit:
            account = line.popleft()
            if account.state is not State.QUEUED:
                continue
            waiting = account.waiting
            want = len(waiting) if waiting else 0
            live = account.tokens > 0 and now < account.lease_end
            lease = max(0, self._worth(account, now) - account.tokens) if want or live or now < account.lease_end else 0
            owing = account.debt or account.debt_sent
            if not (want or lease or owing) and (live or not account.lease_id):
                self._rest(account)
                continue
            account.want, account.lease, account.unspent = want, lease, account.tokens
            if lease and live:
                account.reported = account.tokens
            else:
                account.reported = account.tokens = 0
            account.state = State.ASKING
            self._turn += 1
            account.turn = self._turn
            if owing and not account.debt_sent:
                account.debt_sent, account.debt, account.debt_id = account.debt, 0, self._turn
            asks.append(account)
        return asks

    def settle(
        self, asks: Iterable[tuple[Account[W], int]], grants: Sequence[Grant], sent_at: float, now: float
    ) -> list[tuple[W, Decision]]:
        """Take the answers to asks sent at `sent_at`, each named by its account and the account's `turn` at that time.

        Returns the requests that are decided now, in order of arrival for each client.
        """
        decided: list[tuple[W, Decision]] = []
        for (account, turn), grant in zip(asks, grants, strict=True):
            if account.state is State.ASKING and account.turn == turn:
                self._settle(account, grant, sent_at, now, decided)
        return decided

    def settle_late(
        self, asks: Iterable[tuple[Account[W], int]], grants: Sequence[Grant], sent_at: float, now: float
    ) -> None:
        """Take answers that came after `abandon`: nobody waits for them, but the store has done what they say."""
        for (account, turn), grant in zip(asks, grants, strict=True):
            if account.debt_sent and turn >= account.debt_id:
                self._told(account)
            # What the requests that waited have got without the store need not be told as far as the store granted it.
            covered = min(account.debt, grant.granted)
            account.debt -= covered
            account.credit += grant.granted - covered
            if account.state is not _IDLE or account.turn != turn:
                continue
            account.pool, account.owes, account.pool_at = max(0.0, grant.remaining), max(0.0, -grant.remaining), now
            if grant.leased:
                account.tokens = max(0, grant.leased - account.reported)
                account.lease_id = grant.lease_id
                account.lease_end = sent_at + grant.lease_time
                account.low, account.renew_at = -1, inf
                self._at(max(now, account.lease_end), account)

    def owe(self, policy: RateLimitPolicy, client: str, spent: int, now: float) -> None:
        """That many requests of the client were admitted without the store, which is to be told."""
        account = self._account(policy, client, now)
        spent -= min(spent, account.credit)
        account.credit = 0
        if spent:
            account.debt += spent
            self._debtors[account] = None
            if account.state is _IDLE:
                self._queue(account)

    def remind(self) -> None:
        """The store is back: put in line who owes it something that it may not know of."""
        for account in self._debtors:
            if account.state is _IDLE:
                self._queue(account)

    def wake(self, now: float) -> None:
        """Put in line what is due: requests that waited for other replicas' leases, and leases to give back."""
        timers = self._timers
        while timers and timers[0][0] <= now:
            account = heappop(timers)[2]
            parked = account.state is State.PARKED and account.ask_at <= now
            ended = account.state is _IDLE and account.lease_id and account.lease_end <= now
            if parked or ended:
                self._queue(account)

    def abandon(self) -> list[tuple[RateLimitPolicy, str, W]]:
        """The store is gone: hand back all that wait. Leases remain, except where an ask is without an answer."""
        left: list[tuple[RateLimitPolicy, str, W]] = []
        for account in self._busy:
            if account.state is State.ASKING:
                account.reported -= account.tokens  # what was spent meanwhile; `settle_late` wants to know
                account.tokens = account.lease_id = 0
            left.extend((account.policy, account.client, waiter) for waiter in account.waiting or ())
            account.state = _IDLE
            account.waiting = None
            account.ask_at = 0.0
        self._busy.clear()
        self._line.clear()
        return left

    def give_back(self) -> None:
        """Put every lease in line to be returned, spending none of it any more."""
        for book in self._books.values():
            for account in book.accounts.values():
                account.lease_end = 0.0
                if account.lease_id and account.state is _IDLE:
                    self._queue(account)

    def surrender(self, policy: RateLimitPolicy, client: str, now: float) -> tuple[float, int, int] | None:
        """What this replica knows of a bucket: what is left in the pool (below zero: owed), and in its own lease, which
        is void from now on; and what it owes the pool for certain or perhaps. None when it knows nothing.
        """
        book = self._books.get(policy.name)
        account = book.accounts.get(client) if book else None
        if book is None or account is None:
            return None
        tokens, account.tokens = account.tokens, 0
        own = tokens if now < account.lease_end else 0
        return book.level(account, now), own, account.debt + account.debt_sent

    def _settle(
        self, account: Account[W], grant: Grant, sent_at: float, now: float, decided: list[tuple[W, Decision]]
    ) -> None:
        spent_meanwhile = account.reported - account.tokens
        account.tokens = max(0, grant.leased - spent_meanwhile)
        account.lease_id = grant.lease_id
        if grant.leased:
            account.lease_end = sent_at + grant.lease_time
            account.low = grant.leased // 2
            account.renew_at = sent_at + RENEW_AT * grant.lease_time
            self._at(account.lease_end, account)
        if account.debt_sent:
            self._told(account)
        account.credit = 0
        pool = account.pool = max(0.0, grant.remaining)
        account.owes = max(0.0, -grant.remaining)
        account.pool_at = now
        account.ask_at = 0.0

        waiting = account.waiting
        granted = grant.granted
        while waiting and granted:
            granted -= 1
            decided.append((waiting.popleft(), _new(Decision, (True, pool, 0.0, grant.reset_after))))
        while waiting and account.tokens and now < account.lease_end:
            account.tokens -= 1
            decided.append((waiting.popleft(), Decision(True, pool + account.tokens, 0.0, grant.reset_after)))

        if pool >= 1.0 or account.tokens:
            if waiting:
                self._queue(account)
            else:
                self._rest(account)
            return

        held = grant.held_elsewhere
        wait = grant.retry_after
        if held:
            wait = min(wait, grant.held_time + RETURN_DELAY)
        if waiting and len(waiting) > held:
            refused = [waiting.pop() for _ in range(len(waiting) - held)]
            decided.extend((waiter, Decision(False, pool, wait, grant.reset_after)) for waiter in reversed(refused))
        if waiting:
            account.state = State.PARKED
            account.holdable = held
            account.ask_at = account.token_at = now + wait
            self._at(account.ask_at, account)
            return
        if not held:
            account.token_at = now + wait
            account.ask_at = now + min(wait, EXHAUSTED_MEMORY)
        self._rest(account)

    def _renew(self, account: Account[W], now: float) -> None:
        account.low = -1
        account.renew_at = inf
        book = account.book
        # Below half there is no new lease to be had, only the old one to be reported, which can wait for its end.
        if book.level(account, now) > book.policy.capacity / 2 and self._worth(account, now) > account.tokens:
            self._queue(account)

    def _worth(self, account: Account[W], now: float) -> int:
        """The tokens this client is likely to use here within LEASE_TIME; 0 when it is not hot."""
        elapsed = now - account.since
        if elapsed < LEASE_TIME:
            expected = max(account.steady, account.demand)
        else:
            expected = account.steady = account.demand * LEASE_TIME / elapsed
            account.since = now
            account.demand = 0
        return min(ceil(expected), account.policy.capacity // LEASE_SHARE) if expected >= HOT else 0

    def _queue(self, account: Account[W]) -> None:
        account.state = State.QUEUED
        self._busy[account] = None
        self._line.append(account)
        self._notify()

    def _rest(self, account: Account[W]) -> None:
        account.state = _IDLE
        account.waiting = None
        self._busy.pop(account, None)
        if account.debt:
            self._queue(account)

    def _told(self, account: Account[W]) -> None:
        account.debt_sent = 0
        if not account.debt:
            self._debtors.pop(account, None)

    def _at(self, when: float, account: Account[W]) -> None:
        self._turn += 1
        heappush(self._timers, (when, self._turn, account))
        if self._timers[0][2] is account:
            self._notify()

    def _account(self, policy: RateLimitPolicy, client: str, now: float) -> Account[W]:
        book = self._books.get(policy.name)
        if book is None:
            book = self._books[policy.name] = Book(policy)
        elif book.policy is not policy:
            book.adopt(policy)
        account = book.accounts.get(client)
        if account is None:
            self._evict(book, now)
            account = book.accounts[client] = Account(book, client, now)
        return account

    def _evict(self, book: Book[W], now: float) -> None:
        accounts = book.accounts
        for _ in range(min(2, len(accounts))):
            client, account = accounts.popitem(last=False)
            if account.state is _IDLE and (len(accounts) >= self._max_clients - 1 or forgettable(account, now)):
                continue
            accounts[client] = account
