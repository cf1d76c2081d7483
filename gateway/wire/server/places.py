"""The places of client connections: how many may be open, and who gives way when all are taken.

A connection has a place from the moment it is accepted, its TLS handshake included. When all are taken, a newcomer gets
the place of the connection that is easiest to miss: first of one that has said nothing for `_SILENT` seconds (a TLS
handshake that does not end, a connection without a first request), then of the one that has been idle between two
requests for longest. A connection with a request in flight, or with bytes that have arrived and are not yet read, never
gives way.

A newcomer for whom nobody gives way goes to the reserve, which is small. There it may state its request: the probes of
an orchestrator are answered, and everybody else is told that the gateway is overloaded. When the reserve is full, its
oldest member is closed.

To find out who is idle, every connection has to be looked at. One look is therefore good for many newcomers, and after
a look that found nobody there is a pause. None of this runs while places are free.
"""

import heapq
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from gateway.wire.ports import Connection

_SILENT: Final = 1.0
# A client that has just got its answer may already be sending its next request.
_IDLE: Final = 0.05
_PAUSE: Final = 0.02
_FOUND_AT_ONCE: Final = 1024


class Occupant(Protocol):
    """Who has a place: a connection, or the TLS handshake before it."""

    @property
    def quiet_since(self) -> float | None:
        """Since when, on the monotonic clock, its client has not had a request; None while it has one."""
        ...

    @property
    def spoken(self) -> bool:
        """Whether a request has come from it, ever."""
        ...

    @property
    def unread(self) -> bool:
        """Whether bytes have arrived that are not yet read. Asks the kernel."""
        ...

    def abort(self) -> None:
        """Close at once, and leave."""
        ...


class Places:
    """`limit` places, and `reserve_limit` more for those who wait for one. `elsewhere` is the number of connections
    that keep their place although another protocol serves them by now."""

    def __init__(
        self,
        limit: int,
        reserve_limit: int = 128,
        elsewhere: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self.reserve_limit = reserve_limit
        self.evicted = 0
        """How many have given way so far."""
        self.connections: set[Connection] = set()
        self.handshakes: set[Occupant] = set()
        # In the order of arrival.
        self.reserve: dict[Occupant, None] = {}
        self._elsewhere = elsewhere
        self._clock = clock
        self._candidates: deque[tuple[float, Occupant]] = deque()
        self._next_look = 0.0

    def __len__(self) -> int:
        """How many places are taken."""
        return len(self.connections) + len(self.handshakes) + self._elsewhere()

    def enter(self, connection: Connection) -> bool:
        """Whether it gets a place. Otherwise it is in the reserve now."""
        if self._room():
            self.connections.add(connection)
            return True
        self._wait(connection)
        return False

    def enter_handshake(self, handshake: Occupant) -> None:
        """The same, for what is to become a connection: it leaves right before that one enters."""
        if self._room():
            self.handshakes.add(handshake)
        else:
            self._wait(handshake)

    def promote(self, connection: Connection) -> bool:
        """Whether one that is in the reserve gets a place after all."""
        if not self._room():
            return False
        self.reserve.pop(connection, None)
        self.connections.add(connection)
        return True

    def leave(self, connection: Connection) -> None:
        """Idempotent."""
        self.connections.discard(connection)
        self.reserve.pop(connection, None)

    def leave_handshake(self, handshake: Occupant) -> None:
        """Idempotent."""
        self.handshakes.discard(handshake)
        self.reserve.pop(handshake, None)

    def _room(self) -> bool:
        return len(self) < self.limit or self._evict()

    def _wait(self, newcomer: Occupant) -> None:
        if len(self.reserve) >= self.reserve_limit:
            oldest = next(iter(self.reserve))
            del self.reserve[oldest]
            oldest.abort()
        self.reserve[newcomer] = None

    def _evict(self) -> bool:
        """Whether somebody has given way."""
        now = self._clock()
        if not self._candidates and now >= self._next_look:
            self._look(now)
        while self._candidates:
            since, occupant = self._candidates.popleft()
            if occupant.quiet_since == since and not occupant.unread:
                occupant.abort()
                self.evicted += 1
                return True
        return False

    def _look(self, now: float) -> None:
        self._next_look = now + _PAUSE
        found: list[tuple[bool, float, int, Occupant]] = []
        everybody: list[Occupant] = [*self.handshakes, *self.connections]
        for occupant in everybody:
            since = occupant.quiet_since
            if since is None:
                continue
            spoken = occupant.spoken
            if now - since >= (_IDLE if spoken else _SILENT):
                found.append((spoken, since, len(found), occupant))
        self._candidates.extend((since, occupant) for _, since, _, occupant in heapq.nsmallest(_FOUND_AT_ONCE, found))
