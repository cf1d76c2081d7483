"""Closed: every attempt is let through and counted, and the trip rules are applied after each one."""

from gateway.policy.breaker.permit import Permit
from gateway.policy.breaker.state import Circuit, State
from gateway.policy.outcome import FAILURE, SUCCESS, Outcome
from gateway.policy.verdict import cause, judge


class ClosedPermit(Permit):
    """The permit that all attempts of one closed generation share, so that an attempt allocates nothing.

    When the circuit has left that generation, the outcomes of attempts that are still under way are ignored.
    """

    __slots__ = ("_circuit", "_history")

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._history = circuit.history

    def release(  # HOT
        self, outcome: Outcome, elapsed: float, now: float, answered: bool = False, reached: bool = True
    ) -> None:
        """See `Permit.release`."""
        if self._circuit.permit is not self:
            return
        history = self._history
        window = history.window
        if outcome is SUCCESS:
            history.last_success = now
            if history.failure_times:
                history.failure_times.clear()
            window.record(now, False, elapsed >= history.slow_after)
            # Even a success can make a rate reach its limit: it may be the call that completes minimum_calls, or it
            # may take the place of an older success in the window.
            if window.failures or window.slow_calls:
                self._judge(now)
        elif outcome is FAILURE:
            history.failed(now, answered, reached)
            # A call that had no connection is not counted as slow: nothing is known about the upstream's speed.
            window.record(now, True, reached and elapsed >= history.slow_after, not reached)
            self._judge(now)

    def left(self, elapsed: float, now: float) -> None:
        """See `Permit.left`."""
        history = self._history
        if self._circuit.permit is self and elapsed >= history.slow_after:
            history.window.record(now, False, True)
            self._judge(now)

    def _judge(self, now: float) -> None:
        circuit, history = self._circuit, self._history
        rule = judge(circuit.settings, len(history.failure_times), history.window)
        if rule is not None:
            circuit.open(cause(rule, circuit.settings, history.window), now)


class Closed(State):
    """`permit` is what `acquire` gives to everybody."""

    __slots__ = ("permit",)

    def __init__(self, circuit: Circuit) -> None:
        super().__init__(circuit)
        self.permit = ClosedPermit(circuit)

    def acquire(self, now: float) -> Permit:
        """Always the shared permit."""
        return self.permit
