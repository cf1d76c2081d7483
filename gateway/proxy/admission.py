"""The gates in front of the upstream, in the order of docs/behaviour.md.

`try_acquire` answers at once: a permit, a refusal, or None for "cannot say without asking or waiting". Only then does
`acquire` take the slow way and call `resume` once, later. A permit is released exactly once, by the exchange that
holds it; `PASS` is the permit that needs no release. What waits can be given up with `abandon`."""

import asyncio
import random
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from gateway.config.model import SheddingConfig
from gateway.fleet.limiter import Limiter
from gateway.policy.limit import ConcurrencyLimit, Waiter
from gateway.policy.token_bucket import Decision
from gateway.proxy.refusal import Refusal
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from gateway.proxy.exchange import ExchangeState


class Permit(Protocol):
    def release(self, now: float) -> None: ...


class _Pass:
    def release(self, now: float) -> None:
        pass


PASS: Permit = _Pass()
Resume = Callable[[Permit | Refusal], None]


class Gate(Protocol):
    def try_acquire(self, ticket: "ExchangeState") -> Permit | Refusal | None: ...

    def acquire(self, ticket: "ExchangeState", resume: Resume) -> object: ...

    def abandon(self, waiting: object) -> None: ...


class LimitGate:
    """A concurrency limit as a gate: the queue's clockwork around the pure policy. It is the permit that it gives."""

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

    def try_acquire(self, ticket: object) -> Permit | Refusal | None:
        if self._limit.try_acquire():
            return self
        return None if self._queues else self._refuse("in_flight")

    def acquire(self, ticket: object, resume: Resume) -> Waiter | None:
        waiter = self._limit.enqueue(resume, self._clock())
        if waiter is None:
            self._loop.call_soon(resume, self._refuse("queue_full"))
        else:
            self._arm()
        return waiter

    def abandon(self, waiting: object) -> None:
        if isinstance(waiting, Waiter):
            self._limit.abandon(waiting)

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
        # Jitter spreads those who obey, so that they do not come back as one wave.
        retry_after = config.retry_after * self._rng.uniform(1.0, 1.2)
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
        return Refusal(503, "bulkhead_full", detail, retry_after=1.0 + rng.random())

    return LimitGate(limit, refuse, loop)


class BulkheadGate:
    """Each upstream's own limit, found by the ticket."""

    def __init__(self, gates: dict[str, LimitGate]) -> None:
        self._gates = gates

    def try_acquire(self, ticket: "ExchangeState") -> Permit | Refusal | None:
        return self._gates[ticket.route.upstream.name].try_acquire(ticket)

    def acquire(self, ticket: "ExchangeState", resume: Resume) -> object:
        gate = self._gates[ticket.route.upstream.name]
        return gate, gate.acquire(ticket, resume)

    def abandon(self, waiting: object) -> None:
        if isinstance(waiting, tuple):
            gate, waiter = waiting
            gate.abandon(waiter)


class RateLimitGate:
    def __init__(self, limiter: Limiter, metrics: Metrics) -> None:
        self._limiter = limiter
        self._metrics = metrics

    def try_acquire(self, ticket: "ExchangeState") -> Permit | Refusal | None:
        policy = ticket.route.policy
        if policy is None:
            return PASS
        decision = self._limiter.try_take(policy, ticket.client, ticket.started)
        return None if decision is None else self._decided(ticket, decision)

    def acquire(self, ticket: "ExchangeState", resume: Resume) -> None:
        policy = ticket.route.policy
        assert policy is not None  # noqa: S101 - try_acquire passes routes without one
        self._limiter.take(policy, ticket.client, partial(self._answered, ticket, resume))

    def abandon(self, waiting: object) -> None:
        """The token is spent, or will be: it was asked for."""

    def _answered(self, ticket: "ExchangeState", resume: Resume, decision: Decision) -> None:
        resume(self._decided(ticket, decision))

    def _decided(self, ticket: "ExchangeState", decision: Decision) -> Permit | Refusal:
        ticket.rate_decision = decision
        policy = ticket.route.policy
        assert policy is not None  # noqa: S101 - see try_acquire
        if decision.allowed:
            ticket.decisions["rate_limit"] = "allowed"
            self._metrics.rate_limited(policy.name, "allowed")
            return PASS
        ticket.decisions["rate_limit"] = "limited"
        self._metrics.rate_limited(policy.name, "limited")
        return Refusal(429, "rate_limited", ticket.route.limit_detail, decision.retry_after)
