"""Which accounts are in line to be asked about, which are busy, and when others have to be looked at again."""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Generic

from gateway.policy.lease.account import IDLE, PARKED, QUEUED, Account, W


class Line(Generic[W]):
    """The accounts of a table that something is to be done about.

    `notify` is called when an account has come into the line, or when `next_wake` has become earlier. It must not call
    back into the table.
    """

    __slots__ = ("_busy", "_notify", "_queue", "_timers", "_timers_made")

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self._queue: deque[Account[W]] = deque()
        self._busy: dict[Account[W], None] = {}
        self._timers: list[tuple[float, int, Account[W]]] = []
        self._timers_made = 0

    def __len__(self) -> int:
        return len(self._queue)

    def __repr__(self) -> str:
        return f"<Line {len(self._queue)} in line, {self.state}>"

    @property
    def state(self) -> str:
        """How many accounts something is under way for, and how many timers there are, in words for a `repr`."""
        return f"{len(self._busy)} busy, {len(self._timers)} timers"

    @property
    def next_wake(self) -> float:
        """The instant at which `wake` is due; infinity for never."""
        return self._timers[0][0] if self._timers else inf

    def queue(self, account: Account[W]) -> None:
        """Put the account at the end of the line."""
        account.state = QUEUED
        self._busy[account] = None
        self._queue.append(account)
        self._notify()

    def next(self) -> Account[W] | None:
        """Take the first account out of the line; None when the line is empty."""
        while self._queue:
            account = self._queue.popleft()
            if account.state is QUEUED:
                return account
        return None

    def rest(self, account: Account[W]) -> None:
        """Nothing more is to be asked for the account's requests. It goes back in line if it has a debt to tell."""
        account.state = IDLE
        account.waiting = None
        self._busy.pop(account, None)
        if account.debt:
            self.queue(account)

    def wake_at(self, when: float, account: Account[W]) -> None:
        """Look at the account again at the instant `when`."""
        self._timers_made += 1
        heappush(self._timers, (when, self._timers_made, account))
        if self._timers[0][2] is account:
            self._notify()

    def wake(self, now: float) -> None:
        """Put in line what is due: requests that waited for other replicas' leases, and leases to give back."""
        timers = self._timers
        while timers and timers[0][0] <= now:
            account = heappop(timers)[2]
            parked = account.state is PARKED and account.ask_at <= now
            ended = account.state is IDLE and account.lease_id and account.lease_end <= now
            if parked or ended:
                self.queue(account)

    def clear(self) -> list[Account[W]]:
        """Empty the line, and return all accounts that were busy. Timers remain."""
        busy = list(self._busy)
        self._busy.clear()
        self._queue.clear()
        return busy
