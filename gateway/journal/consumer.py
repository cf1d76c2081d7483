"""A consumer: takes the records that are due from the journal, and works on each of them in a task of its own.

    claim ──▶ work, at most `most` at once
      ▲
      └── a notice of the journal, or a look from time to time

What `work` does ends with a write that compares the lease (`gateway.journal.leases`). A process that dies leaves its
records to whoever looks when their leases have ended.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import random
import time
from collections.abc import Callable, Coroutine
from typing import Final, Generic, NamedTuple, TypeVar

from gateway.background import Background
from gateway.journal import fault_points
from gateway.journal.port import Journal, JournalUnavailable, Operation

# For records whose pause is over, and for notices that were lost.
_LOOK: Final = 0.5
# Between two looks, however often the journal wakes its listeners.
_LEAST: Final = 0.02
_PROGRAM: Final = f"{random.SystemRandom().getrandbits(64):016x}"
_NUMBERS: Final = itertools.count(1)

Taken = TypeVar("Taken")


def new_owner() -> str:
    """Whoever holds a record from now on. Never used twice, in no process."""
    return f"{os.getpid():x}-{_PROGRAM}-{next(_NUMBERS)}"


class Work(NamedTuple, Generic[Taken]):
    """What a consumer does. `name` begins the names of its events and fault points. `any_due` costs less than a claim.
    `claim` is given the owner and how many at most. `let_go` gives back what was claimed in vain. `work` is given a
    record and the instant of the monotonic clock before its claim; it ends by itself when it is cancelled."""

    name: str
    topic: str
    any_due: Callable[[], Operation[bool]]
    claim: Callable[[str, int], Operation[list[Taken]]]
    let_go: Callable[[Taken], Operation[bool]]
    work: Callable[[Taken, float], Coroutine[object, object, None]]


class Consumer(Generic[Taken]):
    """Runs `work` for at most `most` records at once. Nothing is claimed before `held_until`, an instant of the
    monotonic clock."""

    def __init__(self, journal: Journal, work: Work[Taken], most: int, log: logging.Logger) -> None:
        self.held_until = 0.0
        self._journal = journal
        self._work = work
        self._most = most
        self._log = log
        self._under_way: set[asyncio.Task[None]] = set()
        self._reserved = 0
        self._wake = asyncio.Event()
        self._background = Background(self._run, f"{work.topic}-consumer")
        self._end_listening: Callable[[], None] | None = None

    @property
    def under_way(self) -> int:
        """Records that are being worked on."""
        return len(self._under_way)

    @property
    def free(self) -> int:
        """How many more may be."""
        return self._most - len(self._under_way) - self._reserved

    @property
    def takes(self) -> bool:
        """Whether it is started, and not paused."""
        return self._background.begun

    def start(self) -> None:
        """Begin to take records."""
        self._end_listening = self._journal.listen(self._work.topic, self._wake.set)
        self._background.start()

    async def pause(self) -> None:
        """Take no more; what is under way goes on. Idempotent."""
        if self._end_listening is not None:
            self._end_listening()
            self._end_listening = None
        await self._background.stop()

    async def stop(self) -> None:
        """End: what is under way is broken off. The journal is still open."""
        await self.pause()
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def reserve(self) -> None:
        """One more will be begun with, or not: `give_back` comes before either."""
        self._reserved += 1

    def give_back(self) -> None:
        """What was reserved."""
        self._reserved -= 1
        self._wake.set()

    def begin(self, taken: Taken, began: float) -> None:
        """Work on a record that this process holds since `began`."""
        task = asyncio.get_running_loop().create_task(self._work.work(taken, began))
        self._under_way.add(task)
        task.add_done_callback(self._over)

    async def _run(self) -> None:
        while True:
            pause = max(_LOOK, self.held_until - time.monotonic())
            with contextlib.suppress(JournalUnavailable):
                if self.held_until <= time.monotonic() and self.free > 0 and await self._take():
                    pause = _LEAST
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            await asyncio.sleep(_LEAST)

    async def _take(self) -> bool:
        """Claim what is due and begin with it. Whether there was anything."""
        work = self._work
        if not await self._journal.read(work.any_due()):
            return False
        free = self.free
        if free <= 0:
            return False
        began = time.monotonic()
        # Shielded: what is claimed when this is cancelled has to be let go.
        claim = self._journal.transact(work.claim(new_owner(), free))
        try:
            found = await asyncio.shield(claim)
        except asyncio.CancelledError:
            with contextlib.suppress(JournalUnavailable):
                for each in await claim:
                    await self._journal.transact(work.let_go(each))
            raise
        fault_points.reach(f"{work.name}.claimed")
        for each in found:
            self.begin(each, began)
        return bool(found)

    def _over(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # Its lease ends, and it is taken again.
            event = f"{self._work.name}_error"
            self._log.error("work on a record of the journal has failed", exc_info=error, extra={"event": event})
