"""A timer for "no answer in time" that does not take a stall of this process for one of its peer."""

import asyncio
from collections.abc import Callable

STALL = 0.005
"""A timer that is late by more seconds than this was held up by its own process."""


class Alarm:
    """Calls `action` once when `seconds` have passed, unless `cancel` comes first. `rang` says that it has been called.

    Timers run before what has arrived meanwhile is read, so a process that stood still would find every answer late.
    When that happens the alarm waits once more, for as long as it was late and at most for `seconds`.
    """

    __slots__ = ("_action", "_due", "_loop", "_seconds", "_timer", "rang")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, action: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._action = action
        self.rang = False
        self._due = loop.time() + seconds
        self._timer = loop.call_at(self._due, self._expire)

    def cancel(self) -> None:
        """Stop the alarm, if `action` has not been called yet."""
        self._timer.cancel()

    def _expire(self) -> None:
        late = self._loop.time() - self._due
        if late > STALL:
            self._timer = self._loop.call_later(min(late, self._seconds), self._ring)
        else:
            self._ring()

    def _ring(self) -> None:
        self.rang = True
        self._action()
