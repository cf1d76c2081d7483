"""Hedges of one route at one upstream: after how long, whether one may be made now, and what came of them.

A hedge is a second attempt at a request that has had no answer for longer than most (`gateway.policy.hedge`). It asks
for everything that an attempt asks for, and is left out where any of it is short. It never waits for a place, never is
the probe of a circuit, and no request is refused for its sake:

    attempts         the request has had as many attempts as it may have
    deadline         no time is left
    pushback         the upstream has asked to be left alone (429, Retry-After)
    circuit          the circuit is not closed
    overload         every place for requests in flight is taken, or somebody waits for one
    bulkhead         likewise at the upstream
    endpoints_out    an operator has taken out every endpoint
    connections      the endpoint may have no further connection
    budget           the retry budget is spent

`forward/hedging.py` has what becomes of the two attempts.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Final

from gateway.fleet.circuits import Circuit
from gateway.policy.breaker import FORCED_CLOSED
from gateway.policy.hedge import HedgeDelay, HedgeSettings
from gateway.policy.limit import ConcurrencyLimit
from gateway.policy.retry import parse_retry_after
from gateway.proxy.gate import Chain
from gateway.proxy.ticket import Ticket
from gateway.proxy.upstreams.upstream import Endpoint, Upstream
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.cells import Labels
from gateway.wire.message.request import Request
from gateway.wire.message.response import Response

WON: Final = "won"
LOST: Final = "lost"
FAILED: Final = "failed"
ABANDONED: Final = "abandoned"
"""What came of a hedge: it had the answer; the first attempt had it; neither; nobody waited for it any more."""

RESULTS: Final = (WON, LOST, FAILED, ABANDONED)
NOT_MADE: Final = (
    *("attempts", "deadline", "pushback", "circuit", "overload"),
    *("bulkhead", "endpoints_out", "connections", "budget"),
)
METHODS: Final = frozenset({"GET", "HEAD"})
"""Of requests that may be hedged."""
_TOO_MANY: Final = 429
# A request may have a hedge although it is never retried.
_FEWEST_ATTEMPTS: Final = 2


class Hedging:
    """`chain` has the gates of the upstream alone: its bulkhead, and those that are passed before each attempt.
    `in_flight` is the cap on all requests. `results` and `not_made` count by the words above."""

    __slots__ = ("_bulkhead", "_circuit", "_in_flight", "chain", "delay", "not_made", "results", "route", "upstream")

    def __init__(
        self,
        route: str,
        settings: HedgeSettings,
        upstream: Upstream,
        chain: Chain,
        in_flight: ConcurrencyLimit,
        now: float,
    ) -> None:
        self.route = route
        self.upstream = upstream
        self.chain = chain
        self.delay = HedgeDelay(settings, now)
        self.results = dict.fromkeys(RESULTS, 0)
        self.not_made = dict.fromkeys(NOT_MADE, 0)
        self._circuit: Circuit = upstream.circuit
        self._bulkhead = upstream.bulkhead
        self._in_flight = in_flight

    def __repr__(self) -> str:
        return f"<Hedging {self.route} {self.upstream.name} {self.delay!r}>"

    def obstacle(self, ticket: Ticket, attempts: int, deadline: float, now: float) -> str:
        """What speaks against a hedge now, wherever it would go, empty for nothing. `attempts` have been made, and
        `deadline` is the request's."""
        if attempts >= max(_FEWEST_ATTEMPTS, self.upstream.retry.max_attempts):
            return "attempts"
        if now >= deadline:
            return "deadline"
        if self.delay.held_off(now) > 0.0:
            return "pushback"
        if self._circuit.breaker.permit is None and self._circuit.state is not FORCED_CLOSED:
            return "circuit"
        if _is_full(self._in_flight, ticket.priority):
            return "overload"
        return "bulkhead" if _is_full(self._bulkhead, ticket.priority) else ""

    def obstacle_at(self, endpoint: Endpoint | None, now: float) -> str:
        """What speaks against a hedge at this endpoint; empty for nothing, and then it is taken from the budget."""
        if endpoint is None:
            return "endpoints_out"
        if not endpoint.pool.has_room:
            return "connections"
        return "" if self.upstream.budget.try_spend(now) else "budget"

    def heard(self, response: Response, now: float) -> None:
        """An answer of 400 or more: it may ask for time."""
        value = response.fields.retry_after
        wait = parse_retry_after(value, time.time()) if value is not None else None
        if wait is not None or response.status == _TOO_MANY:
            self.delay.pushed_back(wait, now)

    def says_nothing(self, status: int) -> bool:
        """Whether an answer with this status, 400 or more, is passed over while the other attempt may still have a
        better one: what is retried, what counts as a failure, and 429."""
        upstream = self.upstream
        return status in upstream.retry.statuses or status in upstream.failure_statuses or status == _TOO_MANY


def may_be_hedged(request: Request) -> bool:
    """Whether a second one does no harm, and costs no more than the first. HOT."""
    return request.method in METHODS and not request.has_body and request.fields.upgrade is None


def register(metrics: Metrics, hedges: Iterable[Hedging]) -> None:
    """Add the metrics of these."""
    all_of_them = tuple(hedges)

    def results() -> Iterator[tuple[Labels, float]]:
        for each in all_of_them:
            for result, count in each.results.items():
                yield (each.route, each.upstream.name, result), count

    def not_made() -> Iterator[tuple[Labels, float]]:
        for each in all_of_them:
            for reason, count in each.not_made.items():
                yield (each.route, each.upstream.name, reason), count

    def after() -> Iterator[tuple[Labels, float]]:
        now = time.monotonic()
        for each in all_of_them:
            seconds = each.delay.after(now)
            if seconds < float("inf"):
                yield (each.route, each.upstream.name), seconds

    metrics.counter(
        "hedges_total",
        "Requests that were sent a second time beside the first, by what came of the second.",
        ("route", "upstream", "result"),
        results,
    )
    metrics.counter(
        "hedges_not_made_total",
        "Requests that were late enough for a hedge and got none, by reason.",
        ("route", "upstream", "reason"),
        not_made,
    )
    metrics.gauge(
        "hedge_after_seconds",
        "How long an attempt may be without an answer before it is hedged; no series while too little is known.",
        ("route", "upstream"),
        after,
        "max",
    )


def _is_full(limit: ConcurrencyLimit, priority: int) -> bool:
    return bool(limit.queue) or limit.in_flight >= limit.caps[priority]
