"""A timer for "no answer in time" that does not take a stall of this process for one of its peer."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final

STALL: Final = 0.005
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


class Within:
    """`async with Within(seconds):` is `asyncio.timeout(seconds)` with an `Alarm` as its clock. Raises TimeoutError."""

    __slots__ = ("_alarm", "_loop", "_scope", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._scope.__aenter__()
        self._alarm = Alarm(self._loop, self._seconds, self._expire)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._alarm.cancel()
        await self._scope.__aexit__(kind, error, tb)

    def _expire(self) -> None:
        self._scope.reschedule(self._loop.time())
