"""What a tenant may have at once, and in one day.

The requests in flight are those of this worker, and `concurrency` is its part of what the tenant may have at this host
(`gateway.config.worker_shares`): N hosts take N times as many. The day's count is that of the whole fleet as it was
last told (`gateway.identity.usage`). Callers without a tenant pass."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final

from gateway.identity.tenants import TenantAccount
from gateway.identity.usage import until_midnight
from gateway.policy.outcome import Outcome
from gateway.proxy.answers.refusals import Refusal, Refusals
from gateway.proxy.gate import PASS, Gate, Question, Step, Verdict, step
from gateway.proxy.ticket import Ticket

_RETRY_AFTER: Final = 1


class TenantGate(Gate):
    """One for the whole gateway. It counts each request that it lets through, and does not take it back: what the gates
    behind it refuse counts too, as it has cost a token."""

    name: ClassVar[str] = "tenant"
    holds: ClassVar[bool] = True

    def __init__(self, wall: Callable[[], float], near_quota: Callable[[], None]) -> None:
        """`near_quota` is called when the fleet should hear at once what was counted."""
        self._wall = wall
        self._near_quota = near_quota
        self._over_quota = Refusals(
            partial(Refusal, 429, "quota_exceeded", "the tenant has used up its quota of today")
        )
        busy = "the tenant has as many requests in flight as its tier allows"
        self._busy = Refusal(429, "concurrency_limited", busy, retry_after=_RETRY_AFTER)

    def check(self, ticket: Ticket) -> Verdict:
        """HOT."""
        caller = ticket.caller
        account = None if caller is None else caller.account
        if account is None:
            return PASS
        if account.priority > ticket.priority:  # noqa: PLR1730 - a call of max costs more
            ticket.priority = account.priority
        if account.quota is not None and account.used >= account.quota:
            account.refused["quota_exceeded"] += 1
            return self._over_quota.after(until_midnight(self._wall()))
        if account.concurrency is not None and account.in_flight >= account.concurrency:
            account.refused["concurrency_limited"] += 1
            return self._busy
        return PASS

    def enter(self, ticket: Ticket) -> None:
        """HOT."""
        caller = ticket.caller
        account = None if caller is None else caller.account
        if account is not None:
            account.in_flight += 1
            account.used += 1
            account.unsent += 1
            account.requests += 1
            tell_at = account.tell_at
            if tell_at is not None and account.unsent >= tell_at:
                self._near_quota()

    def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        """HOT."""
        caller = ticket.caller
        account = None if caller is None else caller.account
        if account is not None:
            account.in_flight -= 1

    def describe(self) -> dict[str, object]:
        """Nothing of its own: the tiers have the settings."""
        return {"limits": "those of the caller's tier"}

    async def explain(self, question: Question) -> Step:
        """What the tenant has in flight, and has used today."""
        caller = question.caller
        account = None if caller is None else caller.account
        if account is None:
            return step(self.name, "none", "No tenant is asked about.")
        figures = _figures(account)
        used = f"{account.tenant} has {account.in_flight} requests in flight here and has used {account.used} today."
        if account.quota is not None and account.used >= account.quota:
            left = until_midnight(self._wall())
            return step(self.name, "refuse", used, 429, "quota_exceeded", math.ceil(left), figures)
        if account.concurrency is not None and account.in_flight >= account.concurrency:
            return step(self.name, "refuse", used, 429, "concurrency_limited", _RETRY_AFTER, figures)
        return step(self.name, "allow", used, figures=figures)


def _figures(account: TenantAccount) -> dict[str, Any]:
    figures: dict[str, Any] = {"in_flight": account.in_flight, "used_today": account.used}
    if account.tier:
        figures["tier"] = account.tier
    if account.concurrency is not None:
        figures["concurrency"] = account.concurrency
    if account.quota is not None:
        figures["quota_per_day"] = account.quota
    return figures
