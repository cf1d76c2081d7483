"""The cap on all requests in flight. Beyond it load is shed (`overloaded`)."""

import asyncio
import random
from functools import partial
from typing import ClassVar, Final

from gateway.config.sections.shedding.model import SheddingConfig
from gateway.policy.limit import ConcurrencyLimit
from gateway.proxy.answers.refusals import Refusal, Refusals, jittered
from gateway.proxy.gate import Question, Step
from gateway.proxy.gates.places import PlaceGate, by_priority
from gateway.proxy.recorder import Recorder

_DETAILS: Final = {
    "in_flight": "as many requests are in flight as the gateway takes",
    "queue_full": "the queue for a free place is full",
    "queue_timeout": "no place became free in time",
    "client_share": "the client has as many requests in flight as one client may have",
    "connections": "as many connections are open as the gateway takes",
}


class InFlightGate(PlaceGate):
    """One for the whole gateway, the first of every route. It also refuses connections beyond their maximum."""

    name: ClassVar[str] = "in_flight"

    def __init__(
        self,
        config: SheddingConfig,
        limit: ConcurrencyLimit,
        recorder: Recorder,
        rng: random.Random,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(limit, loop)
        self.status = config.status
        self.retry_after = config.retry_after
        self._recorder = recorder
        self._rng = rng
        self._refusals = [
            {cause: Refusals(partial(Refusal, config.status, "overloaded", told)) for cause, told in details.items()}
            for details in by_priority(_DETAILS, limit)
        ]

    def refuse(self, cause: str, priority: int = 0) -> Refusal:
        """`cause` may also be `connections` or `client_share`. HOT."""
        self._recorder.shed(cause)
        return self._refusals[priority][cause].after(jittered(self.retry_after, self._rng))

    def describe(self) -> dict[str, object]:
        """The cap, its queue, and the answer beyond it."""
        return {**super().describe(), "status": self.status, "retry_after": self.retry_after}

    async def explain(self, question: Question) -> Step:
        """How many requests are in flight, and whether one more would be taken."""
        return self.explained(question, self.status, "overloaded", self.retry_after, "the gateway")
