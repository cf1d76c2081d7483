"""The breaker's rules, by table; time is a number that the tests advance."""

import math
from dataclasses import replace

import pytest

from gateway.policy.breaker import (
    PROBE_PATIENCE,
    BreakerSettings,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    Permit,
)
from gateway.policy.outcome import Outcome

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, FORCED_CLOSED = CircuitState.FORCED_OPEN, CircuitState.FORCED_CLOSED
SUCCESS, FAILURE, IGNORED = Outcome.SUCCESS, Outcome.FAILURE, Outcome.IGNORED

SETTINGS = BreakerSettings(failure_threshold=3, minimum_calls=10, reset_timeout=30.0, half_open_success_threshold=2)
RATES = replace(SETTINGS, failure_threshold=1000, slow_call_threshold=1.0)
OUTCOMES = {"s": SUCCESS, "f": FAILURE, "i": IGNORED}


class Bench:
    """A breaker, its clock, and what it said of its transitions."""

    def __init__(self, settings: BreakerSettings = SETTINGS, probe_time: float = 10.0) -> None:
        self.now = 1000.0
        self.told: list[tuple[CircuitState, CircuitState, str]] = []
        self.breaker = CircuitBreaker(
            settings, lambda: self.now, lambda old, new, cause: self.told.append((old, new, cause)), probe_time
        )

    @property
    def state(self) -> CircuitState:
        return self.breaker.current_state()

    def permit(self) -> Permit:
        answer = self.breaker.try_acquire(self.now)
        assert isinstance(answer, Permit)
        return answer

    def refusal(self) -> CircuitOpen:
        answer = self.breaker.try_acquire(self.now)
        assert isinstance(answer, CircuitOpen)
        return answer

    def attempt(self, outcome: Outcome, elapsed: float = 0.1) -> None:
        self.permit().release(outcome, elapsed, self.now)

    def play(self, outcomes: str) -> None:
        for letter in outcomes:
            self.attempt(OUTCOMES[letter], 2.0 if letter.isupper() else 0.1)

    def trip(self) -> None:
        self.play("f" * self.breaker.settings.failure_threshold)
        assert self.state is OPEN

    def half_open(self) -> None:
        self.trip()
        self.now += 30.0
        assert self.state is HALF_OPEN


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("", CLOSED),
        ("ff", CLOSED),
        ("fff", OPEN),
        ("ffsff", CLOSED),
        ("ffsfff", OPEN),
        ("fifif", OPEN),
        ("iiiiiiiiii", CLOSED),
        ("ssssssssssfff", OPEN),
    ],
)
def test_consecutive_failures(outcomes: str, state: CircuitState) -> None:
    bench = Bench()
    bench.play(outcomes)
    assert bench.state is state


@pytest.mark.parametrize(
    ("settings", "outcomes", "trips"),
    [
        (RATES, "fffffffff", False),
        (RATES, "fffffffffs", True),
        (RATES, "sssssfffff", True),
        (RATES, "ssssssffff", False),
        (RATES, "ssssssffffif", False),
        (RATES, "ssssssffffff", True),
        (replace(RATES, failure_rate_threshold=0.1), "sssssssssf", True),
        (replace(RATES, window_size=10), "f" + "s" * 10 + "ffff", False),
        (replace(RATES, window_size=10), "s" * 50 + "fffff", True),
    ],
)
def test_failure_rate(settings: BreakerSettings, outcomes: str, trips: bool) -> None:
    bench = Bench(settings)
    for letter in outcomes:
        assert bench.state is CLOSED
        bench.attempt(OUTCOMES[letter])
    assert bench.state is (OPEN if trips else CLOSED)


@pytest.mark.parametrize(
    ("threshold", "slow", "fast", "trips"), [(1.0, 5, 5, True), (1.0, 4, 6, False), (None, 10, 0, False)]
)
def test_slow_call_rate(threshold: float | None, slow: int, fast: int, trips: bool) -> None:
    bench = Bench(replace(RATES, slow_call_threshold=threshold))
    for elapsed in [0.99] * fast + [1.0] * slow:
        bench.attempt(SUCCESS, elapsed)
    assert bench.state is (OPEN if trips else CLOSED)
    if trips:
        assert bench.breaker.cause == "5 of the last 10 calls were slow"


def test_a_fast_success_completes_the_minimum_for_the_slow_calls_before_it() -> None:
    bench = Bench(RATES)
    for elapsed in [1.0] * 9 + [0.1]:
        assert bench.state is CLOSED
        bench.attempt(SUCCESS, elapsed)
    assert bench.state is OPEN


def test_old_calls_do_not_count() -> None:
    bench = Bench(RATES)
    bench.play("fffffffff")
    bench.now += 60.0
    bench.play("sssssssss")
    assert bench.state is CLOSED
    assert bench.breaker.evidence(bench.now).failures == 0


def test_a_closed_circuit_gives_everybody_the_same_permit() -> None:
    bench = Bench()
    assert bench.permit() is bench.permit()
    assert not bench.permit().probe
    assert bench.breaker.permit is bench.permit()


def test_open_refuses_with_the_time_left_and_the_cause() -> None:
    bench = Bench()
    bench.trip()
    assert bench.refusal() == CircuitOpen(30.0, "3 consecutive failures")
    bench.now += 29.5
    assert bench.refusal().retry_after == pytest.approx(0.5)
    assert bench.breaker.permit is None
    assert bench.breaker.opened_at == 1000.0


def test_a_late_result_of_an_earlier_generation_is_ignored() -> None:
    bench = Bench()
    late = bench.permit()
    bench.trip()
    bench.now += 30.0
    late.release(FAILURE, 0.1, bench.now)
    assert bench.state is HALF_OPEN
    bench.play("ss")
    assert bench.state is CLOSED
    for _ in range(10):
        late.release(FAILURE, 0.1, bench.now)
    assert bench.state is CLOSED
    assert bench.breaker.failures == 0


def test_half_open_lets_one_probe_through_at_a_time() -> None:
    bench = Bench()
    bench.half_open()
    probe = bench.permit()
    assert probe.probe
    assert bench.refusal().retry_after == PROBE_PATIENCE
    probe.release(SUCCESS, 0.1, bench.now)
    assert bench.permit().probe


def test_half_open_lets_max_probes_through_at_a_time() -> None:
    bench = Bench(replace(SETTINGS, half_open_max_probes=3, half_open_success_threshold=5))
    bench.half_open()
    probes = [bench.permit() for _ in range(3)]
    assert len(set(probes)) == 3
    bench.refusal()
    probes[1].release(SUCCESS, 0.1, bench.now)
    bench.permit()
    bench.refusal()


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [("s", HALF_OPEN), ("ss", CLOSED), ("f", OPEN), ("sf", OPEN), ("iiii", HALF_OPEN), ("isis", CLOSED)],
)
def test_probes_decide(outcomes: str, state: CircuitState) -> None:
    bench = Bench()
    bench.half_open()
    bench.play(outcomes)
    assert bench.state is state


def test_a_failed_probe_opens_for_a_whole_reset_timeout() -> None:
    bench = Bench()
    bench.half_open()
    bench.now += 5.0
    bench.play("f")
    assert bench.refusal() == CircuitOpen(30.0, "a probe failed")
    assert bench.breaker.opened_at == bench.now


def test_a_slow_probe_counts_as_failed() -> None:
    bench = Bench(replace(SETTINGS, slow_call_threshold=1.0))
    bench.half_open()
    bench.attempt(SUCCESS, 1.0)
    assert bench.state is OPEN
    assert bench.breaker.cause == "a probe was slow"


def test_a_probe_never_released_frees_its_place() -> None:
    bench = Bench(probe_time=10.0)
    bench.half_open()
    lost = bench.permit()
    # Long enough for an answer: from now on nothing is sure but the end of its time.
    bench.now += 1.0
    assert bench.refusal().retry_after == PROBE_PATIENCE
    bench.now += 0.5
    assert bench.refusal().retry_after == pytest.approx(8.5)
    bench.now += 8.0
    assert bench.refusal().retry_after == pytest.approx(0.5)
    bench.now += 0.5
    bench.permit().release(SUCCESS, 0.1, bench.now)
    lost.release(FAILURE, 10.5, bench.now)
    assert bench.state is HALF_OPEN


def test_a_probe_counts_once_however_often_it_is_released() -> None:
    bench = Bench()
    bench.half_open()
    probe = bench.permit()
    probe.release(SUCCESS, 0.1, bench.now)
    probe.release(SUCCESS, 0.1, bench.now)
    assert bench.state is HALF_OPEN


def test_a_probe_of_an_earlier_half_open_changes_nothing() -> None:
    bench = Bench(replace(SETTINGS, half_open_max_probes=2))
    bench.half_open()
    late, other = bench.permit(), bench.permit()
    other.release(FAILURE, 0.1, bench.now)
    bench.now += 30.0
    assert bench.state is HALF_OPEN
    late.release(FAILURE, 0.1, bench.now)
    assert bench.state is HALF_OPEN


def test_closing_forgets_what_went_before() -> None:
    bench = Bench(replace(SETTINGS, minimum_calls=3))
    bench.half_open()
    bench.play("ss")
    bench.play("ff")
    assert bench.state is CLOSED


@pytest.mark.parametrize("state", [FORCED_OPEN, FORCED_CLOSED])
def test_a_force_ends_by_itself(state: CircuitState) -> None:
    bench = Bench()
    bench.breaker.force(state, 60.0, "maintenance", bench.now)
    bench.now += 59.9
    assert bench.state is state
    bench.now += 0.1
    assert bench.state is CLOSED
    assert bench.told[-1] == (state, CLOSED, "force expired")


def test_forced_open_refuses_and_forced_closed_counts_nothing() -> None:
    bench = Bench()
    bench.breaker.force(FORCED_OPEN, 60.0, "maintenance", bench.now)
    assert bench.refusal() == CircuitOpen(60.0, "maintenance")
    bench.breaker.force(FORCED_CLOSED, 60.0, "keep it up", bench.now)
    bench.play("f" * 50)
    assert bench.state is FORCED_CLOSED
    bench.breaker.release_force(bench.now)
    assert bench.state is CLOSED
    assert bench.breaker.evidence(bench.now).calls == 0


@pytest.mark.parametrize("state", [CLOSED, OPEN, HALF_OPEN])
def test_only_forced_states_can_be_forced(state: CircuitState) -> None:
    with pytest.raises(ValueError, match="forced open or closed"):
        Bench().breaker.force(state, 1.0, "", 0.0)


def test_releasing_ends_nothing_but_a_force() -> None:
    bench = Bench()
    bench.trip()
    bench.breaker.release_force(bench.now)
    assert bench.state is OPEN


def test_reset_closes_and_forgets() -> None:
    bench = Bench()
    bench.play("ss")
    bench.trip()
    bench.breaker.reset(bench.now)
    assert bench.state is CLOSED
    assert bench.breaker.evidence(bench.now).success_age is None
    bench.play("ff")
    assert bench.state is CLOSED


def test_every_transition_is_told_once_and_is_a_generation() -> None:
    bench = Bench()
    generations = [bench.breaker.generation]
    for step in (bench.trip, lambda: bench.play("f"), lambda: bench.play("ss")):
        step()
        generations.append(bench.breaker.generation)
        bench.now += 30.0
        bench.breaker.current_state()
    assert [(old, new) for old, new, _ in bench.told] == [
        (CLOSED, OPEN),
        (OPEN, HALF_OPEN),
        (HALF_OPEN, OPEN),
        (OPEN, HALF_OPEN),
        (HALF_OPEN, CLOSED),
    ]
    assert generations == sorted(set(generations))


def test_evidence_is_kept_while_open_and_dropped_when_closed() -> None:
    bench = Bench()
    bench.play("s")
    bench.now += 1.0
    bench.trip()
    bench.now += 2.0
    seen = bench.breaker.evidence(bench.now)
    assert (seen.calls, seen.failures, seen.slow_calls) == (4, 3, 0)
    assert seen.failure_ages == (2.0, 2.0, 2.0)
    assert seen.success_age == 3.0
    bench.now += 28.0
    bench.play("ss")
    seen = bench.breaker.evidence(bench.now)
    assert (seen.calls, seen.failure_ages, seen.success_age) == (0, (), 0.0)


def test_evidence_tells_of_failures_without_a_connection_while_they_matter() -> None:
    bench = Bench(replace(SETTINGS, failure_threshold=3, window_seconds=60.0))

    def fails(reached: bool) -> None:
        bench.permit().release(FAILURE, 0.1, bench.now, reached=reached)

    def age() -> float | None:
        return bench.breaker.evidence(bench.now).unreached_age

    fails(True)
    assert age() is None
    fails(False)
    bench.now += 10.0
    assert age() == 10.0
    bench.play("s")
    assert age() == 10.0
    bench.now += 50.0
    assert age() is None
    fails(False)
    bench.now += 70.0
    assert age() == 70.0
    fails(True)
    fails(True)
    assert (bench.state, age()) == (OPEN, 70.0)
    # Its own probes count like any other attempt.
    bench.now += 30.0
    fails(False)
    assert age() == 0.0
    bench.breaker.reset(bench.now)
    assert age() is None


def test_a_probe_without_an_answer_is_no_answer() -> None:
    bench = Bench(replace(SETTINGS, failure_threshold=2))
    for _ in range(2):
        bench.permit().release(FAILURE, 0.1, bench.now, answered=True)
    assert bench.breaker.evidence(bench.now).answered
    bench.now += 30.0
    bench.permit().release(FAILURE, 0.1, bench.now)
    assert not bench.breaker.evidence(bench.now).answered


def test_adopting_a_verdict_replaces_evidence_and_state() -> None:
    bench = Bench()
    permit = bench.permit()
    bench.play("ff")
    bench.breaker.adopt(OPEN, 12.0, "the fleet says so", bench.now)
    assert bench.refusal() == CircuitOpen(12.0, "the fleet says so")
    assert bench.breaker.evidence(bench.now).calls == 0
    permit.release(FAILURE, 0.1, bench.now)
    assert bench.breaker.evidence(bench.now).calls == 0
    bench.breaker.adopt(CLOSED, math.inf, "", bench.now)
    assert bench.permit() is not permit


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_counts_at_the_trip_are_shown_until_it_closes(elsewhere: bool) -> None:
    bench = Bench()
    bench.play("sffsff")
    assert bench.breaker.counts(bench.now) == (6, 4, 0)
    if elsewhere:
        bench.breaker.adopt(OPEN, 30.0, "the fleet says so", bench.now)
    else:
        bench.play("f")
        # What this replica found itself the fleet then confirms.
        bench.breaker.adopt(OPEN, 30.0, "the fleet says so", bench.now)
    shown = (6, 4, 0) if elsewhere else (7, 5, 0)
    bench.now += SETTINGS.window_seconds + 1.0
    assert bench.breaker.counts(bench.now) == shown
    bench.play("f")
    assert (bench.breaker.state, bench.breaker.counts(bench.now)) == (OPEN, shown)
    assert bench.breaker.evidence(bench.now).calls == 0
    bench.now += SETTINGS.reset_timeout
    bench.play("ss")
    assert (bench.breaker.state, bench.breaker.counts(bench.now)) == (CLOSED, (0, 0, 0))
    bench.play("s")
    assert bench.breaker.counts(bench.now) == (1, 0, 0)


def test_the_counts_at_a_force_are_shown_until_it_ends() -> None:
    bench = Bench()
    bench.play("sf")
    bench.breaker.force(FORCED_CLOSED, 1000.0, "maintenance", bench.now)
    bench.play("ff")
    assert bench.breaker.counts(bench.now + 500.0) == (2, 1, 0)
    bench.breaker.release_force(bench.now)
    assert bench.breaker.counts(bench.now) == (0, 0, 0)
