"""Clients that wait for the outcome of a run (`Prefer: wait`), whichever gateway carries it out."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.background import Background
from gateway.journal import sagas
from gateway.journal.port import Journal, JournalUnavailable
from gateway.journal.saga_moves import ENDED_TOPIC
from gateway.journal.sagas import Shown

# For notices that were lost.
_LOOK: Final = 0.5
# Between two looks, however many runs end.
_LEAST: Final = 0.01
Told = Callable[[Shown | None], None]
"""Called with the run when it has ended or is stuck, with None when the time is over."""


class Waiters:
    """Looks at the runs that somebody waits for; costs nothing while nobody does."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: dict[str, tuple[Told, asyncio.TimerHandle]] = {}
        self._wake = asyncio.Event()
        self._background = Background(self._run, "saga-waiters")
        self._end_listening: Callable[[], None] | None = None
        self._open = False

    def start(self) -> None:
        """Begin to look."""
        self._open = True
        self._end_listening = self._journal.listen(ENDED_TOPIC, self._wake.set)
        self._background.start()

    def wait(self, run_id: str, seconds: float, told: Told) -> None:
        """Call `told` once: at once where this process stops."""
        if not self._open:
            told(None)
            return
        timer = asyncio.get_running_loop().call_later(seconds, partial(self._end, run_id, None))
        self._waiting[run_id] = (told, timer)
        # It may have ended already.
        self._wake.set()

    def release(self) -> None:
        """Nobody waits any more: the process stops."""
        self._open = False
        for run_id in list(self._waiting):
            self._end(run_id, None)

    async def stop(self) -> None:
        """Look no more. Idempotent."""
        self.release()
        if self._end_listening is not None:
            self._end_listening()
            self._end_listening = None
        await self._background.stop()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK if self._waiting else None):
                    await self._wake.wait()
            self._wake.clear()
            if self._waiting:
                with contextlib.suppress(JournalUnavailable):
                    for shown in await self._journal.read(sagas.ended(tuple(self._waiting))):
                        self._end(shown.run.id, shown)
            await asyncio.sleep(_LEAST)

    def _end(self, run_id: str, shown: Shown | None) -> None:
        waiting = self._waiting.pop(run_id, None)
        if waiting is not None:
            told, timer = waiting
            timer.cancel()
            told(shown)
