"""Coarse deadlines: one timer for all of them.

An event-loop timer per request costs more than the policies together, and deadlines are moved far more often than
they pass. So whoever has a deadline keeps it in an attribute, which costs nothing to move, and one sweep every
`interval` calls those whose time is up: a deadline passes at most `interval` late, never early. The sweep rests while
nothing is registered. Its cost grows with the number registered, so what is mostly idle (keep-alive connections) gets
a sweep with a long interval and what is in flight one with a short interval."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


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

    def add(self, member: Expiring) -> None:
        """Register; idempotent."""
        self._members.add(member)
        if self._timer is None:
            self._timer = self._loop.call_later(self._interval, self._sweep)

    def __len__(self) -> int:
        return len(self._members)

    def close(self) -> None:
        """Nothing registered now expires any more."""
        self._members.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = None
        now = self._clock()
        try:
            # Collected first: expire() adds and discards members.
            for member in [member for member in self._members if member.deadline <= now]:
                if member in self._members:
                    member.expire(now)
        finally:
            if self._members and self._timer is None:
                self._timer = self._loop.call_later(self._interval, self._sweep)
