"""Cleaning: what the journal need not keep any longer is deleted in small batches, beside the requests.

A batch is one operation of at most `BATCH` rows, so that it takes about a millisecond and nobody waits long for the
lock of a SQLite file. Where a batch was full, the next one follows after a short pause. Every replica cleans; two of
them delete different rows.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.background import Background
from gateway.journal.port import Journal, JournalUnavailable, Operation

log = logging.getLogger("gateway.journal")

BATCH: Final = 200
_PAUSE: Final = 0.02

Sweep = Callable[[int], Operation[int]]
"""Makes an operation that deletes at most so many rows, and returns how many it has deleted."""


class Cleaner:
    """Runs each of `sweeps` every `interval` seconds until nothing is left for it."""

    def __init__(self, journal: Journal, sweeps: tuple[Sweep, ...], interval: float) -> None:
        self._journal = journal
        self._sweeps = sweeps
        self._interval = interval
        self._background = Background(self._run, "journal-cleaning")

    def start(self) -> None:
        """Begin, with the first cleaning after one interval."""
        self._background.start()

    async def stop(self) -> None:
        """End, within a batch at most."""
        await self._background.stop()

    async def clean(self) -> int:
        """Delete all that is to be deleted now; how many rows that were. Raises JournalUnavailable."""
        total = 0
        for sweep in self._sweeps:
            deleted = BATCH
            while deleted >= BATCH:
                deleted = await self._journal.transact(sweep(BATCH))
                total += deleted
                if deleted >= BATCH:
                    await asyncio.sleep(_PAUSE)
        return total

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                deleted = await self.clean()
            except JournalUnavailable:
                continue  # the journal's own state has the reason
            if deleted:
                log.info("cleaned the journal: %d rows", deleted, extra={"event": "journal_cleaned"})
