"""The latest transitions of each circuit as the workers of this host have seen them, each one once.

Workers follow the shared state of a circuit within a quarter of a second, so every worker reports every transition, at
about the same time. A report is another worker's view of a transition that is known when it comes to the same state
within `TOGETHER` seconds and that worker has not reported that one itself. The first report is kept. It outlives the
worker that made it.
"""

from collections import deque
from typing import Any, Final

KEPT: Final = 50
TOGETHER: Final = 2.0

Transition = list[Any]
"""Seconds since the epoch, the state before, the state after, the cause."""


class Timeline:
    """At most `KEPT` transitions of each upstream."""

    def __init__(self) -> None:
        self._transitions: dict[str, deque[tuple[Transition, set[tuple[int, int]]]]] = {}

    def record(self, worker: tuple[int, int], upstream: str, transition: Transition) -> bool:
        """One report. Returns whether it is news."""
        kept = self._transitions.setdefault(upstream, deque(maxlen=KEPT))
        at, _, to, _ = transition
        for known, seen_by in reversed(kept):
            if known[2] == to and abs(known[0] - at) <= TOGETHER and worker not in seen_by:
                seen_by.add(worker)
                return False
        kept.append((transition, {worker}))
        return True

    def of(self, upstream: str) -> list[Transition]:
        """Oldest first."""
        return [transition for transition, _ in self._transitions.get(upstream, ())]

    def all(self) -> dict[str, list[Transition]]:
        """Of every upstream that has any."""
        return {upstream: self.of(upstream) for upstream in self._transitions}

    def restore(self, dumped: dict[str, list[Transition]]) -> None:
        """Go on with what `all` gave."""
        for upstream, transitions in dumped.items():
            self._transitions[upstream] = deque(((each, set()) for each in transitions), maxlen=KEPT)
