"""The latest transitions of each circuit, as this gateway saw them."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

KEPT = 50


class Transition(NamedTuple):
    """`at` in seconds since the epoch; states in the words of `ports.gateway.CircuitView`."""

    at: float
    from_state: str
    to_state: str
    cause: str


class CircuitHistory:
    """At most `KEPT` transitions of each of `upstreams`.

    With several workers each one tells what it records (`on_record`), and gets back what all of them have seen."""

    def __init__(self, upstreams: Iterable[str], clock: Callable[[], float] = time.time) -> None:
        self._transitions: dict[str, deque[Transition]] = {name: deque(maxlen=KEPT) for name in upstreams}
        self._clock = clock
        self.on_record: Callable[[str, Transition], None] | None = None

    def record(self, upstream: str, from_state: str, to_state: str, cause: str) -> None:
        """Add a transition of this moment; the oldest one is dropped beyond `KEPT`. States are in the words of
        `ports.gateway.CircuitView`."""
        transition = Transition(self._clock(), from_state, to_state, cause)
        self._transitions[upstream].append(transition)
        if self.on_record is not None:
            self.on_record(upstream, transition)

    def replace(self, upstream: str, transitions: Iterable[Transition]) -> None:
        """These are the transitions, the oldest first. Without effect for an upstream that is not known here."""
        if upstream in self._transitions:
            self._transitions[upstream] = deque(transitions, maxlen=KEPT)

    def of(self, upstream: str) -> list[Transition]:
        """Newest first."""
        return list(reversed(self._transitions[upstream]))

    def last(self, upstream: str) -> Transition | None:
        """The latest transition, None where there was none."""
        transitions = self._transitions[upstream]
        return transitions[-1] if transitions else None
