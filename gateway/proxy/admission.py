"""The gates in front of the upstream, in the order of docs/behaviour.md: the cap on all in flight, the rate limit if a
route has one, the bulkhead of the upstream.

`Gates.look` goes through them as far as they answer at once, and takes a token on its way; places are taken only by
`enter`, when nothing else is against the request, so that refusing has nothing to give back. A gate that cannot answer
is waited for: `wait` calls `resume` once, perhaps at once, and what waits can be given up with `abandon`.
"""

import asyncio
import random
import time
from collections.abc import Callable
from functools import partial

from gateway.config.model import SheddingConfig
from gateway.fleet.alone import REFUSED_UNSEEN
from gateway.fleet.limiter import Limiter
from gateway.policy.client_share import ClientShare
from gateway.policy.limit import ConcurrencyLimit, Waiter
from gateway.policy.token_bucket import EXEMPT, Decision, RateLimitPolicy
from gateway.proxy.refusal import Refusal, Refusals, jittered
from gateway.telemetry.metrics import Metrics

IN_FLIGHT, RATE_LIMIT, BULKHEAD, PASSED = range(4)
"""Where a request is: at one of the gates, or behind the last."""

Resume = Callable[["Answer"], None]


class LimitGate:
    """A concurrency limit as a gate: the queue's clockwork around the pure policy."""

    def __init__(
        self,
        limit: ConcurrencyLimit,
        refuse: Callable[[str], Refusal],
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float] = time.monotonic,
        share: ClientShare | None = None,
    ) -> None:
        self.limit = limit
        self.share = share
        self._refuse = refuse
        self._loop = loop
        self._clock = clock
        self._beyond = "queue_full" if limit.settings.max_queue > 0 else "in_flight"
        self._timer: asyncio.TimerHandle | None = None

    def full(self) -> Refusal | None:
        """What that means to a request that has come; None: it may wait. HOT."""
        return self._refuse(self._beyond) if self.limit.queue_full else None

    def share_used_up(self, client: str) -> Refusal | None:
        """What that means to a request of `client`; None: it has not used up its share. HOT."""
        share = self.share
        if share is not None and self.limit.in_flight >= share.limit and share.used_up(client):
            return self._refuse("client_share")
        return None

    def acquire(self, resume: Resume) -> Waiter:
        """Wait for a place, right after `full` has said that this is possible (nothing may be awaited in between):
        `resume` is called with this gate, whose place is to be released then, or with a refusal."""
        waiter = self.limit.enqueue(resume, self._clock())
        if waiter is None:
            raise RuntimeError("the queue is full")
        self._arm()
        return waiter

    def release(self, now: float) -> None:
        """HOT."""
        waiter = self.limit.release(now)
        if waiter is not None:
            # In a turn of its own: a queue of exchanges must not become a stack.
            self._loop.call_soon(waiter.payload, self)

    def _arm(self) -> None:
        deadline = self.limit.next_deadline
        if deadline is not None and self._timer is None:
            self._timer = self._loop.call_later(max(0.0, deadline - self._clock()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        for waiter in self.limit.expire(self._clock()):
            waiter.payload(self._refuse("queue_timeout"))
        self._arm()


class Shedding:
    """The refusal beyond the global in-flight cap."""

    def __init__(self, config: SheddingConfig, metrics: Metrics, rng: random.Random) -> None:
        self._retry_after = config.retry_after
        self._metrics = metrics
        self._rng = rng
        self._refusals = {
            cause: Refusals(partial(Refusal, config.status, "overloaded", detail))
            for cause, detail in _SHED_DETAILS.items()
        }

    def refuse(self, cause: str) -> Refusal:
        """HOT."""
        self._metrics.shed(cause)
        return self._refusals[cause].after(jittered(self._retry_after, self._rng))


_BULKHEAD_DETAILS = {
    "in_flight": "as many requests are in flight as it gets",
    "queue_full": "the queue for it is full",
    "queue_timeout": "no place became free in time",
}
_SHED_DETAILS = {
    "in_flight": "as many requests are in flight as the gateway takes",
    "queue_full": "the queue for a free place is full",
    "queue_timeout": "no place became free in time",
    "client_share": "the client has as many requests in flight as one client may have",
    "connections": "as many connections are open as the gateway takes",
}


def bulkhead_gate(
    upstream: str, limit: ConcurrencyLimit, metrics: Metrics, rng: random.Random, loop: asyncio.AbstractEventLoop
) -> LimitGate:
    refusals = {
        cause: Refusals(partial(Refusal, 503, "bulkhead_full", f"upstream {upstream}: {detail}"))
        for cause, detail in _BULKHEAD_DETAILS.items()
    }

    def refuse(cause: str) -> Refusal:
        metrics.bulkhead_rejected(upstream)
        return refusals[cause].after(jittered(1.0, rng))

    return LimitGate(limit, refuse, loop)


_UNSEEN_DETAIL = "the limit of the client cannot be checked now, and requests are refused until it can be"


class RateLimitGate:
    """The buckets of one policy as a gate. `decided` counts what they said: no, yes. `exempt` is the same gate for
    clients that no limit is for: it has no buckets and says yes."""

    def __init__(self, limiter: Limiter, policy: RateLimitPolicy, metrics: Metrics, *, exempt: bool = False) -> None:
        self.limiter = _Unlimited() if exempt else limiter
        self.policy = policy
        self.decided = metrics.exempt(policy.name) if exempt else metrics.rate_limit(policy.name)
        detail = f"the client has used up its {policy.capacity} requests, {policy.refill_rate:g} come back a second"
        self._limited = Refusals(partial(Refusal, 429, "rate_limited", detail))
        self._unseen = Refusals(partial(Refusal, 429, "rate_limited", _UNSEEN_DETAIL))

    def acquire(self, client: str, resume: Resume) -> None:
        """Take a token that has to be asked for: it is spent from now on, whoever is still there for the answer."""
        self.limiter.take(self.policy, client, resume)

    def refusal(self, decision: Decision) -> Refusal:
        """What a decision against a request means to its client. HOT."""
        refusals = self._unseen if decision is REFUSED_UNSEEN else self._limited
        return refusals.after(decision.retry_after)


class _Unlimited:
    """The limiter of clients that no limit is for."""

    def try_take(self, policy: RateLimitPolicy, client: str, now: float) -> Decision:
        return EXEMPT

    def take(self, policy: RateLimitPolicy, client: str, resume: Resume) -> None:
        resume(EXEMPT)

    async def peek(self, policy: RateLimitPolicy, client: str) -> Decision:
        return EXEMPT

    async def close(self) -> None:
        """There is nothing to close."""


Answer = LimitGate | Decision | Refusal
"""What a gate says to one that has waited for it: a place in it, what the rate limit has decided, or no."""


class Gates:
    """The gates of one route."""

    __slots__ = ("_bulkhead", "_in_flight", "_rate_limit", "_share")

    def __init__(self, in_flight: LimitGate, rate_limit: RateLimitGate | None, bulkhead: LimitGate) -> None:
        self._in_flight = in_flight
        self._share = in_flight.share
        self._rate_limit = rate_limit
        self._bulkhead = bulkhead

    def look(self, client: str, now: float, start: int = IN_FLIGHT) -> tuple[int, Decision | None, Refusal | None]:
        """How far a request comes at once, from the gate `start` on. HOT.

        Returns where it is then, what a rate limit decided on the way, and the refusal that ended it, if any. Without
        one it has `PASSED`, or the gate where it is has to be waited for.
        """
        if start == IN_FLIGHT:
            limit = self._in_flight.limit
            share = self._share
            if share is not None and limit.in_flight >= share.limit:
                refusal = self._in_flight.share_used_up(client)
                if refusal is not None:
                    return IN_FLIGHT, None, refusal
            if limit.in_flight >= limit.limit:
                return IN_FLIGHT, None, self._in_flight.full()
        decision = None
        if start <= RATE_LIMIT:
            gate = self._rate_limit
            if gate is not None:
                decision = gate.limiter.try_take(gate.policy, client, now)
                if decision is None:
                    return RATE_LIMIT, None, None
                gate.decided[decision.allowed] += 1
                if not decision.allowed:
                    return RATE_LIMIT, decision, gate.refusal(decision)
        if start <= BULKHEAD:
            limit = self._bulkhead.limit
            if limit.in_flight >= limit.limit:
                return BULKHEAD, decision, self._bulkhead.full()
        return PASSED, decision, None

    def enter(self, start: int, end: int, client: str) -> None:
        """Take the places between, right after `look` has found them free (nothing may be awaited in between). HOT."""
        if start == IN_FLIGHT < end:
            self._in_flight.limit.try_acquire()
            if self._share is not None:
                self._share.take(client)
        if start <= BULKHEAD < end:
            self._bulkhead.limit.try_acquire()

    def queued(self, client: str) -> Refusal | None:
        """A place in flight has been handed to a request that waited for it. Returns what speaks against it: others of
        the same client may have waited too."""
        refusal = self._in_flight.share_used_up(client)
        if refusal is None and self._share is not None:
            self._share.take(client)
        return refusal

    def leave(self, end: int, now: float, client: str) -> None:
        """Give back the places of a request that has come to `end`. HOT."""
        if end > IN_FLIGHT:
            if self._share is not None:
                self._share.give_back(client)
            self._in_flight.release(now)
        if end > BULKHEAD:
            self._bulkhead.release(now)

    def wait(self, at: int, client: str, resume: Resume) -> object:
        """Returns what `abandon` takes, None if there is nothing to give up."""
        if at == RATE_LIMIT:
            assert self._rate_limit is not None  # noqa: S101 - only a gate that is there is waited for
            self._rate_limit.acquire(client, resume)
            return None
        return self._limit(at).acquire(resume)

    def decided(self, decision: Decision) -> Refusal | None:
        """The rate limit has answered one that has waited for it. Returns what that means if it is a no."""
        gate = self._rate_limit
        assert gate is not None  # noqa: S101 - who else has decided?
        gate.decided[decision.allowed] += 1
        return None if decision.allowed else gate.refusal(decision)

    def abandon(self, at: int, waiting: object) -> None:
        if isinstance(waiting, Waiter):
            self._limit(at).limit.abandon(waiting)

    def _limit(self, at: int) -> LimitGate:
        return self._in_flight if at == IN_FLIGHT else self._bulkhead
