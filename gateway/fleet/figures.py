"""This replica's part in the fleet's figures: it publishes what it has counted, and reads what all have counted.

Twice a second, while the link is up, it adds to the store's cells what was counted for each service since the last time
(a delta), and puts its new records in front of the fleet's (the newest `MOST_RECORDS` at most). A read publishes first,
so that a replica's own counts are always in its answers, and those of others at most `interval` seconds later.

A delta has a number and is not changed until the store has confirmed it. So it is counted exactly once, also when an
answer is lost. While the store is away, deltas wait for as long as the store would keep them; when it is back, they are
added to the time that they belong to. A replica that dies takes with it what it has counted since its last exchange.

The answers of the store say which services were reset. A replica that learns of a reset forgets its own counts too, and
counts that began before it are not added any more.

Left out on purpose: saying that the link is lost. The sync loop finds that out sooner.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from gateway.background import Background, repeat
from gateway.fleet.link import Link
from gateway.store.port import (
    FIGURES_CELL,
    FIGURES_KEPT,
    FigureDelta,
    FigureStore,
    FigureSum,
    StoreUnavailable,
)

MOST_RECORDS: Final = 200

T = TypeVar("T")


class Counted(Protocol):
    """What this process counts for one service. `last_error_at` is an instant of the clock; None for no error yet."""

    last_error_at: float | None

    def take(self) -> tuple[float, list[int]] | None:
        """The instant at which counting began after the last `take`, and the counts since; None for nothing."""
        ...

    def reset(self) -> None:
        """Forget everything."""
        ...


class Recorded(Protocol):
    """The error records of this process."""

    @property
    def recorded(self) -> int:
        """The number of records so far."""
        ...

    def unpublished(self, after: int, most: int) -> Sequence[bytes]:
        """The newest `most` of the records after the first `after`, oldest first."""
        ...


@dataclass(slots=True)
class _Outbox:
    """What waits to be added for one service. `sent` is under way, or its answer was lost."""

    waiting: deque[tuple[float, list[int]]] = field(default_factory=deque)
    sent: tuple[tuple[float, tuple[int, ...]], ...] = ()
    sequence: int = 0

    def put(self, began: float, counts: list[int]) -> None:
        if self.waiting and self.waiting[-1][0] // FIGURES_CELL == began // FIGURES_CELL:
            last = self.waiting[-1][1]
            last[:] = [before + more for before, more in zip(last, counts, strict=True)]
        else:
            self.waiting.append((began, counts))
        while self.waiting[0][0] < began - FIGURES_KEPT:
            self.waiting.popleft()

    def next(self) -> bool:
        """Whether there is anything to send."""
        if not self.sent and self.waiting:
            self.sequence += 1
            self.sent = tuple((began, tuple(counts)) for began, counts in self.waiting)
            self.waiting.clear()
        return bool(self.sent)


class FleetFigures:
    """The exchange of figures. `start` and `stop` belong to the same event loop.

    `cells` has all services by name, and `width` is the number of counts for one of them. `keep_records` is how many
    records the fleet keeps.
    """

    def __init__(
        self,
        store: FigureStore,
        link: Link,
        cells: Mapping[str, Counted],
        records: Recorded,
        *,
        width: int,
        keep_records: int,
        clock: Callable[[], float] = time.monotonic,
        interval: float = 0.5,
    ) -> None:
        self._store = store
        self._link = link
        self._cells = cells
        self._records = records
        self._width = width
        self._keep_records = keep_records
        self._clock = clock
        self._interval = interval
        self._outboxes = {service: _Outbox() for service in cells}
        self._published = 0
        self._resets: dict[str, int] | None = None
        # There is one exchange at a time: a delta is sent and confirmed before the next one is taken.
        self._turn = asyncio.Lock()
        self._waiting: dict[object, asyncio.Task[Any]] = {}
        self._background = Background(self._run, "fleet-figures")

    def start(self) -> None:
        """Begin to publish every `interval` seconds; without effect when that has begun."""
        self._background.start()

    async def stop(self) -> None:
        """End the loop, and publish what is left if the store answers."""
        if await self._background.stop():
            await self.publish()

    async def publish(self) -> bool:
        """Publish what was counted up to now. False: the store did not answer, and the counts wait."""
        return bool(await self._in_turn("publish", self._nothing_more))

    async def read(self, services: Sequence[str], window: float) -> Sequence[FigureSum] | None:
        """For each service, the fleet's counts of the last `window` seconds. None: the store did not answer."""
        services = tuple(services)
        return await self._in_turn(
            ("read", services, window), lambda: self._store.sum_figures(services, window, self._width)
        )

    async def recent(self, count: int) -> Sequence[bytes] | None:
        """At most `count` records of the fleet, the latest publications first. None: the store did not answer."""
        return await self._in_turn(("recent", count), lambda: self._store.records(count))

    async def reset(self, service: str) -> bool:
        """Forget the service's counts in the whole fleet. False: the store did not answer."""

        async def forget() -> bool:
            await self._store.reset_figures(service)
            self._forget((service,))
            return True

        return bool(await self._in_turn(("reset", service), forget))

    async def _in_turn(self, key: object, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Publish, then ask.

        Callers that want the same before that has begun share the answer, so any number of callers costs the store no
        more than one exchange after another. Cancelling a caller does not end the exchange.
        """
        task = self._waiting.get(key)
        if task is None:
            task = self._waiting[key] = asyncio.create_task(self._take_turn(key, ask))
        found: T | None = await asyncio.shield(task)
        return found

    async def _take_turn(self, key: object, ask: Callable[[], Awaitable[T]]) -> T | None:
        async with self._turn:
            # A caller that comes from now on may have counted something that this exchange does not publish.
            del self._waiting[key]
            self._collect()
            if not self._link.up:
                return None
            try:
                await self._exchange()
                return await ask()
            except StoreUnavailable:
                return None

    @staticmethod
    async def _nothing_more() -> bool:
        return True

    async def _run(self) -> None:
        await repeat(self.publish, self._interval, "the exchange of figures failed")

    def _collect(self) -> None:
        for service, cells in self._cells.items():
            taken = cells.take()
            if taken is not None:
                self._outboxes[service].put(*taken)

    async def _exchange(self) -> None:
        # A second round sends what had to wait because an earlier delta was not confirmed yet.
        again = True
        while again:
            again = any(outbox.sent and outbox.waiting for outbox in self._outboxes.values())
            sent = [service for service, outbox in self._outboxes.items() if outbox.next()]
            self._learn(await self._store.add_figures([self._delta(service) for service in sent]))
            for service in sent:
                self._outboxes[service].sent = ()
        upto = self._records.recorded
        if upto != self._published:
            await self._store.add_records(self._records.unpublished(self._published, MOST_RECORDS), self._keep_records)
            self._published = upto

    def _delta(self, service: str) -> FigureDelta:
        now = self._clock()
        outbox, last = self._outboxes[service], self._cells[service].last_error_at
        cells = tuple((max(0.0, now - began), counts) for began, counts in outbox.sent)
        return FigureDelta(service, outbox.sequence, cells, None if last is None else max(0.0, now - last))

    def _learn(self, resets: Mapping[str, int]) -> None:
        known, self._resets = self._resets, dict(resets)
        if known is None:
            return  # these resets are older than this replica's figures
        self._forget(service for service, number in resets.items() if known.get(service) != number)

    def _forget(self, services: Iterable[str]) -> None:
        for service in services:
            cells = self._cells.get(service)
            if cells is not None:
                # Counts from after the reset are kept; the store does not take those from before it.
                taken = cells.take()
                if taken is not None:
                    self._outboxes[service].put(*taken)
                cells.reset()
