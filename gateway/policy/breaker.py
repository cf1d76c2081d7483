"""The circuit breaker of one upstream, as one replica sees it.

    closed ──trips──▶ open ──reset_timeout──▶ half_open ──successes──▶ closed
                        ▲                         │
                        └──────one failure────────┘         forced_open, forced_closed: by an operator, till they expire

A closed circuit trips when any of these holds after a call:

    consecutive failures ≥ failure_threshold
    failures / calls     ≥ failure_rate_threshold      over the window, once it holds minimum_calls
    slow calls / calls   ≥ slow_call_rate_threshold    likewise, when slow_call_threshold is set

Transitions that time brings about are resolved when somebody looks (`current_state(now)`, after gobreaker). Every
transition begins a new generation, and a permit belongs to the generation that gave it: what an attempt of an earlier
one reports is ignored. A closed circuit hands out one shared permit, so an attempt allocates nothing.

A slow probe counts as a failed one: a circuit that tripped on slowness must not close on it. The evidence that tripped
a circuit is kept until it closes, because others may need to judge it (`evidence`, `adopt`: see gateway/fleet).
This module knows nothing of replicas or stores; the state belongs to one event loop and no method awaits.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from gateway.policy.outcome import FAILURE, IGNORED, SUCCESS, Outcome
from gateway.policy.window import OutcomeWindow

PROBE_PATIENCE = 1.0
"""While all probes are out, a refused client is told to come back in at most this many seconds: the outcome that
decides is due long before the probe's own time limit, which is the only firm bound. Told of a probe that is older than
that, which has shown that it may take its time, it gets the firm bound."""


def probe_wait(lapses_in: float, probe_time: float) -> float:
    """What to tell a client while the probe that is out, given `probe_time` seconds, has `lapses_in` left of them."""
    return lapses_in if probe_time - lapses_in > PROBE_PATIENCE else min(PROBE_PATIENCE, lapses_in)


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a circuit trips and how it recovers (see docs/behaviour.md).

    `slow_call_threshold` seconds make a call slow, None turns the slow-call rule off. Rates are fractions in (0, 1].
    """

    failure_threshold: int = 5
    failure_rate_threshold: float = 0.5
    slow_call_threshold: float | None = None
    slow_call_rate_threshold: float = 0.5
    window_size: int = 100
    window_seconds: float = 60.0
    minimum_calls: int = 20
    reset_timeout: float = 30.0
    half_open_max_probes: int = 1
    half_open_success_threshold: int = 2


class CircuitState(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"


CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, FORCED_CLOSED = CircuitState.FORCED_OPEN, CircuitState.FORCED_CLOSED


class CircuitOpen(NamedTuple):
    """A refusal. `retry_after` seconds (> 0) until it is worth trying again; `cause` says why the circuit is open."""

    retry_after: float
    cause: str


class Permit:
    """The right to make one attempt, to be released once with how it ended and how long it took, in seconds.

    The permit of a closed circuit is shared by all its attempts, so it is released once for each of them. `probe` says
    that the attempt decides about the circuit: it must not be retried. A failure is `answered` when the upstream itself
    said so, and not when nothing was heard of it. Without a connection the upstream was not even `reached`: that may be
    the fault of this replica's own network.
    """

    __slots__ = ()
    probe = False

    def release(
        self, outcome: Outcome, elapsed: float, now: float, answered: bool = False, reached: bool = True
    ) -> None:
        raise NotImplementedError

    def left(self, elapsed: float, now: float) -> None:
        """Release it because the client has gone. That says nothing about the upstream, but the time does: what has
        been waited for longer than `slow_call_threshold` is a slow call, whoever has stopped waiting."""
        self.release(IGNORED, elapsed, now)


class _UncountedPermit(Permit):
    """For a circuit forced closed: whatever happens proves nothing."""

    __slots__ = ()

    def release(
        self, outcome: Outcome, elapsed: float, now: float, answered: bool = False, reached: bool = True
    ) -> None:
        pass


UNCOUNTED: Permit = _UncountedPermit()


class _ClosedPermit(Permit):
    """What all attempts of one closed generation share."""

    __slots__ = ("_breaker",)

    def __init__(self, breaker: "CircuitBreaker") -> None:
        self._breaker = breaker

    def release(  # HOT
        self, outcome: Outcome, elapsed: float, now: float, answered: bool = False, reached: bool = True
    ) -> None:
        breaker = self._breaker
        if breaker.permit is not self:
            return
        if outcome is SUCCESS:
            breaker.last_success = now
            if breaker.failure_times:
                breaker.failure_times.clear()
            window = breaker.window
            window.record(now, False, elapsed >= breaker.slow_after)
            # A success can raise a rate all the same: it may complete minimum_calls, or push older successes out.
            if window.failures or window.slow_calls:
                breaker.judge(now)
        elif outcome is FAILURE:
            breaker.note_failure(now, answered, reached)
            # Of what never got there nothing is known but that.
            breaker.window.record(now, True, reached and elapsed >= breaker.slow_after, not reached)
            breaker.judge(now)

    def left(self, elapsed: float, now: float) -> None:
        breaker = self._breaker
        if breaker.permit is self and elapsed >= breaker.slow_after:
            breaker.window.record(now, False, True)
            breaker.judge(now)


class _Probe(Permit):
    """One probe of a half-open circuit."""

    __slots__ = ("_breaker",)
    probe = True

    def __init__(self, breaker: "CircuitBreaker") -> None:
        self._breaker = breaker

    def release(
        self, outcome: Outcome, elapsed: float, now: float, answered: bool = False, reached: bool = True
    ) -> None:
        self._breaker.settle(self, outcome, elapsed, now, answered, reached)

    def left(self, elapsed: float, now: float) -> None:
        slow = elapsed >= self._breaker.slow_after
        self._breaker.settle(self, FAILURE if slow else IGNORED, elapsed, now, False, True)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What this breaker has seen itself, as ages in seconds: `failure_ages` of the failures since its last success,
    newest first and at most `failure_threshold` of them; `success_age` of that success, None when there was none;
    `answered` when each of those failures was an answer of the upstream itself; `unreached_age` of the last failure
    without a connection, None when neither they nor the window can hold one; `unreached` of the window's `failures` had
    none."""

    calls: int
    failures: int
    slow_calls: int
    failure_ages: tuple[float, ...]
    success_age: float | None
    answered: bool
    unreached_age: float | None
    unreached: int


class Counts(NamedTuple):
    """What a breaker shows of its window."""

    calls: int
    failures: int
    slow_calls: int


def _unnoticed(_old: CircuitState, _new: CircuitState, _cause: str) -> None:
    """Nobody listens."""


class CircuitBreaker:
    """`on_transition(old, new, cause)` is called after each change of state, with the breaker already in the new one.

    Every `now` is an instant of `clock`. A probe that is not released within `probe_time` seconds is given up: its
    place is free again and its late result ignored. `state` is as of the last look; `current_state` looks. `permit` is
    the shared permit while the circuit is closed, None otherwise: callers on the hot path may read it instead of
    calling `try_acquire`.
    """

    __slots__ = (
        "_clock", "_counts", "_on_transition", "_probe_time", "_probes", "_successes", "cause", "failure_times",
        "generation", "last_failure", "last_silence", "last_success", "last_unreached", "opened_at", "permit",
        "settings", "slow_after", "state", "until", "window",
    )  # fmt: skip

    def __init__(
        self,
        settings: BreakerSettings,
        clock: Callable[[], float],
        on_transition: Callable[[CircuitState, CircuitState, str], None] = _unnoticed,
        probe_time: float = 60.0,
    ) -> None:
        self.settings = settings
        self.state = CLOSED
        self.generation = 1
        self.cause = ""
        self.opened_at: float | None = None
        self.until = math.inf
        self.permit: Permit | None = _ClosedPermit(self)
        self.window = OutcomeWindow(settings.window_size, settings.window_seconds)
        self.failure_times: deque[float] = deque(maxlen=settings.failure_threshold)
        self.last_success: float | None = None
        self.last_failure: float | None = None
        self.last_silence = -math.inf  # the last failure that was not an answer of the upstream
        self.last_unreached = -math.inf  # the last one without a connection
        self.slow_after = math.inf if settings.slow_call_threshold is None else settings.slow_call_threshold
        self._clock = clock
        self._on_transition = on_transition
        self._probe_time = probe_time
        self._probes: dict[Permit, float] = {}
        self._successes = 0
        self._counts: Counts | None = None  # when the circuit was last closed; None while it is

    def __repr__(self) -> str:
        return f"CircuitBreaker({self.state.value}, generation={self.generation}, failures={self.failures})"

    @property
    def failures(self) -> int:
        """Consecutive failures, counted up to the threshold."""
        return len(self.failure_times)

    def current_state(self, now: float | None = None) -> CircuitState:
        """The state at `now` (default: the clock's), after the transitions that time has brought about."""
        if self.permit is None:
            if now is None:
                now = self._clock()
            if now >= self.until:
                if self.state is OPEN:
                    self._enter(HALF_OPEN, math.inf, "probing", now)
                elif self.state is FORCED_OPEN or self.state is FORCED_CLOSED:
                    self._forget()
                    self._enter(CLOSED, math.inf, "force expired", now)
        return self.state

    def try_acquire(self, now: float) -> Permit | CircuitOpen:  # HOT
        permit = self.permit
        if permit is not None:
            return permit
        state = self.current_state(now)
        if state is HALF_OPEN:
            retry_after = self.retry_after(now)
            if retry_after:
                return CircuitOpen(retry_after, self.cause)
            probe = _Probe(self)
            self._probes[probe] = now + self._probe_time
            return probe
        if state is FORCED_CLOSED:
            return UNCOUNTED
        if state is CLOSED:
            return self.permit or UNCOUNTED
        return CircuitOpen(self.until - now, self.cause)

    def retry_after(self, now: float) -> float:
        """Seconds until an attempt may be let through; 0 when one would be now. Does not look for time transitions."""
        if self.state is OPEN or self.state is FORCED_OPEN:
            return max(0.0, self.until - now)
        if self.state is HALF_OPEN:
            for probe in [probe for probe, lapses in self._probes.items() if lapses <= now]:
                del self._probes[probe]
            if len(self._probes) >= self.settings.half_open_max_probes:
                return probe_wait(min(self._probes.values()) - now, self._probe_time)
        return 0.0

    def note_failure(self, now: float, answered: bool, reached: bool) -> None:
        self.last_failure = now
        self.failure_times.append(now)
        if not answered:
            self.last_silence = now
        if not reached:
            self.last_unreached = now

    def judge(self, now: float) -> None:
        """Trip a closed circuit if a rule says so."""
        settings, window = self.settings, self.window
        cause = None
        if len(self.failure_times) >= settings.failure_threshold:
            cause = f"{settings.failure_threshold} consecutive failures"
        elif window.calls >= settings.minimum_calls:
            calls = window.calls
            if window.failures / calls >= settings.failure_rate_threshold:
                cause = f"{window.failures} of the last {calls} calls failed"
            elif (
                settings.slow_call_threshold is not None
                and window.slow_calls / calls >= settings.slow_call_rate_threshold
            ):
                cause = f"{window.slow_calls} of the last {calls} calls were slow"
        if cause is not None:
            self._enter(OPEN, now + settings.reset_timeout, cause, now)

    def settle(
        self, probe: Permit, outcome: Outcome, elapsed: float, now: float, answered: bool, reached: bool
    ) -> None:
        """How a probe of this breaker ended. One that was given up or is of an earlier generation changes nothing."""
        lapses = self._probes.pop(probe, None)
        if lapses is not None and now < lapses:
            self.record_probe(outcome, elapsed, now, answered, reached)

    def record_probe(
        self, outcome: Outcome, elapsed: float, now: float, answered: bool = False, reached: bool = True
    ) -> None:
        """Count a probe's outcome; only a half-open circuit takes notice."""
        if self.state is not HALF_OPEN or outcome is IGNORED:
            return
        if outcome is SUCCESS and elapsed < self.slow_after:
            self.last_success = now
            self.failure_times.clear()
            self._successes += 1
            if self._successes >= self.settings.half_open_success_threshold:
                self.window.clear()
                self._enter(CLOSED, math.inf, f"{self._successes} probes succeeded", now)
        else:
            if outcome is FAILURE:
                self.note_failure(now, answered, reached)
            cause = "a probe failed" if outcome is FAILURE else "a probe was slow"
            self._enter(OPEN, now + self.settings.reset_timeout, cause, now)

    def force(self, state: CircuitState, duration: float, cause: str, now: float) -> None:
        """Hold the circuit FORCED_OPEN or FORCED_CLOSED for `duration` seconds; afterwards it is closed."""
        if state is not FORCED_OPEN and state is not FORCED_CLOSED:
            raise ValueError(f"a circuit can be forced open or closed, not {state.value}")
        self._enter(state, now + duration, cause, now)

    def release_force(self, now: float, cause: str = "force released") -> None:
        """End a forced state, if there is one."""
        if self.state is FORCED_OPEN or self.state is FORCED_CLOSED:
            self.reset(now, cause)

    def reset(self, now: float, cause: str = "reset") -> None:
        """Closed, with no memory."""
        self._forget()
        self._enter(CLOSED, math.inf, cause, now)

    def adopt(self, state: CircuitState, remaining: float, cause: str, now: float) -> None:
        """Take over a verdict reached elsewhere, in place of this breaker's own evidence. `remaining` seconds of it."""
        if state is not CLOSED:
            self._counts = self.counts(now)
        self._forget()
        self._enter(state, now + remaining, cause, now)

    def counts(self, now: float) -> Counts:
        """For observers: the window while the circuit is closed, otherwise as it was when the circuit last was."""
        if self._counts is not None:
            return self._counts
        self.window.expire(now)
        return Counts(self.window.calls, self.window.failures, self.window.slow_calls)

    def evidence(self, now: float) -> Evidence:
        self.window.expire(now)
        return Evidence(
            self.window.calls,
            self.window.failures,
            self.window.slow_calls,
            tuple(max(0.0, now - at) for at in reversed(self.failure_times)),
            None if self.last_success is None else max(0.0, now - self.last_success),
            bool(self.failure_times) and self.last_silence < self.failure_times[0],
            max(0.0, now - self.last_unreached) if self._may_matter(self.last_unreached, now) else None,
            self.window.unreached,
        )

    def _may_matter(self, failed_at: float, now: float) -> bool:
        in_a_row = bool(self.failure_times) and failed_at >= self.failure_times[0]
        return in_a_row or failed_at > now - self.settings.window_seconds

    def _forget(self) -> None:
        self.window.clear()
        self.failure_times.clear()
        self.last_success = self.last_failure = None
        self.last_silence = self.last_unreached = -math.inf

    def _enter(self, state: CircuitState, until: float, cause: str, now: float) -> None:
        old = self.state
        self._counts = None if state is CLOSED else self.counts(now)
        self.state = state
        self.generation += 1
        self.until = until
        self.cause = cause
        self._successes = 0
        self._probes.clear()
        self.permit = _ClosedPermit(self) if state is CLOSED else None
        if state is OPEN or state is FORCED_OPEN:
            self.opened_at = now
        elif state is not HALF_OPEN:
            self.opened_at = None
            self.failure_times.clear()
        if old is not state:
            self._on_transition(old, state, cause)
