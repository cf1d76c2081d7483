"""What tenants use in one day of UTC, counted over the whole fleet.

A request is counted where it passes, in memory. Every `INTERVAL` this replica tells the store what is new and learns
the sums. It does so at once when it has let pass its part of what was left of a quota:

    part = (quota - sum of the fleet) / replicas, at least 1

So a quota is exceeded by what the fleet lets through during one exchange, or by one request of each replica. Between
two exchanges at least `SHORTEST` passes, and 20 times as long as the store took, so that it has time for others.

A call that fails is repeated as it was, and the store adds it only once. Without Redis the fleet is the workers of this
host, and what their store has counted ends with it.
"""

import asyncio
import contextlib
import datetime
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.background import Background
from gateway.fleet.link import Link
from gateway.identity.tenants import Directory
from gateway.store.port import StoreUnavailable
from gateway.store.usage import DAYS_KEPT, UsageStore

logger = logging.getLogger("gateway.identity")

INTERVAL: Final = 1.0
SHORTEST: Final = 0.02
_SHARE: Final = 20.0
_DAY: Final = 86_400.0


def day_of(now: float) -> str:
    """The day of UTC in which the instant `now` is, as `2027-01-31`."""
    return datetime.datetime.fromtimestamp(now, datetime.UTC).date().isoformat()


def until_midnight(now: float) -> float:
    """The seconds from the instant `now` to the end of its day of UTC."""
    return _DAY - now % _DAY


class Usage:
    """Counts into the accounts of `directory`. While the link is down it counts on, and tells later."""

    def __init__(
        self,
        directory: Directory,
        store: UsageStore,
        link: Link,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._store = store
        self._link = link
        self._wall = wall
        self.day = day_of(wall())
        # What the store has not confirmed: day, sequence, counts. There is one entry for a call that has failed, and
        # one for each midnight without the store, which has forgotten older days than those.
        self._untold: deque[tuple[str, int, dict[str, int]]] = deque(maxlen=DAYS_KEPT)
        self._sequence = 0
        self._bewildered = False
        self._wake = asyncio.Event()
        self._background = Background(self._run, "usage")

    def start(self) -> None:
        """Begin to exchange counts."""
        self._background.start()

    def tell(self) -> None:
        """Tell soon: a quota is near. May be called for each request."""
        self._wake.set()

    async def stop(self) -> None:
        """Tell the store what it does not know, if it answers, and end."""
        if await self._background.stop():
            with contextlib.suppress(StoreUnavailable):
                await self.exchange()

    async def exchange(self) -> None:
        """Tell what is new and learn the sums of the day. Raises `StoreUnavailable`, and nothing is lost then."""
        day = day_of(self._wall())
        if day != self.day:
            self._turn(day)
        if not self._link.up:
            return
        while self._untold:
            await self._send()
        self._collect()
        sums = await self._send()
        self._directory.meet(sums)
        for account in self._directory.accounts:
            account.settle(sums.get(account.tenant, 0), self._link.replicas)

    def _turn(self, day: str) -> None:
        """A new day begins. What was counted since the last exchange counts for the one that has just ended."""
        self._collect()
        self.day = day
        for account in self._directory.accounts:
            account.used = 0

    def _collect(self) -> None:
        used: dict[str, int] = {}
        for account in self._directory.accounts:
            if account.unsent:
                used[account.tenant] = account.unsent
                account.unsent = 0
        self._sequence += bool(used)
        self._untold.append((self.day, self._sequence, used))

    async def _send(self) -> dict[str, int]:
        """Tell the oldest, which stays the oldest until the store has confirmed it."""
        day, sequence, used = self._untold[0]
        sums = dict(await self._store.add_usage(day, sequence, used))
        self._untold.popleft()
        return sums

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self._wake.clear()
            try:
                await self.exchange()
            except StoreUnavailable as error:
                self._link.lost(error)
            except Exception:
                # Quotas depend on this loop, so no defect may end it.
                if not self._bewildered:
                    self._bewildered = True
                    logger.exception("Telling what tenants use failed")
            else:
                self._bewildered = False
            timer = loop.call_later(INTERVAL, self._wake.set)
            await asyncio.sleep(min(INTERVAL, max(SHORTEST, _SHARE * (loop.time() - began))))
            await self._wake.wait()
            timer.cancel()
