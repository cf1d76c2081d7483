"""What hedges are timed by: how long the heads of answers take (`gateway.policy.hedge`).

It is passed before each attempt, refuses nothing, and hears how the attempt has ended. An attempt that is a hedge does
not enter it. What counts is what counts for an adaptive limit (`gateway.proxy.gates.adaptive_limit`), of requests that
may be hedged.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from gateway.policy.outcome import FAILURE, IGNORED, Outcome
from gateway.proxy.destinations.hedging import METHODS, Hedging, may_be_hedged
from gateway.proxy.destinations.split import Split
from gateway.proxy.gate import Gate, Question, Step, step
from gateway.proxy.ticket import Ticket


class HedgeGate(Gate):
    """Of one route. `hedges` are those at its upstreams: the one, or those of its split in their order."""

    name: ClassVar[str] = "hedge"
    holds: ClassVar[bool] = True

    def __init__(self, hedges: tuple[Hedging, ...], split: Split | None = None) -> None:
        self.hedges = hedges
        self._split = split

    def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        """HOT."""
        delay = self.hedges[max(ticket.variant, 0)].delay
        permit = ticket.permit
        if (permit is not None and permit.probe) or not may_be_hedged(ticket.request):
            return
        if outcome is IGNORED:
            if ticket.unanswered:
                delay.given_up(seconds, ticket.now)
        elif outcome is not FAILURE or (ticket.unanswered and not ticket.answered):
            delay.answered(seconds, ticket.now)

    def describe(self) -> Mapping[str, object]:
        """The settings in effect, which are the same for each upstream."""
        settings = self.hedges[0].delay.settings
        described: dict[str, object] = {"after": settings.words}
        if settings.after is None:
            described |= {"min_after": settings.min_after, "min_observations": settings.min_observations}
        return described

    async def explain(self, question: Question) -> Step:
        """Whether such a request may be sent twice, and after how long."""
        if question.method not in METHODS:
            return step(self.name, "none", f"A {question.method} is never sent twice at the same time.")
        hedging = self.hedges[0 if self._split is None else self._split.explained(question)]
        delay, now = hedging.delay, question.now
        after, held_off = delay.after(now), delay.held_off(now)
        figures: dict[str, Any] = {"observations": delay.observations(now), "held_off": held_off}
        if after == float("inf"):
            least = delay.settings.min_observations
            detail = f"It is not sent twice before {least} answers of the last minute are known."
            return step(self.name, "none", detail, figures=figures)
        figures["after"] = round(after, 6)
        detail = f"Without an answer after {after:.3g} s it is sent once more, and the first good answer counts."
        if held_off:
            detail += f" For {held_off:.3g} s it is not: the upstream has asked for time."
        return step(self.name, "none", detail, figures=figures)
