"""Open: every attempt is refused until `circuit.until`; then the circuit becomes half-open."""

from gateway.policy.breaker.permit import CircuitOpen
from gateway.policy.breaker.state import State


class Open(State):
    """The state after a trip."""

    __slots__ = ()

    def resolve(self, now: float) -> None:
        """Become half-open."""
        self._circuit.probe(now)

    def acquire(self, now: float) -> CircuitOpen:
        """Always a refusal."""
        circuit = self._circuit
        return CircuitOpen(circuit.until - now, circuit.cause)

    def retry_after(self, now: float) -> float:
        """The seconds until the circuit becomes half-open."""
        return max(0.0, self._circuit.until - now)
