"""How much room there is for records, and making some.

What counts is in the journal, which others fill too. So it is counted there from time to time, more often when it is
nearly full, and what this process adds meanwhile is added to that. Beyond the limits the records whose time is over
are deleted, and if that is not enough the oldest finished ones, in small batches; those that run, or whose outcome is
unknown, never are before their time. Where nothing more can be deleted, new keys are refused.
"""

import asyncio
import contextlib
import time
from typing import Final

from gateway.background import Background
from gateway.config.sections.idempotency.model import IdempotencyLimits
from gateway.journal import idempotency as records
from gateway.journal.cleaning import BATCH
from gateway.journal.port import Journal, JournalUnavailable

_INTERVAL: Final = 5.0
_NEARLY_FULL: Final = 0.5
_NEAR_INTERVAL: Final = 0.25
# Counting takes at most this share of the time, however many records there are.
_SHARE: Final = 0.05
# What is left after room was made.
_AFTER: Final = 0.95
# At once, where it is bytes that have to go: a record may have many.
_FEW: Final = 20


class Capacity:
    """`records` and `bytes` are as of the last count, and what was added here since. `full`: there is no room for
    another record, and none can be made."""

    def __init__(self, journal: Journal, limits: IdempotencyLimits) -> None:
        self.records = 0
        self.bytes = 0
        self.full = False
        self.evicted = 0
        self._journal = journal
        self._limits = limits
        self._background = Background(self._run, "idempotency-capacity")
        self._soon = asyncio.Event()

    def added(self) -> None:
        """A record was made."""
        self.records += 1
        if self.records >= self._limits.max_records:
            self._soon.set()

    def start(self) -> None:
        """Begin to count."""
        self._background.start()

    async def stop(self) -> None:
        """Count no more."""
        await self._background.stop()

    async def look(self) -> None:
        """Count, and make room where there is none. Raises JournalUnavailable."""
        limits = self._limits
        self.records, self.bytes = await self._journal.read(records.totals())
        if self._over:
            # Routes keep keys for different times: the oldest answer may be one that is still promised.
            while await self._journal.transact(records.delete_over(BATCH)) >= BATCH:
                pass
            self.records, self.bytes = await self._journal.read(records.totals())
        if self._over:
            await self._evict(round(limits.max_records * _AFTER), round(limits.max_bytes * _AFTER))
            self.records, self.bytes = await self._journal.read(records.totals())
        self.full = self._over

    async def _evict(self, most: int, most_bytes: int) -> None:
        """Delete the oldest answers. Others who find too many at the same time delete the same ones, not as many again
        each."""
        last = await self._journal.read(records.last_of_excess(most, most_bytes))
        batch = BATCH if self.bytes <= most_bytes else _FEW
        while last is not None:
            deleted = await self._journal.transact(records.delete_oldest(last, batch))
            self.evicted += deleted.records
            if deleted.records < batch:
                return

    @property
    def _over(self) -> bool:
        return self.records >= self._limits.max_records or self.bytes >= self._limits.max_bytes

    async def _run(self) -> None:
        while True:
            began = time.perf_counter()
            with contextlib.suppress(JournalUnavailable):
                await self.look()
            took = time.perf_counter() - began
            near = (
                self.records >= self._limits.max_records * _NEARLY_FULL
                or self.bytes >= self._limits.max_bytes * _NEARLY_FULL
            )
            pause = max(_NEAR_INTERVAL if near else _INTERVAL, took / _SHARE)
            self._soon.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._soon.wait()
