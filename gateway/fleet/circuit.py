"""What stands before every attempt at an upstream, and the kind of it that belongs to this process alone."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from gateway.policy.breaker import (
    FORCED_CLOSED,
    FORCED_OPEN,
    HALF_OPEN,
    OPEN,
    BreakerSettings,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    Counts,
    Permit,
)

logger = logging.getLogger("gateway.circuit")

Clock = Callable[[], float]
TransitionHook = Callable[[str, CircuitState, CircuitState, str], None]
"""Called with `(upstream, from_state, to_state, cause)` once for each transition in this replica."""

FORCED: Final = frozenset({FORCED_OPEN, FORCED_CLOSED})


class Circuit:
    """What stands before every attempt at an upstream.

    The properties are for observers. `opened_at` is an instant of the clock, None unless the circuit is open or
    half-open. `failures` counts consecutive failures, those of the fleet where the fleet decides. `cause` says why the
    circuit is in its state, and `generation` counts the transitions. A class and no protocol, as
    `gateway.fleet.limiter.Limiter` is.
    """

    __slots__ = ("breaker", "upstream")

    upstream: str
    breaker: CircuitBreaker
    """Its `permit` is there while the circuit is closed, and is what every attempt shares then. HOT."""

    def try_acquire(self, now: float) -> Permit | CircuitOpen | None:
        """A permit or a refusal; None when that cannot be decided here, but `acquire` can find it out."""
        raise NotImplementedError

    def acquire(self, resume: Callable[[Permit | CircuitOpen], None]) -> None:
        """Decide, and ask the store if need be.

        Calls `resume` exactly once, later and never from within this call. Raises nothing. A caller that no longer
        wants the permit by then releases it as ignored.
        """
        raise NotImplementedError

    def retry_after(self, now: float) -> float:
        """The seconds until an attempt may be let through; 0 when one may be let through at once."""
        raise NotImplementedError

    def forced_for(self, now: float) -> float:
        """The seconds until a forced state ends; 0 when the circuit is not forced."""
        raise NotImplementedError

    def counts(self, now: float) -> Counts:
        """What this process has seen within the breaker's window; while it is not closed, as of when it last was."""
        raise NotImplementedError

    @property
    def state(self) -> CircuitState:
        raise NotImplementedError

    @property
    def generation(self) -> int:
        raise NotImplementedError

    @property
    def failures(self) -> int:
        raise NotImplementedError

    @property
    def cause(self) -> str:
        raise NotImplementedError

    @property
    def opened_at(self) -> float | None:
        raise NotImplementedError


def _announce(upstream: str, old: CircuitState, new: CircuitState, cause: str) -> None:
    forced = new is FORCED_OPEN or new is FORCED_CLOSED
    opened = new is OPEN or new is FORCED_OPEN
    logger.log(
        logging.WARNING if opened else logging.INFO,
        "Circuit breaker %s for upstream %s: %s%s",
        "OPENED" if opened else "HALF_OPEN" if new is HALF_OPEN else "CLOSED",
        upstream,
        "forced, " if forced else "",
        cause,
        extra={
            "event": "circuit_transition",
            "upstream": upstream,
            "from_state": old.value,
            "to_state": new.value,
            "cause": cause,
        },
    )


def unnoticed(_upstream: str, _old: CircuitState, _new: CircuitState, _cause: str) -> None:
    """The listener of a circuit whose transitions nobody wants to hear of."""


class LocalCircuit(Circuit):
    """A circuit of this process alone. `Circuit` says what the methods and properties mean."""

    __slots__ = ("_clock", "_on_transition")

    def __init__(
        self,
        upstream: str,
        settings: BreakerSettings,
        *,
        clock: Clock = time.monotonic,
        probe_time: float = 60.0,
        on_transition: TransitionHook = unnoticed,
    ) -> None:
        self.upstream = upstream
        self._clock = clock
        self._on_transition = on_transition
        self.breaker = CircuitBreaker(settings, clock, self._transitioned, probe_time)

    def __repr__(self) -> str:
        return f"LocalCircuit({self.upstream!r}, {self.breaker!r})"

    def try_acquire(self, now: float) -> Permit | CircuitOpen | None:  # HOT
        permit = self.breaker.permit
        return permit if permit is not None else self.breaker.try_acquire(now)

    def acquire(self, resume: Callable[[Permit | CircuitOpen], None]) -> None:
        asyncio.get_running_loop().call_soon(resume, self.breaker.try_acquire(self._clock()))

    @property
    def state(self) -> CircuitState:
        return self.breaker.current_state()

    @property
    def generation(self) -> int:
        return self.breaker.generation

    @property
    def failures(self) -> int:
        return self.breaker.failures

    @property
    def cause(self) -> str:
        return self.breaker.cause

    @property
    def opened_at(self) -> float | None:
        return self.breaker.opened_at

    def retry_after(self, now: float) -> float:
        self.breaker.current_state(now)
        return self.breaker.retry_after(now)

    def forced_for(self, now: float) -> float:
        forced = self.breaker.current_state(now) in FORCED
        return self.breaker.until - now if forced else 0.0

    def counts(self, now: float) -> Counts:
        return self.breaker.counts(now)

    def force_here(self, state: CircuitState | None, duration: float, cause: str) -> None:
        """Force the circuit of this process for `duration` seconds; with None, end a forced state."""
        if state is None:
            self.breaker.release_force(self._clock())
        else:
            self.breaker.force(state, duration, cause, self._clock())

    def reset_here(self) -> None:
        """Close the circuit of this process, and forget what it has seen."""
        self.breaker.reset(self._clock())

    def _transitioned(self, old: CircuitState, new: CircuitState, cause: str) -> None:
        _announce(self.upstream, old, new, cause)
        self._on_transition(self.upstream, old, new, cause)
