"""Half-open: a few attempts are let through as probes, and their outcomes decide.

The circuit closes after `half_open_success_threshold` successes and opens again after one failure. A slow success
counts as a failure here: a circuit that opened because the upstream was slow must not close while it is still slow.

A probe has `probe_time` seconds. One that is not released within that time is given up: its place is free again, and
its outcome is ignored when it comes after all.
"""

from gateway.policy.breaker.permit import CircuitOpen, Permit
from gateway.policy.breaker.settings import probe_wait
from gateway.policy.breaker.state import Circuit, State
from gateway.policy.outcome import FAILURE, IGNORED, Outcome


class HalfOpen(State):
    """Knows the probes that are under way and the successes so far."""

    __slots__ = ("_probes", "_successes")

    def __init__(self, circuit: Circuit) -> None:
        super().__init__(circuit)
        self._probes: dict[Permit, float] = {}  # the instant at which each probe is given up
        self._successes = 0

    def acquire(self, now: float) -> Permit | CircuitOpen:
        """A probe, or a refusal while as many probes as allowed are under way."""
        retry_after = self.retry_after(now)
        if retry_after:
            return CircuitOpen(retry_after, self._circuit.cause)
        probe = Probe(self, self._circuit.history.slow_after)
        self._probes[probe] = now + self._circuit.probe_time
        return probe

    def retry_after(self, now: float) -> float:
        """See `probe_wait`; 0 when a probe may be sent. Probes that have lapsed are given up."""
        probes, circuit = self._probes, self._circuit
        for probe in [probe for probe, lapses in probes.items() if lapses <= now]:
            del probes[probe]
        if len(probes) < circuit.settings.half_open_max_probes:
            return 0.0
        return probe_wait(min(probes.values()) - now, circuit.probe_time)

    def settle(
        self, probe: Permit, outcome: Outcome, elapsed: float, now: float, answered: bool, reached: bool
    ) -> None:
        """End a probe of this state. A probe that was given up, or that has ended already, changes nothing."""
        lapses = self._probes.pop(probe, None)
        if lapses is not None and now < lapses:
            self.record(outcome, elapsed, now, answered, reached)

    def record(self, outcome: Outcome, elapsed: float, now: float, answered: bool, reached: bool) -> None:
        """Count the outcome of a probe, and leave this state when it decides."""
        circuit = self._circuit
        # A probe that ends after its circuit has left this state changes nothing.
        if outcome is IGNORED or circuit.current is not self:
            return
        history = circuit.history
        if outcome is FAILURE:
            history.failed(now, answered, reached)
            circuit.open("a probe failed", now)
        elif elapsed >= history.slow_after:
            circuit.open("a probe was slow", now)
        else:
            history.succeeded(now)
            self._successes += 1
            if self._successes >= circuit.settings.half_open_success_threshold:
                history.window.clear()
                circuit.close(f"{self._successes} probes succeeded", now)


class Probe(Permit):
    """The permit of one probe."""

    __slots__ = ("_slow_after", "_state")
    probe = True

    def __init__(self, state: HalfOpen, slow_after: float) -> None:
        self._state = state
        self._slow_after = slow_after

    def release(
        self, outcome: Outcome, elapsed: float, now: float, answered: bool = False, reached: bool = True
    ) -> None:
        """See `Permit.release`."""
        self._state.settle(self, outcome, elapsed, now, answered, reached)

    def left(self, elapsed: float, now: float) -> None:
        """See `Permit.left`."""
        # The client waited for as long as a slow call takes, so the probe has failed although it was not answered.
        outcome = FAILURE if elapsed >= self._slow_after else IGNORED
        self._state.settle(self, outcome, elapsed, now, False, True)
