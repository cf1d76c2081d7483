"""What tenants use in one day of UTC, counted over the whole fleet.

A request is counted where it passes, in memory. Every `INTERVAL` this replica tells the store what is new and learns
the sums, so a quota is kept to within what the fleet lets through in about that time. A call that fails is repeated as
it was, and the store adds it only once. Without Redis the fleet is the workers of this host, and what their store has
counted ends with it.
"""

import asyncio
import contextlib
import datetime
import time
from collections.abc import Callable
from typing import Final

from gateway.fleet.link import Link
from gateway.identity.tenants import Directory
from gateway.store.port import StoreUnavailable
from gateway.store.usage import UsageStore

INTERVAL: Final = 1.0
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
        # What was told of a day and not confirmed.
        self._sending: tuple[str, dict[str, int]] | None = None
        self._sequence = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to exchange counts."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="usage")

    async def stop(self) -> None:
        """Tell the store what it does not know, if it answers, and end."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        with contextlib.suppress(StoreUnavailable):
            await self.exchange()

    async def exchange(self) -> None:
        """Tell what is new and learn the sums of the day. Raises `StoreUnavailable`, and nothing is lost then."""
        day = day_of(self._wall())
        if not self._link.up:
            self._turn(day)
            return
        if self._sending is not None:
            await self._send()
        if day != self.day:
            # What was counted since the last exchange counts for the day that has just ended.
            self._collect(self.day)
            await self._send()
        self._turn(day)
        self._collect(day)
        sums = await self._send()
        self._directory.meet(sums)
        for account in self._directory.accounts:
            account.used = sums.get(account.tenant, 0) + account.unsent

    def _turn(self, day: str) -> None:
        """A new day begins."""
        if day != self.day:
            self.day = day
            for account in self._directory.accounts:
                account.used = 0

    def _collect(self, day: str) -> None:
        used: dict[str, int] = {}
        for account in self._directory.accounts:
            if account.unsent:
                used[account.tenant] = account.unsent
                account.unsent = 0
        self._sequence += bool(used)
        self._sending = day, used

    async def _send(self) -> dict[str, int]:
        assert self._sending is not None  # noqa: S101 - the callers look
        day, used = self._sending
        sums = dict(await self._store.add_usage(day, self._sequence, used))
        self._sending = None
        return sums

    async def _run(self) -> None:
        while True:
            try:
                await self.exchange()
            except StoreUnavailable as error:
                self._link.lost(error)
            await asyncio.sleep(INTERVAL)
