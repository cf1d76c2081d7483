"""The gates in front of the upstream, in the order of docs/behaviour.md.

`try_acquire` answers at once: with the gate itself, which is to be released exactly once, with the decision of a rate
limit, which is not, with a refusal, or with None for "cannot say without asking or waiting". Only then does `acquire`
take the slow way and call `resume` once, later. What waits can be given up with `abandon`."""

import asyncio
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from gateway.config.model import SheddingConfig
from gateway.fleet.limiter import REFUSED_UNSEEN, Limiter
from gateway.policy.limit import ConcurrencyLimit, Waiter
from gateway.policy.token_bucket import Decision, RateLimitPolicy
from gateway.proxy.refusal import Refusal, jittered
from gateway.telemetry.metrics import Metrics


class Gate(Protocol):
    """A gate that lets a request in for as long as it lasts answers with itself: `release` is due then."""

    def try_acquire(self, client: str, now: float) -> "Answer | None": ...

    def acquire(self, client: str, resume: "Resume") -> object: ...

    def abandon(self, waiting: object) -> None: ...

    def release(self, now: float) -> None: ...

    def refusal(self, decision: Decision) -> Refusal:
        """What a decision of this gate against a request means to its client."""
        ...


Answer = Gate | Decision | Refusal
Resume = Callable[[Answer], None]


def pass_gates(
    gates: tuple[Gate, ...], index: int, client: str, now: float, entered: list[Gate]
) -> tuple[int, Decision | None, Refusal | None]:
    """Through the gates from `index` on, as far as it goes at once, adding to `entered`. HOT.

    Returns where it ended (at a gate that has to be waited for, or behind the last one), what a rate limit decided on
    the way, and the refusal that ended it, if any.
    """
    decision = None
    for gate in gates[index:] if index else gates:
        answer = gate.try_acquire(client, now)
        if answer is gate:
            entered.append(gate)
        elif answer is None:
            break
        elif isinstance(answer, Decision):
            decision = answer
            if not decision.allowed:
                return index, decision, gate.refusal(decision)
        elif isinstance(answer, Refusal):
            return index, decision, answer
        index += 1
    return index, decision, None


class LimitGate:
    """A concurrency limit as a gate: the queue's clockwork around the pure policy."""

    def __init__(
        self,
        limit: ConcurrencyLimit,
        refuse: Callable[[str], Refusal],
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._refuse = refuse
        self._loop = loop
        self._clock = clock
        self._queues = limit.settings.max_queue > 0
        self._timer: asyncio.TimerHandle | None = None

    def try_acquire(self, client: str, now: float) -> Gate | Refusal | None:
        if self._limit.try_acquire():
            return self
        return None if self._queues else self._refuse("in_flight")

    def acquire(self, client: str, resume: Resume) -> Waiter | None:
        waiter = self._limit.enqueue(resume, self._clock())
        if waiter is None:
            self._loop.call_soon(resume, self._refuse("queue_full"))
        else:
            self._arm()
        return waiter

    def abandon(self, waiting: object) -> None:
        if isinstance(waiting, Waiter):
            self._limit.abandon(waiting)

    def refusal(self, decision: Decision) -> Refusal:
        raise TypeError("a concurrency limit decides nothing that is to be told")

    def release(self, now: float) -> None:
        waiter = self._limit.release(now)
        if waiter is not None:
            # In a turn of its own: a queue of exchanges must not become a stack.
            self._loop.call_soon(waiter.payload, self)

    def _arm(self) -> None:
        deadline = self._limit.next_deadline
        if deadline is not None and self._timer is None:
            self._timer = self._loop.call_later(max(0.0, deadline - self._clock()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        for waiter in self._limit.expire(self._clock()):
            waiter.payload(self._refuse("queue_timeout"))
        self._arm()


class Shedding:
    """The refusal beyond the global in-flight cap."""

    def __init__(self, config: SheddingConfig, metrics: Metrics, rng: random.Random) -> None:
        self._config = config
        self._metrics = metrics
        self._rng = rng

    def refuse(self, cause: str) -> Refusal:
        self._metrics.shed(cause)
        config = self._config
        retry_after = jittered(config.retry_after, self._rng)
        return Refusal(config.status, "overloaded", _SHED_DETAILS[cause], retry_after=retry_after)


_BULKHEAD_DETAILS = {
    "in_flight": "as many requests are in flight as it gets",
    "queue_full": "the queue for it is full",
    "queue_timeout": "no place became free in time",
}
_SHED_DETAILS = {
    "in_flight": "as many requests are in flight as the gateway takes",
    "queue_full": "the queue for a free place is full",
    "queue_timeout": "no place became free in time",
    "connections": "as many connections are open as the gateway takes",
}


def bulkhead_gate(
    upstream: str, limit: ConcurrencyLimit, metrics: Metrics, rng: random.Random, loop: asyncio.AbstractEventLoop
) -> LimitGate:
    def refuse(cause: str) -> Refusal:
        metrics.bulkhead_rejected(upstream)
        detail = f"upstream {upstream}: {_BULKHEAD_DETAILS[cause]}"
        return Refusal(503, "bulkhead_full", detail, retry_after=jittered(1.0, rng))

    return LimitGate(limit, refuse, loop)


_UNSEEN_DETAIL = "the limit of the client cannot be checked now, and requests are refused until it can be"


class RateLimitGate:
    """The buckets of one policy as a gate."""

    def __init__(self, limiter: Limiter, policy: RateLimitPolicy, metrics: Metrics) -> None:
        self._limiter = limiter
        self._policy = policy
        self._metrics = metrics
        self._detail = (
            f"the client has used up its {policy.capacity} requests, {policy.refill_rate:g} come back a second"
        )

    def try_acquire(self, client: str, now: float) -> Decision | None:
        decision = self._limiter.try_take(self._policy, client, now)
        if decision is not None:
            self._metrics.rate_limited(self._policy.name, "allowed" if decision.allowed else "limited")
        return decision

    def acquire(self, client: str, resume: Resume) -> None:
        self._limiter.take(self._policy, client, partial(self._answered, resume))

    def abandon(self, waiting: object) -> None:
        """The token is spent, or will be: it was asked for."""

    def release(self, now: float) -> None:
        """A token that was taken does not come back with the end of the request."""

    def refusal(self, decision: Decision) -> Refusal:
        detail = _UNSEEN_DETAIL if decision is REFUSED_UNSEEN else self._detail
        return Refusal(429, "rate_limited", detail, decision.retry_after)

    def _answered(self, resume: Resume, decision: Decision) -> None:
        self._metrics.rate_limited(self._policy.name, "allowed" if decision.allowed else "limited")
        resume(decision)
