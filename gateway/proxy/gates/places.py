"""A gate with a bounded number of places and a short queue: the clockwork around `gateway.policy.limit`."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from mypy_extensions import mypyc_attr

from gateway.policy.limit import ConcurrencyLimit
from gateway.policy.outcome import Outcome
from gateway.policy.priority import PRIORITIES, WHOLE
from gateway.policy.waiting import Waiter
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.gate import PASS, WAIT, Gate, Question, Resume, Step, Verdict, step
from gateway.proxy.ticket import Ticket
from gateway.telemetry.log.render import counted

_OF_PLACES: Final = ("in_flight", "queue_full", "queue_timeout")


@mypyc_attr(allow_interpreted_subclasses=True)
class PlaceGate(Gate):
    """A place for each request that has passed, until it leaves. Subclasses say what a refusal is."""

    holds: ClassVar[bool] = True

    def __init__(
        self,
        limit: ConcurrencyLimit,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self._loop = loop
        self._clock = clock
        self._beyond = "queue_full" if limit.settings.max_queue > 0 else "in_flight"
        self.rejected = [0] * len(PRIORITIES)
        """How many requests were refused, by their class."""
        self._timer: asyncio.TimerHandle | None = None

    def refuse(self, cause: str, priority: int = 0) -> Refusal:
        """Count and answer a request for which there is no place. `cause` is `in_flight` (nobody may wait),
        `queue_full` or `queue_timeout`; `priority` is its class. HOT."""
        raise NotImplementedError

    def check(self, ticket: Ticket) -> Verdict:
        """HOT."""
        limit, priority = self.limit, ticket.priority
        if limit.in_flight < limit.caps[priority] or self.make_room(ticket.now, priority):
            return PASS
        if limit.may_wait(priority, _client(ticket)):
            return WAIT
        self.rejected[priority] += 1
        return self.refuse(self._beyond, priority)

    def make_room(self, now: float, priority: int) -> bool:
        """Whether the limit, which leaves no place for the class, gives way after all. HOT."""
        return False

    def resize(self, limit: int, now: float) -> None:
        """From now on there are so many places."""
        for waiter in self.limit.resize(limit, now):
            self._loop.call_soon(waiter.payload, PASS)

    def enter(self, ticket: Ticket) -> None:
        """HOT."""
        self.limit.in_flight += 1

    def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        """HOT."""
        limit = self.limit
        if not limit.queue and limit.in_flight > 0:
            limit.in_flight -= 1
            return
        waiter = limit.release(self._clock())
        if waiter is not None:
            # In a turn of its own: a queue of exchanges must not become a stack.
            self._loop.call_soon(waiter.payload, PASS)

    def start(self, ticket: Ticket, resume: Resume) -> None:
        """Wait for a place in the queue, at most for its time limit."""
        waiter = self.limit.enqueue(resume, self._clock(), ticket.priority, _client(ticket))
        if waiter is None:
            raise RuntimeError("the queue is full, although `check` has just said that there is room")
        ticket.waiting = waiter
        self._arm()

    def abandon(self, ticket: Ticket) -> None:
        """Leave the queue. A place that was handed over meanwhile is given back by `leave`."""
        waiter, ticket.waiting = ticket.waiting, None
        if isinstance(waiter, Waiter):
            self.limit.abandon(waiter)

    def too_late(self, ticket: Ticket) -> Refusal:
        """The time of the request was shorter than that of the queue."""
        self.rejected[ticket.priority] += 1
        return self.refuse("queue_timeout", ticket.priority)

    def describe(self) -> dict[str, object]:
        """The limit, and its queue if there is one."""
        settings = self.limit.settings
        described: dict[str, object] = {"limit": self.limit.limit}
        if self.limit.percents != WHOLE:
            described["percent_by_priority"] = "/".join([str(percent) for percent in self.limit.percents])
        if settings.max_queue > 0 and settings.queue_timeout > 0.0:
            described |= {"max_queue": settings.max_queue, "queue_timeout": settings.queue_timeout}
        return described

    def explained(self, question: Question, status: int, reason: str, retry_after: float, whose: str) -> Step:
        """What a request would meet at this limit now. `retry_after` in seconds, without the jitter."""
        limit = self.limit
        settings = limit.settings
        most = limit.caps[question.priority]
        figures: dict[str, Any] = {
            "in_flight": limit.in_flight,
            "limit": limit.limit,
            "queued": limit.queued,
            "max_queue": settings.max_queue,
            "queue_timeout": settings.queue_timeout,
        }
        load = f"{limit.in_flight} of {limit.limit} requests are in flight for {whose}"
        if limit.percents != WHOLE:
            figures |= {"priority": PRIORITIES[question.priority], "limit_of_priority": most}
            load += f", of which requests of priority {PRIORITIES[question.priority]} may be {most}"
        if limit.in_flight < most:
            return step(self.name, "allow", f"{load}.", figures=figures)
        if limit.may_wait(question.priority, question.client):
            others = counted(limit.queued, "other")
            detail = f"{load}; it would wait up to {settings.queue_timeout:g} s behind {others}."
            return step(self.name, "wait", detail, figures=figures)
        return step(self.name, "refuse", f"{load}.", status, reason, retry_after, figures)

    def _arm(self) -> None:
        deadline = self.limit.next_deadline
        if deadline is not None and self._timer is None:
            self._timer = self._loop.call_later(max(0.0, deadline - self._clock()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        try:
            for waiter in self.limit.expire(self._clock()):
                self.rejected[waiter.priority] += 1
                waiter.payload(self.refuse("queue_timeout", waiter.priority))
        finally:
            self._arm()


def by_priority(details: Mapping[str, str], limit: ConcurrencyLimit) -> list[dict[str, str]]:
    """What refusals say, by their cause, for each class: with priorities a request is told which one it has."""
    if limit.percents == WHOLE:
        return [dict(details)] * len(PRIORITIES)
    return [
        {cause: f"{told} (priority {name})" if cause in _OF_PLACES else told for cause, told in details.items()}
        for name in PRIORITIES
    ]


def _client(ticket: Ticket) -> str:
    """Whose turn it is to wait: who has proved who they are is one client from wherever they ask."""
    caller = ticket.caller
    return ticket.client if caller is None else caller.bucket
