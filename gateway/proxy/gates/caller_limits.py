"""The rate limits of a route whose callers are known: one request takes a token of each, or of none.

    the route's limit      counted by tenant, or by consumer without one, in place of the address
    the tier's limit       counted by tenant, over all routes
    the consumer's limit   counted by consumer

Where every token can be had locally, they are taken in one go; when one is refused, those before it are given back
within the same turn of the event loop. Where the store has to be asked, it is asked for all of them at once, and what
it granted beside a refusal goes back to it. So for the time of one exchange a token may be missing that nobody gets; a
bucket never gives too many.
"""

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Final

from gateway.fleet.alone import REFUSED_UNSEEN
from gateway.fleet.limiter import Limiter
from gateway.identity.tenants import Caller, CountedLimit
from gateway.policy.token_bucket import Decision, RateLimitPolicy
from gateway.proxy.answers.refusals import Refusal, Refusals
from gateway.proxy.gate import PASS, WAIT, Gate, Question, Resume, Step, Verdict, step
from gateway.proxy.recorder import Recorder
from gateway.proxy.ticket import Ticket

_UNSEEN: Final = "the limits of the caller cannot be checked now, and requests are refused until they can be"
_MOST_CALLERS: Final = 20_000


class Limits:
    """Those of one caller on one route, with the decisions that its log lines have in common."""

    __slots__ = ("allowed_log", "each", "limited_log")

    def __init__(self, each: tuple[CountedLimit, ...], log: Mapping[str, str]) -> None:
        self.each = each
        self.allowed_log: Mapping[str, str] = {**log, "rate_limit": "allowed"} if each else log
        self.limited_log: Mapping[str, str] = {**log, "rate_limit": "limited"}


class CallerLimitsGate(Gate):
    """One for each route with authentication. `route_policy` is the route's own limit, None without one. A client that
    is exempt by its address passes."""

    name: ClassVar[str] = "rate_limit"

    def __init__(
        self,
        limiter: Limiter,
        policies: Mapping[str, RateLimitPolicy],
        route_policy: str | None,
        recorder: Recorder,
    ) -> None:
        self._limiter = limiter
        self._route_policy = None if route_policy is None else policies[route_policy]
        self._counts = {name: recorder.rate_limit_counts(name) for name in policies}
        self._busy = {name: recorder.busy_clients(name) for name in policies}
        self._limits: OrderedDict[Caller, Limits] = OrderedDict()
        self._refusals = {
            name: Refusals(partial(Refusal, 429, "rate_limited", _words(policy))) for name, policy in policies.items()
        }
        self._unseen = Refusals(partial(Refusal, 429, "rate_limited", _UNSEEN))

    def limits_of(self, caller: Caller) -> Limits:
        """The limits of a caller here: the route's, its tier's, its own. HOT."""
        found = self._limits.get(caller)
        return self._new(caller) if found is None else found

    def check(self, ticket: Ticket) -> Verdict:
        """HOT."""
        caller = ticket.caller
        if caller is None or ticket.origin.exempt:
            return PASS
        limits = self.limits_of(caller)
        limiter, now = self._limiter, ticket.now
        taken: list[tuple[CountedLimit, Decision]] = []
        unknown = False
        for limit in limits.each:
            decision = limiter.try_take(limit.policy, limit.bucket, now)
            if decision is None:
                # One behind it may be known to refuse.
                unknown = True
            elif decision.allowed:
                taken.append((limit, decision))
            else:
                self._untake(taken)
                return self._refused(ticket, limits, limit, decision)
        if unknown:
            self._untake(taken)
            return WAIT
        self._allowed(ticket, limits, taken)
        return PASS

    def start(self, ticket: Ticket, resume: Resume) -> None:
        """Ask for all of them in one turn of the event loop, so that it is one exchange with the store."""
        caller = ticket.caller
        assert caller is not None  # noqa: S101 - `check` waits for nobody else
        limits = self.limits_of(caller)
        _Asked(self, ticket, limits, resume).ask(self._limiter)

    def decided(self, ticket: Ticket, limits: Limits, decisions: list[Decision]) -> Refusal | None:
        """Every limit has answered. The tokens of a request that one of them refuses go back."""
        pairs = list(zip(limits.each, decisions, strict=True))
        refusing = [pair for pair in pairs if not pair[1].allowed]
        if not refusing:
            self._allowed(ticket, limits, pairs)
            return PASS
        for limit, decision in pairs:
            if decision.allowed:
                self._limiter.refund(limit.policy, limit.bucket)
        limit, decision = max(refusing, key=_retry_after)
        return self._refused(ticket, limits, limit, decision)

    def describe(self) -> dict[str, object]:
        """The route's own limit; those of tiers and consumers come on top."""
        policy = self._route_policy
        own: dict[str, object] = {}
        if policy is not None:
            own = {"policy": policy.name, "capacity": policy.capacity, "refill_rate": policy.refill_rate}
        return {**own, "by": "tenant, else consumer", "besides": "those of the tier and of the consumer"}

    async def explain(self, question: Question) -> Step:
        """What the buckets of the caller hold, without taking of them."""
        if question.exempt:
            return step(self.name, "exempt", f"{question.client} is exempt from rate limits (RATE_LIMIT_EXEMPT).")
        caller = question.caller
        if caller is None:
            return step(self.name, "none", "It is counted by tenant and consumer, and none is asked about.")
        figures: dict[str, Any] = {}
        words = []
        refusing: list[tuple[CountedLimit, Decision]] = []
        for limit in (self._limits.get(caller) or self._made(caller)).each:
            decision = await self._limiter.peek(limit.policy, limit.bucket)
            name = f"{limit.policy.name} of {limit.bucket.partition(':')[0]}"
            figures[f"{name}: remaining"] = round(decision.remaining, 3)
            words.append(f"{name}: {decision.remaining:.0f} of {limit.policy.capacity} tokens would be left")
            if not decision.allowed:
                refusing.append((limit, decision))
        if not refusing:
            return step(self.name, "allow", f"{'; '.join(words) or 'There is no limit for it'}.", figures=figures)
        limit, decision = max(refusing, key=_retry_after)
        policy = limit.policy
        detail = f"{policy.name}: its {policy.capacity} tokens are used up; {policy.refill_rate:g} come back a second."
        return step(self.name, "refuse", detail, 429, "rate_limited", decision.retry_after, figures)

    def _new(self, caller: Caller) -> Limits:
        if len(self._limits) >= _MOST_CALLERS:
            self._limits.popitem(last=False)
        made = self._limits[caller] = self._made(caller)
        return made

    def _made(self, caller: Caller) -> Limits:
        policy, bucket = self._route_policy, caller.bucket
        # Without a tenant the consumer's own limit may be the very bucket that the route counts by.
        if policy is None or any(each.policy.name == policy.name and each.bucket == bucket for each in caller.limits):
            return Limits(caller.limits, caller.log)
        return Limits((CountedLimit(policy, bucket), *caller.limits), caller.log)

    def _untake(self, taken: list[tuple[CountedLimit, Decision]]) -> None:
        for limit, _ in taken:
            self._limiter.untake(limit.policy, limit.bucket)

    def _allowed(self, ticket: Ticket, limits: Limits, taken: list[tuple[CountedLimit, Decision]]) -> None:
        """HOT."""
        ticket.rates = taken
        ticket.log_decisions = limits.allowed_log
        for limit, _ in taken:
            name = limit.policy.name
            self._counts[name][True] += 1
            self._note(name, limit.bucket, True, ticket.now)

    def _note(self, policy: str, bucket: str, allowed: bool, now: float) -> None:
        """One decision, for whoever asks which callers are the busiest. HOT."""
        busy = self._busy[policy]
        if busy is not None:
            busy.left -= 1
            if not busy.left:
                busy.note(bucket, allowed, now)

    def _refused(self, ticket: Ticket, limits: Limits, limit: CountedLimit, decision: Decision) -> Refusal:
        ticket.rates = [(limit, decision)]
        ticket.log_decisions = limits.limited_log
        name = limit.policy.name
        self._counts[name][False] += 1
        self._note(name, limit.bucket, False, ticket.now)
        caller = ticket.caller
        if caller is not None and caller.account is not None:
            caller.account.refused["rate_limited"] += 1
        refusals = self._unseen if decision is REFUSED_UNSEEN else self._refusals[name]
        return refusals.after(decision.retry_after)


class _Asked:
    """The answers of all limits to one request that waits for them."""

    __slots__ = ("_decisions", "_gate", "_left", "_limits", "_resume", "_ticket")

    def __init__(self, gate: CallerLimitsGate, ticket: Ticket, limits: Limits, resume: Resume) -> None:
        self._gate = gate
        self._ticket = ticket
        self._limits = limits
        self._resume = resume
        self._left = len(limits.each)
        self._decisions: list[Decision] = [REFUSED_UNSEEN] * self._left

    def ask(self, limiter: Limiter) -> None:
        for at, limit in enumerate(self._limits.each):
            limiter.take(limit.policy, limit.bucket, partial(self._told, at))

    def _told(self, at: int, decision: Decision) -> None:
        self._decisions[at] = decision
        self._left -= 1
        if not self._left:
            self._resume(self._gate.decided(self._ticket, self._limits, self._decisions))


def _words(policy: RateLimitPolicy) -> str:
    return (
        f"the limit {policy.name} of the caller is used up: {policy.capacity} requests,"
        f" {policy.refill_rate:g} come back a second"
    )


def _retry_after(pair: tuple[CountedLimit, Decision]) -> float:
    return pair[1].retry_after
