"""Requests on a clock of numbers: arrivals, a limit, and an upstream that works on a few of them at once.

Requests arrive at random (a Poisson process) and do not come again when they are refused. The upstream takes those
that reach it in order of arrival, `workers` at a time, and each takes it `service` seconds. Nothing here sleeps, and
the same seed gives the same run.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.policy.adaptive import AdaptiveLimit, AdaptiveSettings
from gateway.policy.limit import ConcurrencyLimit, LimitSettings
from gateway.policy.priority import BY_PRIORITY, NORMAL, WHOLE


@dataclass(frozen=True, slots=True)
class Scenario:
    """`rate` is requests a second, `workers` what the upstream does at once, `service` the seconds for one, each at an
    instant; for `seconds` in all. `patience` is what clients have, and the gateway's timeout. `classes` has the weight
    of each priority, empty for none. At most `queue` requests wait for a place, 0.25 s each. With `grouped` the
    requests that take the upstream more than 0.25 s are a latency group of their own."""

    name: str
    rate: Callable[[float], float]
    workers: Callable[[float], int]
    service: Callable[[float, random.Random], float]
    seconds: int
    patience: float = 10.0
    settings: AdaptiveSettings = field(default_factory=AdaptiveSettings)
    ceiling: int = 1000
    classes: tuple[float, ...] = ()
    queue: int = 0
    grouped: bool = False


@dataclass(slots=True)
class Second:
    """What happened within one second. `times` are those of the answers within the patience of the clients."""

    offered: int = 0
    answered: int = 0
    refused: int = 0
    late: int = 0
    limit: float = 0.0
    times: list[float] = field(default_factory=list)
    offered_of: list[int] = field(default_factory=lambda: [0] * 5)
    answered_of: list[int] = field(default_factory=lambda: [0] * 5)


class _Request:
    """One on its way; `began` is when it was admitted."""

    __slots__ = ("began", "priority", "service")

    def __init__(self, began: float, priority: int, service: float) -> None:
        self.began = began
        self.priority = priority
        self.service = service


def run(scenario: Scenario, *, fixed: int | None = None, seed: int = 1) -> list[Second]:
    """Play it. With `fixed` the limit is that number and does not change."""
    return _Run(scenario, fixed, seed).play()


class _Run:
    def __init__(self, scenario: Scenario, fixed: int | None, seed: int) -> None:
        self._scenario = scenario
        self._rng = random.Random(seed)
        self._adaptive = None if fixed is not None else AdaptiveLimit(scenario.settings, scenario.ceiling, 0.0)
        size = fixed if self._adaptive is None else self._adaptive.limit
        percents = BY_PRIORITY if scenario.classes else WHOLE
        self._limit = ConcurrencyLimit(LimitSettings(size or 1, scenario.queue, 0.25), percents)
        self._queue: deque[_Request] = deque()
        self._busy = 0
        self._seconds = [Second() for _ in range(scenario.seconds)]
        self._events: list[tuple[float, int, _Request | None]] = []
        self._count = 0

    def play(self) -> list[Second]:
        self._at(0.0, None)
        while self._events:
            now, _, request = heapq.heappop(self._events)
            if now >= self._scenario.seconds:
                break
            second = self._seconds[int(now)]
            second.refused += len(self._limit.expire(now))
            if request is None:
                self._arrive(now, second)
            else:
                self._answer(now, second, request)
            self._work(now)
            second.limit = float(self._limit.limit)
        limit = 0.0
        for second in self._seconds:
            second.limit = limit = second.limit or limit
        return self._seconds

    def _at(self, when: float, request: _Request | None) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, request))

    def _arrive(self, now: float, second: Second) -> None:
        scenario, rng = self._scenario, self._rng
        rate = scenario.rate(now)
        self._at(now + (rng.expovariate(rate) if rate > 0 else 1.0), None)
        if rate <= 0:
            return
        priority = rng.choices(range(5), scenario.classes)[0] if scenario.classes else NORMAL
        second.offered += 1
        second.offered_of[priority] += 1
        adaptive, limit = self._adaptive, self._limit
        if not limit.try_acquire(priority):
            if adaptive is not None:
                adaptive.full = True
                if adaptive.drift(now):
                    self._resize(adaptive, now)
            if adaptive is None or not limit.try_acquire(priority):
                if limit.enqueue(_Request(now, priority, scenario.service(now, rng)), now, priority) is None:
                    second.refused += 1
                return
        self._admit(_Request(now, priority, scenario.service(now, rng)), now)

    def _admit(self, request: _Request, now: float) -> None:
        request.began = now
        self._queue.append(request)

    def _resize(self, adaptive: AdaptiveLimit, now: float) -> None:
        for waiter in self._limit.resize(adaptive.limit, now):
            self._admit(waiter.payload, now)

    def _work(self, now: float) -> None:
        while self._queue and self._busy < self._scenario.workers(now):
            request = self._queue.popleft()
            self._busy += 1
            self._at(now + request.service, request)

    def _answer(self, now: float, second: Second, request: _Request) -> None:
        """The upstream works on for somebody who has gone; the gateway does not wait for that."""
        scenario = self._scenario
        self._busy -= 1
        took = now - request.began
        if took <= scenario.patience:
            second.answered += 1
            second.answered_of[request.priority] += 1
            second.times.append(took)
        else:
            second.late += 1
        adaptive, limit = self._adaptive, self._limit
        if adaptive is not None:
            group = adaptive.group("slow" if scenario.grouped and request.service > 0.25 else "quick")
            if adaptive.sample(group, min(took, scenario.patience), limit.in_flight, now):
                self._resize(adaptive, now)
        waiter = limit.release(now)
        if waiter is not None:
            self._admit(waiter.payload, now)
