"""The rate limit of a route: one token of the client's bucket for each request (`rate_limited` without one)."""

from functools import partial
from typing import ClassVar, Final

from gateway.fleet.alone import REFUSED_UNSEEN
from gateway.fleet.limiter import Limiter
from gateway.policy.token_bucket import Decision, RateLimitPolicy
from gateway.proxy.answers.refusals import Refusal, Refusals
from gateway.proxy.gate import PASS, WAIT, Gate, Question, Resume, Step, Verdict, step
from gateway.proxy.recorder import Recorder
from gateway.proxy.ticket import Ticket

_UNSEEN: Final = "the limit of the client cannot be checked now, and requests are refused until it can be"
# The same objects each time: the access log renders what it has just seen but once.
_ALLOWED: Final = {"rate_limit": "allowed"}
_LIMITED: Final = {"rate_limit": "limited"}
_EXEMPT: Final = {"rate_limit": "exempt"}


class RateLimitGate(Gate):
    """The buckets of one policy. A client that is exempt by its address passes. A token is spent when the gate is
    passed, and is not given back: what the gates behind this one refuse has cost a token (docs/behaviour.md)."""

    name: ClassVar[str] = "rate_limit"

    def __init__(self, limiter: Limiter, policy: RateLimitPolicy, recorder: Recorder) -> None:
        self.policy = policy
        self._limiter = limiter
        self._counts = recorder.rate_limit_counts(policy.name)
        self._exempt = recorder.rate_limit_exempt(policy.name)
        self._busy = recorder.busy_clients(policy.name)
        detail = f"the client has used up its {policy.capacity} requests, {policy.refill_rate:g} come back a second"
        self._limited = Refusals(partial(Refusal, 429, "rate_limited", detail))
        self._unseen = Refusals(partial(Refusal, 429, "rate_limited", _UNSEEN))

    def check(self, ticket: Ticket) -> Verdict:
        """HOT."""
        if ticket.origin.exempt:
            ticket.log_decisions = _EXEMPT
            self._exempt[1] += 1
            return PASS
        decision = self._limiter.try_take(self.policy, ticket.client, ticket.now)
        if decision is None:
            return WAIT
        if not decision.allowed:
            return self._decided(ticket, decision)
        ticket.rate = decision
        ticket.log_decisions = _ALLOWED
        self._counts[True] += 1
        busy = self._busy
        if busy is not None:
            busy.left -= 1
            if not busy.left:
                busy.note(ticket.client, True, ticket.now)
        return PASS

    def start(self, ticket: Ticket, resume: Resume) -> None:
        """The token is spent from now on, whoever is still there for the answer."""
        self._limiter.take(self.policy, ticket.client, partial(self._answered, ticket, resume))

    def describe(self) -> dict[str, object]:
        """The policy: its name, tokens at most, and tokens a second."""
        policy = self.policy
        return {"policy": policy.name, "capacity": policy.capacity, "refill_rate": policy.refill_rate}

    async def explain(self, question: Question) -> Step:
        """What the bucket of the client holds, without taking of it."""
        policy, client = self.policy, question.client
        if question.exempt:
            detail = f"{client} is exempt from rate limits (RATE_LIMIT_EXEMPT)."
            return step(self.name, "exempt", detail, figures={"name": policy.name})
        decision = await self._limiter.peek(policy, client)
        figures = {
            "name": policy.name,
            "capacity": policy.capacity,
            "refill_rate": policy.refill_rate,
            "remaining": round(decision.remaining, 3),
            "reset_after": round(decision.reset_after, 3),
        }
        if decision.allowed:
            left = f"{decision.remaining:.0f} of {policy.capacity} tokens would be left"
            return step(self.name, "allow", f"{left} to {client}.", figures=figures)
        detail = f"{client} has used up its {policy.capacity} tokens; {policy.refill_rate:g} come back a second."
        if decision is REFUSED_UNSEEN:
            detail = f"The limit of {client} cannot be checked now, and requests are refused until it can be."
        return step(self.name, "refuse", detail, 429, "rate_limited", decision.retry_after, figures)

    def _answered(self, ticket: Ticket, resume: Resume, decision: Decision) -> None:
        resume(self._decided(ticket, decision))

    def _decided(self, ticket: Ticket, decision: Decision) -> Refusal | None:
        """Count a decision and tell the ticket."""
        ticket.rate = decision
        allowed = decision.allowed
        self._counts[allowed] += 1
        busy = self._busy
        if busy is not None:
            busy.left -= 1
            if not busy.left:
                busy.note(ticket.client, allowed, ticket.now)
        if allowed:
            ticket.log_decisions = _ALLOWED
            return PASS
        ticket.log_decisions = _LIMITED
        refusals = self._unseen if decision is REFUSED_UNSEEN else self._limited
        return refusals.after(decision.retry_after)
