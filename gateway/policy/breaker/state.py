"""What a state and its circuit know of each other.

The circuit has one `State` object at a time and asks it what to do. The state does not replace itself: it asks the
circuit for a transition, and the circuit makes the next state's object. So what happens at each transition is written
in one place (`CircuitBreaker`), and each state has a file that says all of its rules.
"""

import math

from gateway.policy.breaker.evidence import History
from gateway.policy.breaker.permit import CircuitOpen, Permit
from gateway.policy.breaker.settings import CLOSED, BreakerSettings
from gateway.policy.outcome import Outcome


class Circuit:
    """A circuit as its states see it. `CircuitBreaker` is the only implementation and says what the attributes mean."""

    __slots__ = (
        "cause", "current", "generation", "history", "opened_at", "permit", "probe_time", "settings", "state", "until",
    )  # fmt: skip
    current: "State"

    def __init__(self, settings: BreakerSettings, probe_time: float) -> None:
        self.settings = settings
        self.probe_time = probe_time
        self.history = History(settings)
        self.permit: Permit | None = None
        self.state = CLOSED
        self.generation = 1
        self.until = math.inf
        self.cause = ""
        self.opened_at: float | None = None

    def open(self, cause: str, now: float) -> None:
        """Become open for `reset_timeout` seconds."""
        raise NotImplementedError

    def probe(self, now: float) -> None:
        """Become half-open."""
        raise NotImplementedError

    def close(self, cause: str, now: float) -> None:
        """Become closed."""
        raise NotImplementedError


class State:
    """The rules of one state. An object belongs to one circuit and lasts until the next transition."""

    __slots__ = ("_circuit",)

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit

    def resolve(self, now: float) -> None:
        """Make the transition that is due because `circuit.until` has passed. Most states have none."""

    def acquire(self, now: float) -> Permit | CircuitOpen:
        """A permit for one attempt, or a refusal. Transitions that are due at `now` have been made."""
        raise NotImplementedError

    def retry_after(self, now: float) -> float:
        """The seconds until an attempt may be let through; 0 when one may be let through at once."""
        return 0.0

    def record(self, outcome: Outcome, elapsed: float, now: float, answered: bool, reached: bool) -> None:
        """Count the outcome of a probe. Only a half-open circuit has probes, so all other states ignore it."""
