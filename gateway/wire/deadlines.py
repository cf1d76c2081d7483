"""Coarse deadlines: one timer for all of them.

An event-loop timer per request costs more than the policies together, and deadlines are moved far more often than
they pass. So whoever has a deadline keeps it in an attribute, which costs nothing to move, and one sweep every
`interval` calls those whose time is up: a deadline passes at most `interval` late, never early. The sweep rests while
nothing is registered. Its cost grows with the number registered, so what is mostly idle (keep-alive connections) gets
a sweep with a long interval and what is in flight one with a short interval.

Timers run before what has arrived meanwhile is read. So a process that stood still (a container that was throttled or
paused, a suspended machine) would take for silence what its peers have sent in time. A sweep that comes late therefore
is put off, for as long as it was late and at most for `interval`: then a deadline passes later than said above."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from gateway.alarm import STALL

log = logging.getLogger("gateway")

_MOST_PUT_OFF: Final = 3
"""One stall may follow another. But a loop that is always late must not put deadlines off for ever."""
_ONE_TURN: Final = 0.001
"""Seconds for which a sweep is put off the last time: the loop reads once. Short stalls may precede a long one."""


class Expiring(Protocol):
    """`deadline` is a time of the monotonic clock, infinity for none."""

    deadline: float

    def expire(self, now: float) -> None:
        """The deadline has passed. Called again at each sweep until it is moved or the object is discarded."""
        ...


class Deadlines:
    """Sweeps its members every `interval` seconds of the loop. `clock` gives instants of the monotonic clock."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, interval: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._loop = loop
        self._interval = interval
        self._clock = clock
        self._members: set[Expiring] = set()
        self.discard: Callable[[Expiring], None] = self._members.discard
        """Forget a member. Idempotent. HOT."""
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._put_off = 0

    def add(self, member: Expiring) -> None:
        """Register; idempotent."""
        self._members.add(member)
        if self._timer is None:
            self._wait(self._interval)

    def __len__(self) -> int:
        return len(self._members)

    def close(self) -> None:
        """Nothing registered now expires any more."""
        self._members.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        now = self._clock()
        late = now - self._due
        if late > STALL and self._put_off <= _MOST_PUT_OFF:
            self._wait(min(late, self._interval) if self._put_off < _MOST_PUT_OFF else _ONE_TURN)
            self._put_off += 1
            return
        self._put_off = 0
        self._timer = None
        try:
            # Collected first: expire() adds and discards members.
            for member in [member for member in self._members if member.deadline <= now]:
                if member in self._members:
                    self._expire(member, now)
        finally:
            if self._members and self._timer is None:
                self._wait(self._interval)

    def _expire(self, member: Expiring, now: float) -> None:
        """One that has a defect keeps the others from nothing, and has no deadline any more."""
        try:
            member.expire(now)
        except Exception:
            log.exception("the gateway has failed at a deadline of %r", member)
            self._members.discard(member)

    def _wait(self, seconds: float) -> None:
        self._due = self._clock() + seconds
        self._timer = self._loop.call_later(seconds, self._sweep)
