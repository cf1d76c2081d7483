"""Failed attempts, counted by address: who fails often is not listened to for a while.

    left(t) = min(burst, left(t₀) + (t - t₀) / every)

Each failure takes one. What was under way when the last was taken may still fail, so `left` may fall below zero, to
-burst at most: then the address waits longer. The table is bounded: whoever failed longest ago is forgotten first.
"""

from collections import OrderedDict
from typing import Final

BURST: Final = 10
EVERY: Final = 6.0
"""Seconds."""
MOST: Final = 65_536


class Attempts:
    """Each client may fail `burst` times, and gets one more try every `every` seconds. Instants are of one clock."""

    __slots__ = ("_burst", "_every", "_left", "_most")

    def __init__(self, burst: int = BURST, every: float = EVERY, most: int = MOST) -> None:
        self._burst = float(burst)
        self._every = every
        self._most = most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._left)

    def wait(self, client: str, now: float) -> float:
        """The seconds until the client may fail again; 0 when it may now. HOT."""
        if client not in self._left:
            return 0.0
        left = self._at(client, now)
        return 0.0 if left >= 1.0 else (1.0 - left) * self._every

    def failed(self, client: str, now: float) -> None:
        """Take one from what the client has left."""
        self._left[client] = max(-self._burst, self._at(client, now) - 1.0), now
        self._left.move_to_end(client)
        if len(self._left) > self._most:
            self._left.popitem(last=False)

    def _at(self, client: str, now: float) -> float:
        left, since = self._left.get(client, (self._burst, now))
        return min(self._burst, left + (now - since) / self._every)
