"""What an adaptive limit learns from, and how the bulkhead follows it."""

import asyncio
import random
from typing import cast

import pytest

from gateway.policy.adaptive import AdaptiveLimit, AdaptiveSettings
from gateway.policy.breaker import BreakerSettings, CircuitBreaker, Permit
from gateway.policy.limit import ConcurrencyLimit, LimitSettings
from gateway.policy.outcome import FAILURE, IGNORED, SUCCESS, Outcome
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.gate import PASS, Question
from gateway.proxy.gates.adaptive_limit import AdaptiveLimitGate
from gateway.proxy.gates.bulkhead import BulkheadGate
from gateway.proxy.recorder import Recorder
from gateway.proxy.ticket import Ticket
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.services.errors import ErrorLog
from tests.support.tickets import request, ticket

NO_LOOP = cast(asyncio.AbstractEventLoop, None)  # nobody waits here


def probe() -> Permit:
    """The permit of an attempt that decides whether a circuit closes."""
    breaker = CircuitBreaker(BreakerSettings(failure_threshold=1, reset_timeout=1.0), lambda: 0.0)
    first = breaker.try_acquire(0.0)
    assert isinstance(first, Permit)
    first.release(FAILURE, 0.1, 0.0)
    permit = breaker.try_acquire(10.0)
    assert isinstance(permit, Permit)
    assert permit.probe
    return permit


def gates(*, enforce: bool = True, initial: int = 10, now: float = 0.0) -> tuple[BulkheadGate, AdaptiveLimitGate]:
    recorder = Recorder(Metrics("gw", [], ["orders"], "1"), ErrorLog("gw", ["orders"]), None, "gw")
    adaptive = AdaptiveLimit(AdaptiveSettings(enforce=enforce, min=2, initial=initial), 100, now)
    bulkhead = BulkheadGate(
        "orders", ConcurrencyLimit(LimitSettings(100)), recorder, random.Random(1), NO_LOOP, adaptive
    )
    return bulkhead, AdaptiveLimitGate(bulkhead, adaptive, "default")


def ended(
    gate: AdaptiveLimitGate, outcome: Outcome, seconds: float, *, of: Ticket | None = None, now: float = 1.0
) -> None:
    made = of or ticket()
    made.now = now
    gate.leave(made, outcome, seconds)


def window(gate: AdaptiveLimitGate, seconds: float, now: float) -> float:
    """A whole window of successes."""
    for number in range(101):
        ended(gate, SUCCESS, seconds, now=now + number * 0.02)
    return now + 2.02


@pytest.mark.parametrize(
    ("outcome", "answered", "unanswered", "counts"),
    [
        (SUCCESS, False, False, True),
        (FAILURE, True, False, False),  # a 5xx
        (FAILURE, False, False, False),  # a reset
        (FAILURE, False, True, True),  # a timeout
        (IGNORED, False, False, False),  # nothing could be tried
    ],
)
def test_what_counts(outcome: Outcome, answered: bool, unanswered: bool, counts: bool) -> None:
    _, gate = gates()
    made = ticket()
    made.answered, made.unanswered = answered, unanswered
    for number in range(60):
        ended(gate, outcome, 0.5, of=made, now=2.0 + number)
    (group,) = gate.adaptive.groups
    assert group.trend.recent == (0.5 if counts else 0.0)


def test_a_client_that_left_counts_only_where_it_had_waited_longer_than_most_answers_take() -> None:
    _, gate = gates()
    made = ticket()
    made.unanswered = True
    (group,) = gate.adaptive.groups
    for number in range(60):
        ended(gate, IGNORED, 5.0, of=made, now=number)
    assert group.trend.recent == 0.0, "nothing is known yet"
    now = window(gate, 0.5, 60.0)
    for _ in range(3):
        for number in range(60):
            ended(gate, IGNORED, 0.4, of=made, now=now + number * 0.05)
        assert group.trend.recent == 0.5
        now += 3.0
    for _ in range(3):
        for number in range(60):
            ended(gate, IGNORED, 2.0, of=made, now=now + number * 0.05)
        now += 3.0
    assert group.trend.recent == 2.0


def test_probes_and_tunnels_do_not_count() -> None:
    _, gate = gates()
    probing = ticket()
    probing.permit = probe()
    tunnel = ticket(request(b"/a/x", "Connection: Upgrade", "Upgrade: websocket"))
    for number in range(200):
        ended(gate, SUCCESS, 0.5, of=probing, now=number)
        ended(gate, SUCCESS, 0.5, of=tunnel, now=number)
    (group,) = gate.adaptive.groups
    assert group.trend.recent == 0.0


def test_a_client_that_offers_http_2_is_answered_like_any_other() -> None:
    """Java's HttpClient and curl --http2 have `Upgrade: h2c` on requests over plain TCP."""
    _, gate = gates()
    offering = ticket(request(b"/a/x", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"))
    for number in range(60):
        ended(gate, SUCCESS, 0.5, of=offering, now=float(number))
    (group,) = gate.adaptive.groups
    assert group.trend.recent == 0.5


def test_the_bulkhead_begins_with_the_initial_limit_and_follows() -> None:
    bulkhead, gate = gates(initial=10)
    assert bulkhead.limit.limit == 10
    now = 0.0
    for _ in range(5):
        now = window(gate, 0.1, now)
    assert bulkhead.limit.limit == gate.adaptive.limit < 10, "nothing is in flight"
    assert bulkhead.describe()["limit"] == 100, "the ceiling is what is configured"


def test_what_is_only_observed_changes_nothing() -> None:
    bulkhead, gate = gates(enforce=False, initial=10)
    now = 0.0
    for _ in range(5):
        now = window(gate, 0.1, now)
    assert gate.adaptive.limit < 10
    assert bulkhead.limit.limit == 100


def test_a_limit_that_has_drifted_lets_the_first_request_in() -> None:
    bulkhead, gate = gates(initial=50)
    now = 0.0
    for _ in range(60):
        now = window(gate, 0.1, now)
    assert bulkhead.limit.limit == 2
    bulkhead.limit.in_flight = 2
    made = ticket()
    made.now = now
    refusal = bulkhead.check(made)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.reason) == (503, "bulkhead_full")
    made.now = now + 600.0
    assert bulkhead.check(made) is PASS
    assert bulkhead.limit.limit >= 49
    assert bulkhead.rejected == [0, 0, 1, 0, 0]


@pytest.mark.parametrize(("initial", "held"), [(50, 2), (2, 20)])
def test_the_first_answer_after_a_quiet_time_takes_the_drifted_limit_over(initial: int, held: int) -> None:
    """Fewer than fifty answers complete no window, so nothing else would tell the bulkhead."""
    bulkhead, gate = gates(initial=initial)
    gate.adaptive.value = gate.adaptive._held = float(held)
    bulkhead.follow(0.0)
    assert bulkhead.limit.limit == held
    ended(gate, SUCCESS, 0.1, now=600.0)
    assert abs(gate.adaptive.limit - initial) <= 1
    assert bulkhead.limit.limit == gate.adaptive.limit


async def test_an_explanation_shows_limit_and_times() -> None:
    _, gate = gates(enforce=False)
    window(gate, 0.1, 0.0)
    step = await gate.explain(Question("192.0.2.1", False, "GET", 3.0))
    assert step["policy"] == "adaptive_limit"
    assert step["figures"]["mode"] == "observe"
    assert step["figures"] == {
        "limit": gate.adaptive.limit,
        "mode": "observe",
        "latency_group": "default",
        "recent": 0.1,
        "baseline": 0.1,
    }
    assert "only observed" in step["detail"]
