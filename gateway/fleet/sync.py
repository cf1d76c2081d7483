"""The replica's exchange with the fleet: it sends its heartbeat and evidence, and receives verdicts.

While the link is up there is one exchange every `interval` seconds. There is one sooner when a circuit of this replica
trips, and when a circuit has to be read (a suspicion is to be decided, an open time ends, or the circuit is half-open).
An exchange carries the circuits that have failures to tell, that are not closed, or that were not read for half a
second. When the store's version has changed, another exchange follows at once and reads them all, and when this replica
has changed a circuit, another one tells the others so. So other replicas act on a trip within the time to confirm it
(see gateway/store/memory/circuit.py) or one interval, whichever is longer, plus a round trip or two.

While the link is down there is one attempt every `RECONNECT` seconds, and one every `interval` as long as it succeeds.
A late answer (see `Store.time_limit`) counts as none: the link is lost when the answer is due, nothing in it is applied
except the number of replicas, and another exchange follows at once. An exchange may be two calls of the store, and each
of them has the whole time limit. Only the very first answer may take as long as it wants, because it includes opening
the connection.

The loop must not die and must not run twice. An exchange that raises something unforeseen counts as a lost link and is
logged with its traceback, once until an exchange works again.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from gateway.alarm import Alarm
from gateway.background import Background
from gateway.fleet.link import Link
from gateway.store.port import CircuitReport, CircuitSnapshot, StoreUnavailable, SyncAnswer

T = TypeVar("T")

logger = logging.getLogger("gateway.fleet")

RECONNECT: Final = 0.25
"""The seconds between two attempts while the link is down."""

SHORTEST: Final = 0.005
"""The least seconds between two exchanges, unless everything has to be read."""


class SyncStore(Protocol):
    """The part of the store port that the loop uses; `gateway.store.port.Store` says what the methods do."""

    @property
    def time_limit(self) -> float: ...

    async def sync(self, reports: Sequence[CircuitReport]) -> SyncAnswer: ...


class Synced(Protocol):
    """The circuits, as the loop sees them (see `gateway.fleet.circuits.Circuits`)."""

    def reports(self, now: float, everything: bool) -> list[CircuitReport]: ...

    def apply(self, report: CircuitReport, snapshot: CircuitSnapshot, epoch: int, now: float) -> None: ...

    def next_look(self, now: float) -> float:
        """The seconds until some circuit has to be read sooner than usual; infinite when none has to."""
        ...


class Followed(Protocol):
    """What else the fleet shares. It is read when the store's version has changed, and every `interval` seconds."""

    @property
    def interval(self) -> float | None:
        """None: it is enough to read when the version has changed."""
        ...

    async def refresh(self) -> None:
        """Read what the store says now. Raises `StoreUnavailable`."""
        ...


class FleetSync:
    """The loop. `start` and `stop` belong to the same event loop. After `stop` the link does not change any more."""

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
        self._background = Background(self._run, "fleet-sync")
        self._version = -1
        self._everything = True
        self._bewildered = False
        self._joined = asyncio.Event()

    def start(self) -> None:
        """Begin the exchanges; without effect when they have begun."""
        self._link.wake = self._wake.set
        self._background.start()

    async def joined(self, within: float) -> None:
        """Wait for the first good answer, for `within` seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._joined.wait()

    async def stop(self) -> None:
        """End the loop, and the exchange that is under way."""
        await self._background.stop()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            delay = await self._exchange()
            # This is cheaper than a timeout around the wait, and it happens twenty times a second for ever.
            timer = loop.call_later(delay, self._wake.set)
            await self._wake.wait()
            timer.cancel()
            self._wake.clear()

    async def _follow(self, followed: Followed, now: float, *, changed: bool) -> bool:
        """Read what else is shared, if it is time. Returns whether the answer came in time."""
        interval = followed.interval
        if changed or (interval is not None and now - self._followed_at >= interval):
            _, in_time = await self._timed(followed.refresh())
            if not in_time:
                return False
            self._followed_at = now
        return True

    async def _timed(self, call: Awaitable[T]) -> tuple[T, bool]:
        """What the store answers, and whether that was in time. The link is lost when the answer is due."""
        link, limit = self._link, self._store.time_limit
        sent_at = self._clock()
        late = link.late(limit)
        alarm = Alarm(asyncio.get_running_loop(), limit, partial(link.lost, late)) if link.up else None
        try:
            answer = await call
        finally:
            if alarm is not None:
                alarm.cancel()
        if alarm.rang if alarm is not None else link.joined and self._clock() - sent_at > limit:
            link.lost(late)
            return answer, False
        return answer, True

    async def _exchange(self) -> float:
        """Make one exchange, and return the seconds until the next one is due."""
        link, circuits = self._link, self._circuits
        try:
            reports = circuits.reports(self._clock(), self._everything or not link.up)
            answer, in_time = await self._timed(self._store.sync(reports))
            now = self._clock()
            if in_time:
                for report, snapshot in zip(reports, answer.circuits, strict=True):
                    circuits.apply(report, snapshot, answer.epoch, now)
                if self._followed is not None:
                    changed = answer.version != self._version or not link.up
                    in_time = await self._follow(self._followed, now, changed=changed)
            if not in_time:
                # The number is right however late it is, and each replica's share depends on it.
                link.replicas = max(1, answer.replicas)
                self._everything = True
                return SHORTEST
        except StoreUnavailable as exc:
            link.lost(exc)
            return RECONNECT
        except Exception as exc:
            # The loop survives anything, because it is the only way back to the fleet.
            if not self._bewildered:
                self._bewildered = True
                logger.exception("The exchange with the fleet failed")
            link.lost(StoreUnavailable(f"the exchange failed ({type(exc).__name__})"))
            return RECONNECT
        self._bewildered = False
        self._everything = answer.version != self._version
        self._version = answer.version
        link.back(answer.replicas)
        self._joined.set()
        if self._everything or answer.again:
            return 0.0
        return max(SHORTEST, min(self._interval, circuits.next_look(now)))
