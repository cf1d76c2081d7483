"""What the TLS connections of a listener keep while they are idle, and how it is bounded.

uvloop and OpenSSL keep buffers for each connection, which grow to the largest read or write and are not given back
while it lives: 64 KiB for what comes from the socket, 107 KiB for what waits to be decrypted, and about as much for
what is written. Nothing of that can be freed from here. So connections whose buffers have grown are counted, and those
that are idle while there are more than `MAX_GROWN` are closed soon. A client that finds its idle connection closed
opens another.

That takes seconds, in which a burst brings hundreds more. So at `MOST_GROWN` each one that grows makes another one give
its memory back at once: the one that has waited for longest among those that wait for their client, be it for a
request, for the rest of a head, or to close. Those with a request in flight stay, whose number has its own limit
(`MAX_INFLIGHT`).

Blocks as large as these must also go back to the system when they are freed. glibc maps them one by one, but by
default only until the first one is freed: from then on it takes them from the heap, where small objects that live
longer keep the pages in between.
"""

import ctypes
import time
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

# At up to half a MiB each, in the worst case: 128 MiB and 192 MiB.
MAX_GROWN: Final = 256
MOST_GROWN: Final = 384
# Seconds for which a grown connection may be idle when there are too many of them.
GROWN_KEEPALIVE: Final = 1.0

# A client has this time, in seconds, to take what was written, or to finish a head, before it counts as waited for.
_PATIENCE: Final = 5.0
# How many are looked at for one that grows, so that a burst of them costs no more than that each.
_LOOKS: Final = 16


class Grown(Protocol):
    """A connection whose buffers have grown."""

    def give_back(self, *, patient: bool) -> bool:
        """Close now, unless a request is in flight; if `patient`, only where nothing is lost by it. Whether it does."""
        ...


class GrownConnections:
    """Those of a listener."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Since when each has waited for its client, the longest first. Some of them have a request in flight by now.
        self._waiting: dict[Grown, float] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._waiting)

    @property
    def many(self) -> bool:
        """Whether those that are idle are to be closed soon."""
        return self.count > MAX_GROWN

    def enter(self, connection: Grown) -> None:
        """Its buffers have grown. Another one may have to go."""
        now = self._clock()
        if self.count >= MOST_GROWN:
            self._make_room(now)
        self._waiting[connection] = now

    def wait(self, connection: Grown, now: float) -> None:
        """It has been answered, or closed on our side, and what comes next is its client's."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = now

    def leave(self, connection: Grown) -> None:
        """It is gone."""
        self._waiting.pop(connection, None)

    def _make_room(self, now: float) -> None:
        waiting = self._waiting
        looked_at = [(each, waiting.pop(each)) for each in list(islice(waiting, _LOOKS))]
        waiting.update(looked_at)
        for connection, _ in looked_at:
            if connection.give_back(patient=True):
                return
        for connection, since in looked_at:
            if now - since >= _PATIENCE and connection.give_back(patient=False):
                return


_M_MMAP_THRESHOLD: Final = -3  # malloc.h
_THRESHOLD: Final = 32 * 1024  # Below the buffers of TLS. Being set, it is not moved any more.


def map_large_blocks() -> bool:
    """Have malloc go on mapping large blocks one by one: mallopt(3). False where the C library has no such thing."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _THRESHOLD))
    except (AttributeError, OSError):
        return False
