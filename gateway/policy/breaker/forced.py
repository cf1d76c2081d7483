"""Forced open and forced closed: an operator holds the circuit until `circuit.until`; then it closes with no memory."""

from gateway.policy.breaker.permit import UNCOUNTED, CircuitOpen, Permit
from gateway.policy.breaker.state import State


class Forced(State):
    """What both have in common."""

    __slots__ = ()

    def resolve(self, now: float) -> None:
        """Become closed."""
        circuit = self._circuit
        circuit.history.forget()
        circuit.close("force expired", now)


class ForcedOpen(Forced):
    """Every attempt is refused."""

    __slots__ = ()

    def acquire(self, now: float) -> CircuitOpen:
        """Always a refusal."""
        circuit = self._circuit
        return CircuitOpen(circuit.until - now, circuit.cause)

    def retry_after(self, now: float) -> float:
        """The seconds until the force ends."""
        return max(0.0, self._circuit.until - now)


class ForcedClosed(Forced):
    """Every attempt is let through and none is counted."""

    __slots__ = ()

    def acquire(self, now: float) -> Permit:
        """Always a permit."""
        return UNCOUNTED
