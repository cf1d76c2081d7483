"""One decision of each policy. The clock stands where the case needs it: time is an argument everywhere."""

import random
from collections.abc import Iterator

from benchmarks.micro.timing import Case
from gateway.policy.adaptive import AdaptiveLimit, AdaptiveSettings
from gateway.policy.balancer import LeastInFlight, RoundRobin
from gateway.policy.breaker import BreakerSettings, CircuitBreaker, CircuitOpen
from gateway.policy.budget import BudgetSettings, RetryBudget
from gateway.policy.ejection import Ejection, EjectionSettings
from gateway.policy.lease import LeaseTable
from gateway.policy.lease.ask import Grant
from gateway.policy.limit import ConcurrencyLimit, LimitSettings
from gateway.policy.outcome import Outcome
from gateway.policy.priority import BY_PRIORITY, WHOLE
from gateway.policy.token_bucket import BucketTable, RateLimitPolicy

_PLENTY = RateLimitPolicy("plenty", capacity=10_000_000, refill_rate=10_000_000.0)
_NONE_LEFT = RateLimitPolicy("none-left", capacity=1, refill_rate=0.001)
_CLIENT = "203.0.113.7"
_NOW = 1000.0


class _Endpoint:
    weight = 1
    in_flight = 0

    def available(self, now: float) -> bool:
        return True


def cases() -> Iterator[tuple[str, Case]]:
    yield "bucket: take", _bucket(_PLENTY)
    yield "bucket: refuse", _bucket(_NONE_LEFT)
    yield "bucket: new client", _new_clients()
    yield "lease: try_take", _lease(Grant(1, 500_000_000, 7, 1e9, 5e6, 0.0, 0.0, 0, 0.0), lease=True)
    yield "lease: refuse while exhausted", _lease(Grant(0, 0, 0, 0.0, 0.0, 1e9, 1e9, 0, 0.0), lease=False)
    yield "breaker: acquire and release", _breaker()
    yield "breaker: refuse while open", _open_breaker()
    yield "limit: acquire and release", _limit()
    yield "limit: acquire and release, by priority", _limit(BY_PRIORITY)
    yield "adaptive limit: sample", _adaptive()
    yield "budget: request", _budget()
    yield "ejection: record", _ejection()
    endpoints = [_Endpoint() for _ in range(5)]
    least, turns = LeastInFlight(endpoints, random.Random(1)), RoundRobin(endpoints)
    yield "balancer: least in flight of 5", lambda: least.pick(_NOW)
    yield "balancer: round robin of 5", lambda: turns.pick(_NOW)


def _bucket(policy: RateLimitPolicy) -> Case:
    table = BucketTable(policy)
    table.take(_CLIENT, _NOW)
    return lambda: table.take(_CLIENT, _NOW)


def _new_clients() -> Case:
    table = BucketTable(RateLimitPolicy("slow", capacity=100, refill_rate=0.001), max_clients=10_000)
    addresses = iter(range(1 << 40))
    return lambda: table.take(str(next(addresses)), _NOW)


def _lease(grant: Grant, *, lease: bool) -> Case:
    """A client whose lease never ends, or one that is known to have nothing."""
    table: LeaseTable[None] = LeaseTable(lambda: None)
    policy = RateLimitPolicy("leased", capacity=1_000_000_000, refill_rate=1.0) if lease else _NONE_LEFT
    table.enter(policy, _CLIENT, None, _NOW)
    asks = [(account, account.turn) for account in table.next_asks(_NOW, 1)]
    table.settle(asks, [grant], _NOW, _NOW)
    decision = table.try_take(policy, _CLIENT, _NOW)
    if decision is None or decision.allowed is not lease:
        raise RuntimeError(f"not the state that was to be timed: {table!r}")
    return lambda: table.try_take(policy, _CLIENT, _NOW)


def _breaker() -> Case:
    breaker = CircuitBreaker(BreakerSettings(), lambda: _NOW)

    def attempt() -> None:
        permit = breaker.try_acquire(_NOW)
        if not isinstance(permit, CircuitOpen):
            permit.release(Outcome.SUCCESS, 0.001, _NOW)

    return attempt


def _open_breaker() -> Case:
    breaker = CircuitBreaker(BreakerSettings(failure_threshold=1), lambda: _NOW)
    permit = breaker.try_acquire(_NOW)
    if not isinstance(permit, CircuitOpen):
        permit.release(Outcome.FAILURE, 0.001, _NOW)
    return lambda: breaker.try_acquire(_NOW)


def _limit(percents: tuple[int, ...] = WHOLE) -> Case:
    limit = ConcurrencyLimit(LimitSettings(limit=1000), percents)

    def hold() -> None:
        limit.try_acquire()
        limit.release(_NOW)

    return hold


def _adaptive() -> Case:
    """Windows of 2,000 answers, their ends included: a second of a worker that has its hands full."""
    adaptive = AdaptiveLimit(AdaptiveSettings(), 1000, _NOW)
    group = adaptive.group("default")
    times = iter(range(1 << 40))

    def sample() -> None:
        number = next(times)
        adaptive.sample(group, 0.01 + number % 97 * 1e-4, 50, _NOW + number * 0.0005)

    return sample


def _budget() -> Case:
    budget = RetryBudget(BudgetSettings(), lambda: _NOW)
    return lambda: budget.request(_NOW)


def _ejection() -> Case:
    ejection = Ejection(EjectionSettings(), 3)
    return lambda: ejection.record(1, Outcome.SUCCESS, _NOW)
