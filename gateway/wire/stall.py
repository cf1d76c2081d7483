"""Whether the other side of a connection takes what waits for it.

Something waits, and since the last look the other side's kernel has confirmed nothing and no less is left: then nothing
was taken. A reader that has stopped and one whose network is gone look the same from here, and come to the same.
"""

import asyncio

from gateway.wire.kernel import acknowledged, unsent


class Stall:
    """Of one connection."""

    __slots__ = ("_acknowledged", "_taken_at", "_transport", "_waiting")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._taken_at = 0.0
        self._waiting = 0
        self._acknowledged = 0

    def begin(self, now: float) -> None:
        """Count from the instant `now` of the monotonic clock."""
        self._taken_at = now

    @property
    def waiting(self) -> int:
        """Bytes that the other side's kernel has not confirmed; 0 where that is not to be known."""
        return max(0, unsent(self._transport))

    def lasts(self, now: float, patience: float) -> bool:
        """Whether nothing was taken for `patience` seconds, as far as the looks so far can tell."""
        waiting, before = self.waiting, self._waiting
        self._waiting = waiting
        if waiting:
            taken, taken_before = acknowledged(self._transport), self._acknowledged
            self._acknowledged = taken
            if before and waiting >= before and taken <= taken_before:
                return now - self._taken_at >= patience
        self._taken_at = now
        return False
