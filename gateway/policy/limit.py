"""A concurrency limit with a short, bounded queue. Serves the global in-flight cap and the per-upstream bulkheads.

A class of requests may hold a part of the limit (`gateway.policy.priority`); without priorities each may hold all of
it. Three invariants hold. A slot belongs to exactly one holder, from `try_acquire` or from the hand-over until
`release`. Nobody waits while a slot is free for their class, so a newcomer of the same class cannot overtake. Every
waiter leaves the queue exactly once, through `release`, `resize`, `expire` or `abandon`.

By Little's law a queue is useful up to the number of requests that are served within `queue_timeout`. Beyond that, it
only makes late answers out of requests that could have been refused at once.

Left out on purpose: timers and resuming (the caller's), and what the limit ought to be (`gateway.policy.adaptive`).
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from gateway.policy.priority import WHOLE, caps
from gateway.policy.waiting import Waiter, Waiting


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """At most `limit` requests hold a slot at once; `max_queue` more may wait, each up to `queue_timeout` seconds. One
    client may have `client_share` of the queue, rounded up."""

    limit: int
    max_queue: int = 0
    queue_timeout: float = 0.0
    client_share: float = 1.0


class ConcurrencyLimit:
    """`in_flight` slots are held, of `limit`. Of these a class may hold the number in `caps`."""

    __slots__ = ("_overdue", "_waiting", "caps", "in_flight", "limit", "percents", "queue", "settings")

    def __init__(self, settings: LimitSettings, percents: tuple[int, ...] = WHOLE) -> None:
        """`percents` is what each class may hold of limit and queue."""
        self.settings = settings
        self.limit = settings.limit
        self.caps = caps(settings.limit, percents)
        self.in_flight = 0
        self.percents = percents
        self._waiting = Waiting(settings.max_queue, settings.queue_timeout, settings.client_share, percents)
        self.queue: OrderedDict[Waiter, None] = self._waiting.all
        """Those who wait, in the order of arrival, to be looked at only."""
        self._overdue: list[Waiter] = []

    def __repr__(self) -> str:
        return f"<ConcurrencyLimit {self.in_flight}/{self.limit}, queued={self.queued}>"

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self.queue)

    @property
    def next_deadline(self) -> float | None:
        """The instant at which `expire` has something to do, which may lie in the past; None while nobody waits."""
        if self._overdue:
            return self._overdue[0].deadline
        return next(iter(self.queue)).deadline if self.queue else None

    def may_wait(self, priority: int = 0, client: str = "") -> bool:
        """Whether `enqueue` would take a request of this class and client."""
        return self._waiting.has_room(priority, client)

    def try_acquire(self, priority: int = 0) -> bool:
        """Take a slot if one is free for this class. HOT."""
        if self.in_flight < self.caps[priority]:
            self.in_flight += 1
            return True
        return False

    def release(self, now: float) -> Waiter | None:
        """Give a slot back. HOT.

        Returns the waiter that owns it from now on, if any: the caller resumes it, and it must `release` in turn.
        Raises RuntimeError when nothing is held: a slot given back twice would quietly raise the limit.
        """
        if self.in_flight <= 0:
            raise RuntimeError("released more often than acquired")
        self.in_flight -= 1
        if not self.queue:
            return None
        return self._next_live(now)

    def resize(self, limit: int, now: float) -> list[Waiter]:
        """From now on there are `limit` slots. What is held beyond them is not taken away.

        Returns the waiters for whom there is a slot now: each owns one, as after `release`."""
        self.limit = limit
        self.caps = caps(limit, self.percents)
        resumed = []
        while self.queue:
            waiter = self._next_live(now)
            if waiter is None:
                break
            resumed.append(waiter)
        return resumed

    def enqueue(self, payload: Any, now: float, priority: int = 0, client: str = "") -> Waiter | None:
        """Wait for a slot. None: there is no room in the queue.

        The caller has just been refused by `try_acquire` and has awaited nothing since; RuntimeError when a slot is
        free.
        """
        if self.in_flight < self.caps[priority]:
            raise RuntimeError("a slot is free")
        if not self._waiting.has_room(priority, client):
            return None
        return self._waiting.add(payload, now, priority, client)

    def abandon(self, waiter: Waiter) -> bool:
        """The client has left. False: it was not waiting any more, and must `release` the slot that it was given."""
        if waiter in self.queue:
            self._waiting.remove(waiter)
            return True
        if waiter in self._overdue:
            self._overdue.remove(waiter)
            return True
        return False

    def expire(self, now: float) -> list[Waiter]:
        """Remove and return, oldest first, the waiters whose deadline has come."""
        expired = self._overdue + self._waiting.overdue(now)
        self._overdue = []
        return expired

    def _next_live(self, now: float) -> Waiter | None:
        """Give a free slot to whoever is next. Those whose deadline has come are left to `expire`."""
        self._overdue += self._waiting.overdue(now)
        waiter = self._waiting.take(self.in_flight, self.caps, now)
        if waiter is not None:
            self.in_flight += 1
        return waiter
