"""What an adaptive limit learns from: how long the heads of answers take (`gateway.policy.adaptive`).

It is passed before each attempt, refuses nothing, and hears how the attempt has ended:

    an answer below 500                       counts with its time
    no answer within the time limit           counts with the time that was waited
    the client has left a complete request    counts likewise, where it had waited for longer than most answers take:
                                              its own would have taken at least as long
    anything else                             does not count: a 5xx or a reset may come quickly from an upstream that
                                              works on nothing; a probe meets an upstream without load; a tunnel is a
                                              connection and no answer

Routes with one `latency_group` share a trend; the others of an upstream share one, too.
"""

from typing import Any, ClassVar

from gateway.policy.adaptive import DEFAULT_GROUP, AdaptiveLimit
from gateway.policy.outcome import FAILURE, IGNORED, Outcome
from gateway.proxy.gate import Gate, Question, Step, step
from gateway.proxy.gates.bulkhead import BulkheadGate
from gateway.proxy.ticket import Ticket


class AdaptiveLimitGate(Gate):
    """One for each latency group of an upstream. `bulkhead` is the gate whose limit it finds."""

    name: ClassVar[str] = "adaptive_limit"
    holds: ClassVar[bool] = True

    def __init__(self, bulkhead: BulkheadGate, adaptive: AdaptiveLimit, latency_group: str) -> None:
        self.adaptive = adaptive
        self._bulkhead = bulkhead
        self._group = adaptive.group(latency_group)

    def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        """HOT."""
        group = self._group
        if outcome is IGNORED:
            recent = group.trend.recent
            if not ticket.unanswered or seconds <= recent or recent <= 0.0:
                return
        elif outcome is FAILURE and (ticket.answered or not ticket.unanswered):
            return
        permit = ticket.permit
        if permit is not None and permit.probe:
            return
        request = ticket.request
        if request.fields.upgrade is not None and request.wants_websocket:
            return
        now = ticket.now
        if self.adaptive.sample(group, seconds, self._bulkhead.limit.in_flight, now):
            self._bulkhead.follow(now)

    def describe(self) -> dict[str, object]:
        """How the limit is found. Its ceiling is the bulkhead's."""
        settings = self.adaptive.settings
        described: dict[str, object] = {
            "mode": "enforce" if settings.enforce else "observe",
            "min": settings.min,
            "initial": settings.initial,
        }
        if self._group.name != DEFAULT_GROUP:
            described["latency_group"] = self._group.name
        return described

    async def explain(self, question: Question) -> Step:
        """The limit as it is found now, and from which times."""
        adaptive = self.adaptive
        adaptive.drift(question.now)
        trend = self._group.trend
        figures: dict[str, Any] = {
            "limit": adaptive.limit,
            "mode": "enforce" if adaptive.settings.enforce else "observe",
            "latency_group": self._group.name,
            "recent": round(trend.recent, 6),
            "baseline": round(trend.baseline.value, 6),
        }
        detail = f"The limit is {adaptive.limit}"
        if not adaptive.settings.enforce:
            detail += ", which is only observed"
        if trend.recent:
            usual = trend.baseline.value
            detail += f": nine of ten answers take up to {trend.recent:.3g} s lately, and {usual:.3g} s usually"
        return step(self.name, "none", f"{detail}.", figures=figures)
