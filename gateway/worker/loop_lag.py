"""By how much the event loop is late: a timer asks to be called every `_STEP` seconds, and looks at when it was.

What is told is the longest lateness of the last `SECONDS` seconds, so that a scrape or a look every few seconds misses
none. It costs some microseconds a second.
"""

import asyncio
from typing import Final

SECONDS: Final = 10
_STEP: Final = 0.1
_STEPS_A_SECOND: Final = 10


class LoopLag:
    """Measures from `start` on, on the running loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._steps = 0
        # The longest of each of the last seconds; the last one is not over yet.
        self._longest = [0.0] * (SECONDS + 1)

    @property
    def seconds(self) -> float:
        """The longest lateness of late. One that lasts is told once it is over."""
        return max(self._longest)

    def start(self) -> None:
        """Begin to measure."""
        if self._timer is None:
            self._loop = asyncio.get_running_loop()
            self._again()

    def stop(self) -> None:
        """End that. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self) -> None:
        assert self._loop is not None  # noqa: S101 - `start` was called
        self._due = self._loop.time() + _STEP
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        assert self._loop is not None  # noqa: S101 - as above
        self.note(self._loop.time() - self._due)
        self._again()

    def note(self, late: float) -> None:
        """One look."""
        self._longest[-1] = max(self._longest[-1], late)
        self._steps += 1
        if self._steps % _STEPS_A_SECOND == 0:
            self._longest = [*self._longest[1:], 0.0]
