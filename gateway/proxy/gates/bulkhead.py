"""The bulkhead of an upstream: as many requests at once as it is to get (`bulkhead_full` beyond).

How many that are may be found out (`gateway.proxy.gates.adaptive_limit`).
"""

import asyncio
import random
from functools import partial
from typing import ClassVar, Final

from gateway.policy.adaptive import AdaptiveLimit
from gateway.policy.limit import ConcurrencyLimit
from gateway.proxy.answers.refusals import Refusal, Refusals, jittered
from gateway.proxy.gate import Question, Step
from gateway.proxy.gates.places import PlaceGate, by_priority
from gateway.proxy.recorder import Recorder

_DETAILS: Final = {
    "in_flight": "as many requests are in flight as it gets",
    "queue_full": "the queue for it is full",
    "queue_timeout": "no place became free in time",
}
_RETRY_AFTER: Final = 1.0


class BulkheadGate(PlaceGate):
    """One for each upstream, shared by its routes."""

    name: ClassVar[str] = "bulkhead"

    def __init__(
        self,
        upstream: str,
        limit: ConcurrencyLimit,
        recorder: Recorder,
        rng: random.Random,
        loop: asyncio.AbstractEventLoop,
        adaptive: AdaptiveLimit | None = None,
    ) -> None:
        super().__init__(limit, loop)
        self._adaptive = adaptive
        self._ceiling = limit.limit
        if adaptive is not None:
            self.follow(self._clock())
        self._upstream = upstream
        self._recorder = recorder
        self._rng = rng
        details = {cause: f"upstream {upstream}: {detail}" for cause, detail in _DETAILS.items()}
        self._refusals = [
            {cause: Refusals(partial(Refusal, 503, "bulkhead_full", told)) for cause, told in each.items()}
            for each in by_priority(details, limit)
        ]

    def refuse(self, cause: str, priority: int = 0) -> Refusal:
        """HOT."""
        self._recorder.bulkhead_rejected(self._upstream)
        return self._refusals[priority][cause].after(jittered(_RETRY_AFTER, self._rng))

    def make_room(self, now: float, priority: int) -> bool:
        """The adaptive limit hears that it is full. Without answers for a while it may have drifted up. HOT."""
        adaptive = self._adaptive
        if adaptive is None:
            return False
        adaptive.full = True
        if not adaptive.drift(now):
            return False
        self.follow(now)
        limit = self.limit
        return limit.in_flight < limit.caps[priority]

    def follow(self, now: float) -> None:
        """Take over what the adaptive limit has found, if it is in force."""
        adaptive, limit = self._adaptive, self.limit
        if adaptive is not None and adaptive.settings.enforce and adaptive.limit != limit.limit:
            self.resize(adaptive.limit, now)

    def describe(self) -> dict[str, object]:
        """The limit, the highest one where it adapts, and its queue."""
        return {**super().describe(), "limit": self._ceiling}

    async def explain(self, question: Question) -> Step:
        """How many requests the upstream has, and whether one more would be taken."""
        return self.explained(question, 503, "bulkhead_full", _RETRY_AFTER, f"upstream {self._upstream}")
