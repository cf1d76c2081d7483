"""How many messages wait, and whether there is room for another one.

Other workers and gateways add and deliver too, so the journal is asked from time to time, more often when there is
little room, and what this process has added meanwhile counts on top. The limit may be exceeded by what others add
between two counts.
"""

import asyncio
import contextlib
import time
from typing import Final

from gateway.journal import outbox
from gateway.journal.outbox import Backlog
from gateway.journal.port import Journal, JournalUnavailable

_INTERVAL: Final = 2.0
_NEARLY_FULL: Final = 0.5
_NEAR_INTERVAL: Final = 0.25
# Counting takes at most this share of the time, however many messages there are.
_SHARE: Final = 0.05


class Depth:
    """`last` is what was counted last."""

    def __init__(self, journal: Journal, max_pending: int) -> None:
        self.last = Backlog(0, 0.0, 0)
        self.max_pending = max_pending
        self._journal = journal
        self._added = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether no more messages are taken."""
        return self._pending >= self.max_pending

    @property
    def _pending(self) -> int:
        return self.last.pending + self._added

    def added(self) -> None:
        """A message is on its way to the journal."""
        self._added += 1

    def start(self) -> None:
        """Begin to count."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Count no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> None:
        """Count now. Raises JournalUnavailable."""
        before = self._added
        self.last = await self._journal.read(outbox.backlog())
        # What was added while it was counted may be among it or not: it counts.
        self._added -= before

    async def _run(self) -> None:
        while True:
            began = time.perf_counter()
            with contextlib.suppress(JournalUnavailable):
                await self.look()
            took = time.perf_counter() - began
            near = self._pending >= self.max_pending * _NEARLY_FULL
            await asyncio.sleep(max(_NEAR_INTERVAL if near else _INTERVAL, took / _SHARE))
