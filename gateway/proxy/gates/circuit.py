"""The circuit of an upstream, passed before each attempt (`circuit_open` while it is open).

A half-open circuit gives out probes, and the fleet has few of them: `start` asks for one. Only complete requests probe.
A closed circuit gives every attempt the same permit, so an attempt allocates nothing here. No gate behind this one can
refuse, so `check` may take the permit already.
"""

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, ClassVar, Final

from gateway.fleet.circuits import Circuit, CircuitOpen, Permit
from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.outcome import IGNORED, Outcome
from gateway.proxy.answers.refusals import Refusal, Refusals
from gateway.proxy.gate import PASS, WAIT, Gate, Question, Resume, Step, Verdict, step
from gateway.proxy.ticket import Ticket

_STATES: Final = {
    CircuitState.HALF_OPEN: "half-open and all probes are out",
    CircuitState.FORCED_OPEN: "held open by an operator",
}


class CircuitGate(Gate):
    """One for each upstream. `ticket.permit` is the permit of the attempt that has entered."""

    name: ClassVar[str] = "circuit"

    holds: ClassVar[bool] = True

    def __init__(self, upstream: str, circuit: Circuit, settings: BreakerSettings, retry_buffer_bytes: int) -> None:
        self.circuit = circuit
        self._breaker = circuit.breaker
        self._settings = settings
        self._retry_buffer_bytes = retry_buffer_bytes
        detail = f"the circuit of upstream {upstream} is open"
        self._open_refusals = Refusals(partial(Refusal, 503, "circuit_open", detail))
        # What the log line of a refusal said last, and of what: most refusals share all three objects.
        self._decisions: Mapping[str, str] | None = None
        self._cause = ""
        self._noted: Mapping[str, str] = {}

    def check(self, ticket: Ticket) -> Verdict:
        """HOT."""
        permit = self._breaker.permit
        if permit is not None:
            # The circuit is closed: the permit that all attempts share.
            ticket.permit = permit
            return PASS
        answer = self.circuit.try_acquire(ticket.now)
        if answer is None:
            return WAIT
        if isinstance(answer, Permit) and answer.probe and self._incomplete(ticket):
            answer.release(IGNORED, 0.0, ticket.now)
            return WAIT
        return self._told(ticket, answer)

    def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        """HOT."""
        permit, ticket.permit = ticket.permit, None
        if permit is not None:
            permit.release(outcome, seconds, ticket.now, ticket.answered, ticket.reached)

    def start(self, ticket: Ticket, resume: Resume) -> None:
        """Ask for a probe. A request that is still arriving is let come first, with nothing held for it: its client may
        take for ever to send the rest."""
        body = ticket.body
        if body is not None and self._incomplete(ticket):
            body.collect(self._retry_buffer_bytes, partial(self._collected, ticket, resume))
        else:
            self.circuit.acquire(partial(self._answered, ticket, resume))

    def describe(self) -> dict[str, object]:
        """The trip rules in effect, and the time until a probe."""
        settings = self._settings
        described: dict[str, object] = {
            "failure_threshold": settings.failure_threshold,
            "failure_rate_threshold": settings.failure_rate_threshold,
            "minimum_calls": settings.minimum_calls,
            "reset_timeout": settings.reset_timeout,
        }
        if settings.slow_call_threshold is not None:
            described["slow_call_threshold"] = settings.slow_call_threshold
        return described

    async def explain(self, question: Question) -> Step:
        """The state of the circuit, and what a request would meet in it."""
        circuit = self.circuit
        state = circuit.state
        retry_after = circuit.retry_after(question.now)
        figures: dict[str, Any] = {"state": state.value, "failures": circuit.failures, "cause": circuit.cause}
        if state is CircuitState.CLOSED:
            return step(self.name, "allow", "The circuit is closed.", figures=figures)
        if state is CircuitState.FORCED_CLOSED:
            return step(self.name, "allow", "An operator holds the circuit closed.", figures=figures)
        if state is CircuitState.HALF_OPEN and not retry_after:
            detail = "The circuit is half-open: it would be a probe, which decides whether the circuit closes."
            return step(self.name, "allow", detail, figures=figures)
        why = f" ({circuit.cause})" if circuit.cause else ""
        detail = f"The circuit is {_STATES.get(state, 'open')}{why}."
        return step(self.name, "refuse", detail, 503, "circuit_open", retry_after, figures)

    def _incomplete(self, ticket: Ticket) -> bool:
        """Whether the request cannot be a probe yet. What is larger than can be held is one all the same, or an
        upstream that gets only large uploads would never recover."""
        body = ticket.body
        received = body.received if body is not None else 0
        return not ticket.complete and received <= self._retry_buffer_bytes

    def _collected(self, ticket: Ticket, resume: Resume, _body: bytes | None) -> None:
        self.circuit.acquire(partial(self._answered, ticket, resume))

    def _answered(self, ticket: Ticket, resume: Resume, answer: Permit | CircuitOpen) -> None:
        resume(self._told(ticket, answer))

    def _told(self, ticket: Ticket, answer: Permit | CircuitOpen) -> Refusal | None:
        """HOT."""
        if isinstance(answer, CircuitOpen):
            decisions, cause = ticket.log_decisions, answer.cause
            if decisions is not self._decisions or cause is not self._cause:
                self._decisions = decisions
                self._cause = cause
                self._noted = _noted(decisions.get("rate_limit"), cause)
            ticket.log_decisions = self._noted
            return self._open_refusals.after(answer.retry_after)
        ticket.permit = answer
        return PASS


@lru_cache(maxsize=64)
def _noted(rate_limit: str | None, cause: str) -> Mapping[str, str]:
    """What the log line of a refusal says, behind a rate limit that has decided `rate_limit`, if there is one. The same
    object for the same words: the access log renders what it has just seen but once."""
    return {"circuit": cause} if rate_limit is None else {"rate_limit": rate_limit, "circuit": cause}
