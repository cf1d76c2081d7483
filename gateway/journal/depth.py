"""How many records wait, and whether there is room for another one.

Other workers and gateways add and end records too, so the journal is asked from time to time, more often when there is
little room, and what this process has added meanwhile counts on top. The limit may be exceeded by what others add
between two counts.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from gateway.background import Background
from gateway.journal.port import Journal, JournalUnavailable, Operation

_INTERVAL: Final = 2.0
_NEARLY_FULL: Final = 0.5
_NEAR_INTERVAL: Final = 0.25
# Counting takes at most this share of the time, however many records there are.
_SHARE: Final = 0.05


class Counted(Protocol):
    """What a count has found."""

    @property
    def pending(self) -> int:
        """Records that have not ended."""
        ...

    @property
    def bytes(self) -> int:
        """What they take, where that is limited."""
        ...


Backlog = TypeVar("Backlog", bound=Counted)


class Depth(Generic[Backlog]):
    """`last` is what was counted last; at first `nothing`. `count` makes the operation that counts, and `counted` is
    told what it has found. `max_bytes` None: only the number is limited."""

    def __init__(
        self,
        journal: Journal,
        count: Callable[[], Operation[Backlog]],
        nothing: Backlog,
        max_pending: int,
        counted: Callable[[Backlog], None] = lambda _: None,
        max_bytes: int | None = None,
    ) -> None:
        self.last = nothing
        self.max_pending = max_pending
        self.max_bytes = max_bytes
        self._journal = journal
        self._count = count
        self._counted = counted
        self._added = 0
        self._added_bytes = 0
        self._background = Background(self._run, "journal-depth")

    @property
    def pending(self) -> int:
        """How many wait, as far as this process knows."""
        return self.last.pending + self._added

    @property
    def bytes(self) -> int:
        """What they take, as far as this process knows."""
        return self.last.bytes + self._added_bytes

    @property
    def full(self) -> bool:
        """Whether no more are taken."""
        return self._reaches(1.0)

    def added(self, size: int = 0) -> None:
        """A record is on its way to the journal. `size` in bytes, where they are limited."""
        self._added += 1
        self._added_bytes += size

    def start(self) -> None:
        """Begin to count."""
        self._background.start()

    async def stop(self) -> None:
        """Count no more."""
        await self._background.stop()

    async def look(self) -> None:
        """Count now. Raises JournalUnavailable."""
        before, bytes_before = self._added, self._added_bytes
        self.last = await self._journal.read(self._count())
        # What was added while it was counted may be among it or not: it counts.
        self._added -= before
        self._added_bytes -= bytes_before
        self._counted(self.last)

    async def _run(self) -> None:
        while True:
            began = time.perf_counter()
            with contextlib.suppress(JournalUnavailable):
                await self.look()
            took = time.perf_counter() - began
            near = self._reaches(_NEARLY_FULL)
            await asyncio.sleep(max(_NEAR_INTERVAL if near else _INTERVAL, took / _SHARE))

    def _reaches(self, share: float) -> bool:
        if self.pending >= self.max_pending * share:
            return True
        return self.max_bytes is not None and self.bytes >= self.max_bytes * share
