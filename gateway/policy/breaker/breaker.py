"""The circuit breaker of one upstream, as one replica sees it: the transitions between the states.

    closed ──trips──▶ open ──reset_timeout──▶ half_open ──successes──▶ closed
                        ▲                         │
                        └──────one failure────────┘

    forced_open, forced_closed: an operator's command, from any state; they end by themselves and lead to closed

The rules of each state are in its own file (`closed.py`, `open.py`, `half_open.py`, `forced.py`), and the rules that
trip a closed circuit are in `gateway/policy/verdict.py`.

No timer runs. A transition that is due because time has passed is made when somebody looks (`current_state(now)`, as in
gobreaker). Every transition begins a new generation. A permit belongs to the generation that gave it, and an outcome of
an earlier generation is ignored.

The evidence that tripped a circuit is kept until the circuit closes, because other replicas may still have to judge it.
This package knows nothing of replicas and stores. A breaker belongs to one event loop, and none of its methods awaits.
"""

import math
from collections.abc import Callable

from gateway.policy.breaker.closed import Closed
from gateway.policy.breaker.evidence import Counts, Evidence
from gateway.policy.breaker.forced import ForcedClosed, ForcedOpen
from gateway.policy.breaker.half_open import HalfOpen
from gateway.policy.breaker.open import Open
from gateway.policy.breaker.permit import CircuitOpen, Permit
from gateway.policy.breaker.settings import (
    CLOSED,
    FORCED_CLOSED,
    FORCED_OPEN,
    HALF_OPEN,
    OPEN,
    BreakerSettings,
    CircuitState,
)
from gateway.policy.breaker.state import Circuit
from gateway.policy.outcome import Outcome


def unnoticed(_old: CircuitState, _new: CircuitState, _cause: str) -> None:
    """The listener of a breaker whose transitions nobody wants to hear of."""


class CircuitBreaker(Circuit):
    """Decides for each attempt whether it may be made.

    Every `now` is an instant of `clock`, in seconds. `on_transition(old, new, cause)` is called after each change of
    state; the breaker is already in the new one then. A probe that is not released within `probe_time` seconds is given
    up.

    Attributes to read: `state` is the state as of the last look, and `current_state` looks. `permit` is the shared
    permit while the circuit is closed and None otherwise, so that the hot path reads one attribute. `until` is the
    instant at which an open or forced state ends, `opened_at` the instant at which the circuit opened (None unless it
    is open or half-open), `cause` says why the circuit is in its state, and `generation` counts the transitions.
    `history` is what was seen of the upstream.
    """

    __slots__ = ("_clock", "_counts", "_on_transition")

    def __init__(
        self,
        settings: BreakerSettings,
        clock: Callable[[], float],
        on_transition: Callable[[CircuitState, CircuitState, str], None] = unnoticed,
        probe_time: float = 60.0,
    ) -> None:
        super().__init__(settings, probe_time)
        self._clock = clock
        self._on_transition = on_transition
        self._counts: Counts | None = None  # of the window when the circuit was last closed; None while it is closed
        self._become(CLOSED)

    def __repr__(self) -> str:
        return f"CircuitBreaker({self.state.value}, generation={self.generation}, failures={self.failures})"

    @property
    def failures(self) -> int:
        """The number of consecutive failures. It is not counted beyond `failure_threshold`."""
        return len(self.history.failure_times)

    def current_state(self, now: float | None = None) -> CircuitState:
        """The state at `now` (default: the clock's now), after the transitions that are due by then."""
        if self.permit is None:
            if now is None:
                now = self._clock()
            if now >= self.until:
                self.current.resolve(now)
        return self.state

    def try_acquire(self, now: float) -> Permit | CircuitOpen:  # HOT
        """A permit for one attempt, or a refusal."""
        permit = self.permit
        if permit is not None:
            return permit
        if now >= self.until:
            self.current.resolve(now)
        return self.current.acquire(now)

    def retry_after(self, now: float) -> float:
        """The seconds until an attempt may be let through; 0 when one may be let through at once.

        Transitions that are due are not made; call `current_state(now)` before.
        """
        return self.current.retry_after(now)

    def record_probe(
        self, outcome: Outcome, elapsed: float, now: float, answered: bool = False, reached: bool = True
    ) -> None:
        """Count the outcome of a probe for which this breaker gave no permit. Ignored unless it is half-open."""
        self.current.record(outcome, elapsed, now, answered, reached)

    def force(self, state: CircuitState, duration: float, cause: str, now: float) -> None:
        """Hold the circuit FORCED_OPEN or FORCED_CLOSED for `duration` seconds. ValueError for any other state."""
        if state is not FORCED_OPEN and state is not FORCED_CLOSED:
            raise ValueError(f"a circuit can be forced open or closed, not {state.value}")
        self._enter(state, now + duration, cause, now)

    def release_force(self, now: float, cause: str = "force released") -> None:
        """End a forced state, if there is one."""
        if self.state is FORCED_OPEN or self.state is FORCED_CLOSED:
            self.reset(now, cause)

    def reset(self, now: float, cause: str = "reset") -> None:
        """Close the circuit and forget everything."""
        self.history.forget()
        self._enter(CLOSED, math.inf, cause, now)

    def adopt(self, state: CircuitState, remaining: float, cause: str, now: float) -> None:
        """Take over a verdict that was reached elsewhere, and forget what this breaker has seen itself.

        The state lasts for another `remaining` seconds.
        """
        if state is not CLOSED:
            self._counts = self.counts(now)
        self.history.forget()
        self._enter(state, now + remaining, cause, now)

    def counts(self, now: float) -> Counts:
        """The window for observers: while the circuit is closed as it is, otherwise as it was at the last transition
        out of closed."""
        if self._counts is not None:
            return self._counts
        return self.history.counts(now)

    def evidence(self, now: float) -> Evidence:
        """What this replica has seen, for the other replicas to judge."""
        return self.history.evidence(now)

    def open(self, cause: str, now: float) -> None:
        """For states: open for `reset_timeout` seconds."""
        self._enter(OPEN, now + self.settings.reset_timeout, cause, now)

    def probe(self, now: float) -> None:
        """For states: become half-open."""
        self._enter(HALF_OPEN, math.inf, "probing", now)

    def close(self, cause: str, now: float) -> None:
        """For states: become closed."""
        self._enter(CLOSED, math.inf, cause, now)

    def _enter(self, state: CircuitState, until: float, cause: str, now: float) -> None:
        old = self.state
        self._counts = None if state is CLOSED else self.counts(now)
        self.generation += 1
        self.until = until
        self.cause = cause
        self._become(state)
        if state is OPEN or state is FORCED_OPEN:
            self.opened_at = now
        elif state is not HALF_OPEN:
            self.opened_at = None
            self.history.failure_times.clear()
        if old is not state:
            self._on_transition(old, state, cause)

    def _become(self, state: CircuitState) -> None:
        """Make the object of the new state. From here on, permits of the one before are of an earlier generation."""
        self.state = state
        self.permit = None
        if state is CLOSED:
            closed = Closed(self)
            self.current = closed
            self.permit = closed.permit
        elif state is OPEN:
            self.current = Open(self)
        elif state is HALF_OPEN:
            self.current = HalfOpen(self)
        elif state is FORCED_OPEN:
            self.current = ForcedOpen(self)
        else:
            self.current = ForcedClosed(self)
