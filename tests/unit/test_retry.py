import random
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.budget import BudgetSettings, RetryBudget
from gateway.policy.retry import (
    IDEMPOTENT_METHODS,
    EndedAttempt,
    GiveUp,
    Retry,
    RetrySettings,
    next_delay,
    parse_retry_after,
)

SETTINGS = RetrySettings()


def facts(**changes: Any) -> EndedAttempt:
    """The first attempt of a GET that met a 503, with plenty of time left."""
    base = EndedAttempt(attempt=1, idempotent=True, replayable=True, request_sent=True, remaining=30.0, status=503)
    return base._replace(**changes)


def failed(failure: str, **changes: Any) -> EndedAttempt:
    return facts(**{"status": None, "failure": failure, **changes})


def budget_of(retries: int) -> RetryBudget:
    return RetryBudget(BudgetSettings(ratio=0.0, min_per_second=retries / 10, window=10.0), clock=lambda: 0.0)


def decide(
    given_facts: EndedAttempt, settings: RetrySettings = SETTINGS, budget: RetryBudget | None = None
) -> Retry | GiveUp:
    return next_delay(settings, given_facts, budget or budget_of(10), random.Random(1), 0.0)


@pytest.mark.parametrize(
    ("known", "answer"),
    [
        # statuses
        (facts(status=502), "retry"),
        (facts(status=503), "retry"),
        (facts(status=504), "retry"),
        (facts(status=500), "not_retryable"),
        (facts(status=429), "not_retryable"),
        (facts(status=200), "not_retryable"),
        (facts(status=None), "not_retryable"),
        # failures of idempotent requests
        (failed("connect", request_sent=False), "retry"),
        (failed("reset"), "retry"),
        (failed("timeout"), "retry"),
        (failed("protocol"), "retry"),
        # others: only when nothing was sent
        (facts(idempotent=False), "not_idempotent"),
        (failed("connect", idempotent=False, request_sent=False), "retry"),
        (failed("timeout", idempotent=False, request_sent=False), "retry"),
        (failed("reset", idempotent=False, request_sent=False), "retry"),
        (failed("reset", idempotent=False), "not_idempotent"),
        (failed("timeout", idempotent=False), "not_idempotent"),
        (failed("protocol", idempotent=False), "not_idempotent"),
        (failed("protocol", idempotent=False, request_sent=False), "not_idempotent"),
        # the body is gone
        (facts(replayable=False), "not_replayable"),
        (failed("connect", replayable=False, request_sent=False), "not_replayable"),
        # stale connections
        (failed("reset", stale=True), "free"),
        (failed("reset", stale=True, attempt=3), "free"),
        (failed("reset", stale=True, free_retry_used=True), "retry"),
        (failed("reset", stale=True, free_retry_used=True, attempt=3), "attempts"),
        (failed("reset", stale=True, idempotent=False), "not_idempotent"),
        (failed("reset", stale=True, idempotent=False, request_sent=False), "free"),
        (failed("reset", stale=True, replayable=False), "not_replayable"),
        (failed("reset", stale=True, remaining=0.0), "deadline"),
        # attempts
        (facts(attempt=2), "retry"),
        (facts(attempt=3), "attempts"),
        (facts(attempt=4), "attempts"),
        # deadline
        (facts(remaining=0.0), "deadline"),
        (facts(remaining=-1.0), "deadline"),
        (facts(upstream_retry_after=29.0), "retry"),
        (facts(upstream_retry_after=30.0), "retry_after"),
        (facts(upstream_retry_after=float("inf")), "retry_after"),
        (facts(upstream_retry_after=3.0, remaining=-1.0), "deadline"),
        # probes
        (facts(probe=True), "probe"),
        (failed("reset", probe=True, stale=True), "probe"),
    ],
)
def test_decision_table(known: EndedAttempt, answer: str) -> None:
    decision = decide(known)
    if isinstance(decision, GiveUp):
        assert decision.reason == answer
    else:
        assert answer == ("free" if decision.free else "retry")
        assert decision.delay == 0.0 or not decision.free


def test_the_budget_bounds_what_would_otherwise_be_retried() -> None:
    budget = budget_of(2)
    assert [type(decide(facts(), budget=budget)) for _ in range(3)] == [Retry, Retry, GiveUp]
    assert decide(facts(), budget=budget) == GiveUp("budget")


@pytest.mark.parametrize(
    "known",
    [
        facts(probe=True),
        facts(status=200),
        facts(replayable=False),
        facts(idempotent=False),
        facts(attempt=3),
        facts(remaining=0.0),
        facts(upstream_retry_after=60.0),
        failed("reset", stale=True),
    ],
)
def test_nothing_else_is_charged_to_the_budget(known: EndedAttempt) -> None:
    budget = budget_of(1)
    decide(known, budget=budget)
    assert isinstance(decide(facts(), budget=budget), Retry)


def test_full_jitter_is_uniform_below_a_bound_that_doubles_up_to_the_cap() -> None:
    settings = RetrySettings(max_attempts=1000, base_delay=0.1, max_delay=1.0)
    rng = random.Random(7)
    for attempt, bound in [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (999, 1.0)]:
        delays = []
        for _ in range(2000):
            decision = next_delay(settings, facts(attempt=attempt), budget_of(1), rng, 0.0)
            assert isinstance(decision, Retry)
            delays.append(decision.delay)
        assert 0.0 <= min(delays) < 0.01 * bound
        assert 0.99 * bound < max(delays) < bound
        assert sum(delays) / len(delays) == pytest.approx(bound / 2, rel=0.05)


def test_constant_strategy_does_not_grow() -> None:
    settings = RetrySettings(max_attempts=10, base_delay=0.3, strategy="constant")
    assert [decide(facts(attempt=n), settings) for n in (1, 2, 9)] == [Retry(0.3)] * 3


def test_a_retry_after_is_a_floor_and_those_told_the_same_do_not_come_back_together() -> None:
    rng = random.Random(3)
    delays = set()
    for _ in range(50):
        decision = next_delay(SETTINGS, facts(upstream_retry_after=2.0), budget_of(1), rng, 0.0)
        assert isinstance(decision, Retry)
        assert 2.0 <= decision.delay < 2.1
        delays.add(decision.delay)
    assert len(delays) == 50


def test_a_retry_that_would_begin_at_the_deadline_is_not_worth_it() -> None:
    settings = RetrySettings(base_delay=0.5, strategy="constant")
    assert decide(facts(remaining=0.5), settings) == GiveUp("deadline")
    assert decide(facts(remaining=0.51), settings) == Retry(0.5)
    assert decide(facts(remaining=1.0, upstream_retry_after=0.6), settings) == GiveUp("deadline")


def test_idempotent_methods_are_those_of_the_rfc() -> None:
    assert {"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"} == IDEMPOTENT_METHODS


@given(
    st.builds(
        EndedAttempt,
        attempt=st.integers(1, 5),
        idempotent=st.booleans(),
        replayable=st.booleans(),
        request_sent=st.booleans(),
        remaining=st.floats(-1.0, 5.0),
        status=st.one_of(st.none(), st.sampled_from([200, 500, 503])),
        failure=st.one_of(st.none(), st.sampled_from(["connect", "reset", "timeout", "protocol"])),
        stale=st.booleans(),
        free_retry_used=st.booleans(),
        upstream_retry_after=st.one_of(st.none(), st.floats(0.0, 10.0)),
        probe=st.booleans(),
    )
)
def test_what_no_retry_may_ever_do(known: EndedAttempt) -> None:
    decision = decide(known)
    if isinstance(decision, GiveUp):
        return
    assert not known.probe
    assert known.replayable
    assert known.idempotent or not known.request_sent
    assert known.failure is not None or known.status == 503
    assert decision.delay < known.remaining
    if decision.free:
        assert known.stale
        assert not known.free_retry_used
    else:
        assert known.attempt < SETTINGS.max_attempts
        assert decision.delay >= (known.upstream_retry_after or 0.0)


NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"120", 120.0),
        (b" 7\t", 7.0),
        (b"9" * 5000, float("inf")),
        (b"Sun, 06 Nov 1994 08:49:57 GMT", 20.0),
        (b"Sunday, 06-Nov-94 08:49:57 GMT", 20.0),
        (b"Sun Nov  6 08:49:57 1994", 20.0),
        (b"Sun, 06 Nov 1994 08:49:07 GMT", 0.0),
        (b"", None),
        (b"-5", None),
        (b"1.5", None),
        (b"+5", None),
        (b"5s", None),
        (b"\xb2", None),
        (b"soon", None),
        (b"Sun, 99 Nov 1994 08:49:57 GMT", None),
        (b"Sun, 06 Nov 99999 08:49:57 GMT", None),
    ],
)
def test_retry_after(value: bytes, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(st.integers(0, 4_000_000_000), st.integers(0, 4_000_000_000))
def test_retry_after_dates(now: int, then: int) -> None:
    assert parse_retry_after(formatdate(then, usegmt=True).encode(), now) == max(0, then - now)


@given(
    st.one_of(
        st.binary(max_size=40),
        st.lists(
            st.sampled_from(["Sun", ",", " ", "06", "Nov", "-", "94", "1994", "08:49:37", ":", "GMT", "+0100", "99"]),
            max_size=10,
        ).map(lambda parts: "".join(parts).encode()),
    )
)
def test_no_retry_after_is_an_error(value: bytes) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or seconds >= 0.0
