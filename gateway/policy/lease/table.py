"""The accounts of all clients that this replica knows: what the request path asks, and the way in for the rest.

The docstring of the package says how leases work and why they never admit too much.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Generic

from gateway.policy.lease.account import ASKING, IDLE, PARKED, Account, Book, W
from gateway.policy.lease.ask import Grant
from gateway.policy.lease.asks import Asks
from gateway.policy.lease.debts import Debts
from gateway.policy.lease.line import Line
from gateway.policy.token_bucket import Decision, RateLimitPolicy


class LeaseTable(Generic[W]):
    """All accounts of this replica. `W` is what a waiting request is to the caller; the table only hands it back.

    `notify` is called when there is something new to ask or an earlier instant to wake at. It must not call back. At
    most `max_clients` accounts are kept for each policy, apart from those with requests waiting (see `Book.open`).
    Every `now` is an instant of one clock that does not run backwards, in seconds.
    """

    __slots__ = ("_asks", "_books", "_debts", "_line", "_max_clients")

    def __init__(self, notify: Callable[[], None], max_clients: int = 65_536) -> None:
        self._max_clients = max_clients
        self._books: dict[str, Book[W]] = {}
        self._line: Line[W] = Line(notify)
        self._debts: Debts[W] = Debts(self._line)
        self._asks: Asks[W] = Asks(self._line, self._debts)

    def __len__(self) -> int:
        return sum([len(book.accounts) for book in self._books.values()])

    def __repr__(self) -> str:
        return f"<LeaseTable {len(self)} accounts, {self._line.state}>"

    @property
    def in_line(self) -> int:
        """The number of accounts that `next_asks` has to look at."""
        return len(self._line)

    @property
    def next_wake(self) -> float:
        """The instant at which `wake` is due; infinity for never."""
        return self._line.next_wake

    def try_take(self, policy: RateLimitPolicy, client: str, now: float) -> Decision | None:  # HOT
        """Decide from what is known here, and take the token; None when the store has to be asked."""
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
            if (tokens <= account.low or now >= account.renew_at) and account.state is IDLE:
                self._renew(account, now)
            remaining = account.pool + tokens
            return Decision(True, remaining, 0.0, (policy.capacity - remaining) * book.refill_time)
        if now < account.ask_at:
            if account.state is PARKED and len(account.waiting or ()) < account.holdable:
                return None
            remaining = account.pool
            return Decision(False, remaining, account.token_at - now, (policy.capacity - remaining) * book.refill_time)
        return None

    def held(self, policy: RateLimitPolicy, client: str, now: float) -> int:
        """The number of the client's tokens that this replica may spend now without asking."""
        account = self._known(policy, client)
        return account.tokens if account is not None and now < account.lease_end else 0

    def enter(self, policy: RateLimitPolicy, client: str, waiter: W, now: float) -> Decision | None:
        """Decide at once if that is possible, or let the request wait (None) for `settle` or `abandon`."""
        decision = self.try_take(policy, client, now)
        if decision is not None:
            return decision
        account = self._account(policy, client, now)
        account.demand += 1
        waiting = account.waiting
        if waiting is None:
            waiting = account.waiting = deque()
        elif len(waiting) >= policy.capacity:
            # More requests wait already than the bucket can ever hold tokens for.
            return Decision(False, 0.0, account.book.refill_time, policy.capacity * account.book.refill_time)
        waiting.append(waiter)
        if account.state is IDLE:
            self._line.queue(account)
        return None

    def next_asks(self, now: float, limit: int) -> list[Account[W]]:
        """Take up to `limit` accounts out of the line and make an ask for each.

        The caller sends the `want`, `lease`, `unspent`, `lease_id`, `debt_sent` and `debt_id` of each account, and
        hands the answers to `settle` together with the accounts and their `turn`, in the same order.
        """
        return self._asks.make(now, limit)

    def settle(
        self, asks: Iterable[tuple[Account[W], int]], grants: Sequence[Grant], sent_at: float, now: float
    ) -> list[tuple[W, Decision]]:
        """Take the answers to asks sent at `sent_at`, each named by its account and the account's `turn` at that time.

        Returns the requests that are decided now, in order of arrival for each client. ValueError when there are not as
        many answers as asks.
        """
        return self._asks.settle(asks, grants, sent_at, now)

    def settle_late(
        self, asks: Iterable[tuple[Account[W], int]], grants: Sequence[Grant], sent_at: float, now: float
    ) -> None:
        """Take answers that came after `abandon`. Nobody waits for them, but the store has done what they say."""
        self._asks.settle_late(asks, grants, sent_at, now)

    def owe(self, policy: RateLimitPolicy, client: str, spent: int, now: float) -> None:
        """`spent` requests of the client were admitted without the store, which is to be told."""
        self._debts.owe(self._account(policy, client, now), spent)

    def untake(self, policy: RateLimitPolicy, client: str) -> None:
        """Take back a `try_take` that has just given a token: in the same turn of the event loop, so the lease is the
        same. HOT."""
        account = self._known(policy, client)
        if account is not None:
            account.tokens += 1
            account.demand -= 1

    def refund(self, policy: RateLimitPolicy, client: str, now: float) -> None:
        """A token that the store gave to a request that had waited is not used after all: the store gets it back. It
        must not go into a lease, because the store does not count it as leased."""
        self._debts.refund(self._account(policy, client, now))

    def remind(self) -> None:
        """The store is back: put the accounts in line that owe it something that it may not know of."""
        self._debts.remind()

    def wake(self, now: float) -> None:
        """Put in line what is due at `now`; see `next_wake`."""
        self._line.wake(now)

    def abandon(self) -> list[tuple[RateLimitPolicy, str, W]]:
        """The store is gone: hand back all requests that wait. Leases remain, except where an ask is under way."""
        left: list[tuple[RateLimitPolicy, str, W]] = []
        for account in self._line.clear():
            if account.state is ASKING:
                # `settle_late` has to know what was spent while the ask was under way.
                account.reported -= account.tokens
                account.tokens = 0
                account.lease_id = 0
            left.extend([(account.policy, account.client, waiter) for waiter in account.waiting or ()])
            account.state = IDLE
            account.waiting = None
            account.ask_at = 0.0
        return left

    def give_back(self) -> None:
        """Stop spending leases, and put every lease in line to be returned."""
        for book in self._books.values():
            for account in book.accounts.values():
                account.lease_end = 0.0
                if account.lease_id and account.state is IDLE:
                    self._line.queue(account)

    def surrender(self, policy: RateLimitPolicy, client: str, now: float) -> tuple[float, int, int] | None:
        """Stop spending the client's lease, and say what this replica knows of the bucket; None when it knows nothing.

        The three figures are what is left in the pool (below zero: owed), what was left in the lease, and what this
        replica owes the pool, for certain or perhaps.
        """
        account = self._known(policy, client)
        if account is None:
            return None
        own = account.tokens if now < account.lease_end else 0
        account.tokens = 0
        return account.level(now), own, account.debt + account.debt_sent

    def _renew(self, account: Account[W], now: float) -> None:
        account.low = -1
        account.renew_at = inf
        # Below half there is no new lease to be had, only the old one to be reported, which can wait for its end.
        if account.level(now) > account.policy.capacity / 2 and account.useful_lease(now) > account.tokens:
            self._line.queue(account)

    def _known(self, policy: RateLimitPolicy, client: str) -> Account[W] | None:
        book = self._books.get(policy.name)
        return None if book is None else book.accounts.get(client)

    def _account(self, policy: RateLimitPolicy, client: str, now: float) -> Account[W]:
        book = self._books.get(policy.name)
        if book is None:
            book = self._books[policy.name] = Book(policy)
        elif book.policy is not policy:
            book.adopt(policy)
        account = book.accounts.get(client)
        if account is None:
            account = book.open(client, now, self._max_clients)
        return account
