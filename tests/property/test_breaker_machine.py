"""The breaker against a model that keeps every call in a list and thinks about nothing but the rules."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from gateway.policy.breaker import BreakerSettings, CircuitBreaker, CircuitOpen, CircuitState, Permit
from gateway.policy.outcome import Outcome

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED = (CircuitState.FORCED_OPEN, CircuitState.FORCED_CLOSED)
PROBE_TIME = 7.0


@dataclass
class Model:
    rules: BreakerSettings
    state: CircuitState = CLOSED
    until: float = 0.0
    generation: int = 0
    consecutive: int = 0
    calls: list[tuple[float, bool, bool]] = field(default_factory=list)
    probes: dict[Permit, float] = field(default_factory=dict)
    successes: int = 0

    def enter(self, state: CircuitState, until: float = 0.0) -> None:
        self.state, self.until = state, until
        self.generation += 1
        self.consecutive = self.successes = 0
        self.calls, self.probes = [], {}

    def look(self, now: float) -> None:
        if self.state is OPEN and now >= self.until:
            self.enter(HALF_OPEN)
        elif self.state in FORCED and now >= self.until:
            self.enter(CLOSED)
        self.probes = {probe: lapses for probe, lapses in self.probes.items() if now < lapses}

    def end(self, permit: Permit, generation: int, outcome: Outcome, elapsed: float, now: float) -> None:
        if generation != self.generation or outcome is Outcome.IGNORED:
            self.probes.pop(permit, None)
            return
        failed = outcome is Outcome.FAILURE
        slow = self.rules.slow_call_threshold is not None and elapsed >= self.rules.slow_call_threshold
        if self.state is CLOSED:
            self.consecutive = self.consecutive + 1 if failed else 0
            self.calls.append((now, failed, slow))
            self.calls = [
                call for call in self.calls[-self.rules.window_size :] if call[0] > now - self.rules.window_seconds
            ]
            many = len(self.calls)
            if self.consecutive >= self.rules.failure_threshold or (
                many >= self.rules.minimum_calls
                and (
                    sum(f for _, f, _ in self.calls) / many >= self.rules.failure_rate_threshold
                    or sum(s for _, _, s in self.calls) / many >= self.rules.slow_call_rate_threshold
                )
            ):
                self.enter(OPEN, now + self.rules.reset_timeout)
        elif self.state is HALF_OPEN and self.probes.pop(permit, None) is not None:
            if failed or slow:
                self.enter(OPEN, now + self.rules.reset_timeout)
            else:
                self.successes += 1
                if self.successes >= self.rules.half_open_success_threshold:
                    self.enter(CLOSED)


class BreakerMachine(RuleBasedStateMachine):
    permits: Bundle[tuple[Permit, int, bool]] = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.told: list[tuple[CircuitState, CircuitState]] = []

    @initialize(
        failure_threshold=st.integers(1, 5),
        rate=st.sampled_from([0.1, 0.5, 1.0]),
        slow_threshold=st.sampled_from([None, 1.0]),
        window_size=st.integers(3, 12),
        minimum_calls=st.integers(1, 8),
        max_probes=st.integers(1, 3),
        successes=st.integers(1, 3),
    )
    def begin(
        self,
        failure_threshold: int,
        rate: float,
        slow_threshold: float | None,
        window_size: int,
        minimum_calls: int,
        max_probes: int,
        successes: int,
    ) -> None:
        rules = BreakerSettings(
            failure_threshold, rate, slow_threshold, 0.5, window_size, 20.0, minimum_calls, 5.0, max_probes, successes
        )
        self.model = Model(rules)
        self.breaker = CircuitBreaker(
            rules, lambda: self.now, lambda old, new, _: self.told.append((old, new)), PROBE_TIME
        )

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 4.9, 5.0, 7.0, 21.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=permits)
    def acquire(self) -> tuple[Permit, int, bool]:
        answer = self.breaker.try_acquire(self.now)
        self.model.look(self.now)
        state = self.model.state
        if isinstance(answer, CircuitOpen):
            assert answer.retry_after > 0.0
            full = state is HALF_OPEN and len(self.model.probes) >= self.model.rules.half_open_max_probes
            assert state in {OPEN, CircuitState.FORCED_OPEN} or full
            return Permit(), -1, True
        assert answer.probe == (state is HALF_OPEN)
        if answer.probe:
            assert len(self.model.probes) < self.model.rules.half_open_max_probes
            self.model.probes[answer] = self.now + PROBE_TIME
        else:
            assert state in {CLOSED, CircuitState.FORCED_CLOSED}
        return answer, self.model.generation, answer.probe

    @rule(held=consumes(permits), outcome=st.sampled_from(Outcome), elapsed=st.sampled_from([0.0, 0.9, 1.0, 5.0]))
    def release(self, held: tuple[Permit, int, bool], outcome: Outcome, elapsed: float) -> None:
        permit, generation, _probe = held
        if generation < 0:
            return
        self.breaker.current_state(self.now)
        self.model.look(self.now)
        permit.release(outcome, elapsed, self.now)
        self.model.end(permit, generation, outcome, elapsed, self.now)

    @rule(state=st.sampled_from(FORCED), duration=st.sampled_from([1.0, 10.0]))
    def force(self, state: CircuitState, duration: float) -> None:
        self.breaker.force(state, duration, "drill", self.now)
        self.model.enter(state, self.now + duration)

    @rule()
    def release_force(self) -> None:
        self.breaker.current_state(self.now)
        self.model.look(self.now)
        self.breaker.release_force(self.now)
        if self.model.state in FORCED:
            self.model.enter(CLOSED)

    @rule()
    def reset(self) -> None:
        self.breaker.reset(self.now)
        self.model.enter(CLOSED)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "model"):
            return
        self.model.look(self.now)
        assert self.breaker.current_state(self.now) is self.model.state
        if self.model.state is CLOSED:
            assert self.breaker.failures == self.model.consecutive
        assert (self.breaker.permit is not None) == (self.model.state is CLOSED)

    @invariant()
    def transitions_are_a_chain(self) -> None:
        states = [CLOSED, *(new for _, new in self.told)]
        assert [old for old, _ in self.told] == states[:-1]
        assert all(old is not new for old, new in self.told)


BreakerMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
TestBreakerMachine = BreakerMachine.TestCase
