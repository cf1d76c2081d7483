"""A concurrency limit with a short, bounded queue. Serves the global in-flight cap and the per-upstream bulkheads.

Three invariants hold. A slot belongs to exactly one holder, from `try_acquire` or from the hand-over until `release`.
Nobody waits while a slot is free, so a newcomer cannot overtake. Every waiter leaves the queue exactly once, through
`release`, `expire` or `abandon`.

By Little's law a queue is useful up to the number of requests that are served within `queue_timeout`. Beyond that, it
only makes late answers out of requests that could have been refused at once.

Left out on purpose: timers and resuming (the caller's), priorities, and adapting the limit.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """At most `limit` requests hold a slot at once; `max_queue` more may wait, each up to `queue_timeout` seconds."""

    limit: int
    max_queue: int = 0
    queue_timeout: float = 0.0


class Waiter:
    """One place in the queue. `payload` belongs to the caller. At the instant `deadline` waiting becomes pointless."""

    __slots__ = ("deadline", "payload")

    def __init__(self, payload: Any, deadline: float) -> None:
        self.payload = payload
        self.deadline = deadline


class ConcurrencyLimit:
    """`in_flight` slots are held, of `limit`; `queue` has those who wait, to be looked at only."""

    __slots__ = ("_overdue", "in_flight", "limit", "queue", "settings")

    def __init__(self, settings: LimitSettings) -> None:
        self.settings = settings
        self.limit = settings.limit
        self.in_flight = 0
        # In order of arrival, and so of deadline, because the timeout is the same for all. It is not a deque, because
        # `abandon` must not scan it.
        self.queue: OrderedDict[Waiter, None] = OrderedDict()
        self._overdue: list[Waiter] = []

    def __repr__(self) -> str:
        return f"<ConcurrencyLimit {self.in_flight}/{self.limit}, queued={self.queued}>"

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self.queue)

    @property
    def queue_full(self) -> bool:
        """Whether `enqueue` would refuse."""
        settings = self.settings
        return len(self.queue) >= settings.max_queue or settings.queue_timeout <= 0.0

    @property
    def next_deadline(self) -> float | None:
        """The instant at which `expire` has something to do, which may lie in the past; None while nobody waits."""
        if self._overdue:
            return self._overdue[0].deadline
        return next(iter(self.queue)).deadline if self.queue else None

    def try_acquire(self) -> bool:
        """Take a slot if one is free. HOT."""
        if self.in_flight < self.limit:
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
        if self.queue and (waiter := self._next_live(now)):
            return waiter
        self.in_flight -= 1
        return None

    def enqueue(self, payload: Any, now: float) -> Waiter | None:
        """Wait for a slot. None: the queue is full.

        The caller has just been refused by `try_acquire` and has awaited nothing since; RuntimeError when a slot is
        free.
        """
        if self.in_flight < self.limit:
            raise RuntimeError("a slot is free")
        settings = self.settings
        if self.queue_full:
            return None
        waiter = Waiter(payload, now + settings.queue_timeout)
        self.queue[waiter] = None
        return waiter

    def abandon(self, waiter: Waiter) -> bool:
        """The client has left. False: it was not waiting any more, and must `release` the slot that it was given."""
        if waiter in self.queue:
            del self.queue[waiter]
            return True
        if waiter in self._overdue:
            self._overdue.remove(waiter)
            return True
        return False

    def expire(self, now: float) -> list[Waiter]:
        """Remove and return, oldest first, the waiters whose deadline has come."""
        expired = self._overdue
        self._overdue = []
        while self.queue and next(iter(self.queue)).deadline <= now:
            expired.append(self.queue.popitem(last=False)[0])
        return expired

    def _next_live(self, now: float) -> Waiter | None:
        """The oldest waiter whose deadline has not come. Those whose deadline has come are left to `expire`."""
        while self.queue:
            waiter, _ = self.queue.popitem(last=False)
            if waiter.deadline > now:
                return waiter
            self._overdue.append(waiter)
        return None
