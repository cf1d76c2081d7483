"""The replica's exchange with the fleet: heartbeat and evidence out, verdicts in.

While the link is up there is one exchange every `interval`; sooner when a circuit of this replica trips, and when one
is due for a look (a suspicion to be decided, an open time that ends, a half-open circuit). An exchange carries the
circuits that have failures to tell, that are not closed, or that were not read for half a second; when the store's
version has changed, another one follows at once that reads them all. So a trip is acted on elsewhere within the time to
confirm it (see gateway/store/memory/circuit.py) or one interval, whichever is longer, plus a round trip or two.

While the link is down there is one attempt every `RECONNECT` seconds, and one every `interval` as long as it succeeds.
An answer that is late (see `Store.time_limit`) counts as none: the link is lost when it is due, nothing that it says is
applied but the number of replicas, and another exchange follows it at once. Only the very first answer may take as long
as it wants: it has opened the connection.

The loop must not die and must not run twice: an exchange that raises something unforeseen counts as a lost link and is
logged with its traceback, once until it works again.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from gateway.fleet.link import Link
from gateway.store.alarm import Alarm
from gateway.store.port import CircuitReport, CircuitSnapshot, StoreUnavailable, SyncAnswer

logger = logging.getLogger("gateway.fleet")

RECONNECT = 0.25
SHORTEST = 0.005


class SyncStore(Protocol):
    @property
    def time_limit(self) -> float: ...

    async def sync(self, reports: Sequence[CircuitReport]) -> SyncAnswer: ...


class Synced(Protocol):
    """The circuits, as the loop sees them."""

    def reports(self, now: float, everything: bool) -> list[CircuitReport]: ...

    def apply(self, report: CircuitReport, snapshot: CircuitSnapshot, epoch: int, now: float) -> None: ...

    def next_look(self, now: float) -> float:
        """Seconds until some circuit needs to be read sooner than usual; infinite when none does."""
        ...


class Followed(Protocol):
    """What else the fleet shares: read when the version has changed, and every `interval` seconds unless None."""

    @property
    def interval(self) -> float | None: ...

    async def refresh(self) -> None:
        """Raises `StoreUnavailable`."""
        ...


class FleetSync:
    """`start` and `stop` belong to the same event loop. After `stop` the link says nothing new."""

    def __init__(
        self,
        store: SyncStore,
        link: Link,
        circuits: Synced,
        clock: Callable[[], float] = time.monotonic,
        interval: float = 0.06,
        followed: Followed | None = None,
    ) -> None:
        self._followed = followed
        self._followed_at = 0.0
        self._store = store
        self._link = link
        self._circuits = circuits
        self._clock = clock
        self._interval = interval
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._version = -1
        self._everything = True
        self._bewildered = False
        self._joined = asyncio.Event()

    def start(self) -> None:
        if self._task is None:
            self._link.wake = self._wake.set
            self._task = asyncio.get_running_loop().create_task(self._run(), name="fleet-sync")

    async def joined(self, within: float) -> None:
        """Wait for the first good answer, for that many seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._joined.wait()

    async def stop(self) -> None:
        """End the loop, an exchange under way included."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            delay = await self._exchange()
            # Cheaper than a timeout around the wait, twenty times a second for ever.
            timer = loop.call_later(delay, self._wake.set)
            await self._wake.wait()
            timer.cancel()
            self._wake.clear()

    async def _follow(self, followed: Followed, now: float, *, changed: bool) -> None:
        interval = followed.interval
        if changed or (interval is not None and now - self._followed_at >= interval):
            await followed.refresh()
            self._followed_at = now

    async def _exchange(self) -> float:
        """One exchange; seconds to the next."""
        link, circuits = self._link, self._circuits
        sent_at = self._clock()
        limit = self._store.time_limit
        late = StoreUnavailable(f"Redis did not answer within {limit * 1000:.0f} ms")
        alarm = Alarm(asyncio.get_running_loop(), limit, partial(link.lost, late)) if link.up else None
        try:
            reports = circuits.reports(sent_at, self._everything or not link.up)
            answer = await self._store.sync(reports)
            now = self._clock()
            if alarm.rang if alarm is not None else link.joined and now - sent_at > limit:
                link.lost(late)
                link.replicas = max(1, answer.replicas)  # what each one's share follows from is true however late
                self._everything = True
                return SHORTEST
            for report, snapshot in zip(reports, answer.circuits, strict=True):
                circuits.apply(report, snapshot, answer.epoch, now)
            if self._followed is not None:
                await self._follow(self._followed, now, changed=answer.version != self._version or not link.up)
        except StoreUnavailable as exc:
            link.lost(exc)
            return RECONNECT
        except Exception as exc:
            # The loop is the only way back to the fleet: it survives anything.
            if not self._bewildered:
                self._bewildered = True
                logger.exception("The exchange with the fleet failed")
            link.lost(StoreUnavailable(f"the exchange failed ({type(exc).__name__})"))
            return RECONNECT
        finally:
            if alarm is not None:
                alarm.cancel()
        self._bewildered = False
        self._everything = answer.version != self._version
        self._version = answer.version
        link.back(answer.replicas)
        self._joined.set()
        if self._everything:
            return 0.0
        return max(SHORTEST, min(self._interval, circuits.next_look(now)))
