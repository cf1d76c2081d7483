"""Readings of key records: everything that comes up in one turn of the event loop, or while a reading is under way, is
one exchange with the store. No reading belongs to a request, so a client that leaves disturbs none."""

import asyncio
import time
from collections.abc import Callable, Mapping

from gateway.fleet.link import Link
from gateway.identity.keys import Read, Record
from gateway.store.keys import KeyStore
from gateway.store.port import StoreUnavailable

_MOST_AT_ONCE = 128
_DOWN = StoreUnavailable("Redis is away")


class KeyLookups:
    """A `KeySource`. Made and used on one event loop."""

    def __init__(self, store: KeyStore, link: Link, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._link = link
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, list[Read]] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def up(self) -> bool:
        """Whether the store answers."""
        return self._link.up

    def read(self, key_id: str, told: Read) -> None:
        """See `KeySource.read`."""
        if self._closed or not self._link.up:
            told(_DOWN, self._clock())
            return
        self._waiting.setdefault(key_id, []).append(told)
        if self._task is None:
            self._task = self._loop.create_task(self._run(), name="key-lookups")

    async def close(self) -> None:
        """Tell everybody who waits that nothing comes any more."""
        self._closed = True
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._tell(list(self._waiting), [_DOWN] * len(self._waiting), self._clock())

    async def _run(self) -> None:
        # What else comes in this turn of the loop is in `_waiting` by the time the task begins.
        try:
            while self._waiting:
                ids = list(self._waiting)[:_MOST_AT_ONCE]
                asked_at = self._clock()
                reads = {key_id: self._waiting.pop(key_id) for key_id in ids}
                try:
                    records: list[Record] = list(await self._store.read_keys(ids))
                except StoreUnavailable as error:
                    self._link.lost(error)
                    records = [error] * len(ids)
                except BaseException:
                    # A defect, or the end: nobody must wait for ever because of it.
                    self._deliver(reads, [_DOWN] * len(ids), asked_at)
                    raise
                self._deliver(reads, records, asked_at)
        finally:
            self._task = None

    def _tell(self, ids: list[str], records: list[Record], asked_at: float) -> None:
        self._deliver({key_id: self._waiting.pop(key_id) for key_id in ids}, records, asked_at)

    def _deliver(self, reads: dict[str, list[Read]], records: list[Record], asked_at: float) -> None:
        for told, record in zip(reads.values(), records, strict=True):
            for each in told:
                try:
                    each(record, asked_at)
                except Exception as error:  # noqa: BLE001 - one request's failure must not become that of the others
                    context = {"message": "telling of a key failed", "exception": error}
                    self._loop.call_exception_handler(context)


class KeyChanges:
    """What the exchange with the fleet reads when something has changed (`gateway.fleet.sync.Followed`): the keys that
    must not be used from memory any more. Each change is told once, because what was read since is good."""

    interval: float | None = None

    def __init__(self, store: KeyStore, forget: Callable[[list[str]], None]) -> None:
        self._store = store
        self._forget = forget
        self._told: Mapping[str, float] = {}

    async def refresh(self) -> None:
        """Raises `StoreUnavailable`."""
        changes = await self._store.changed_keys()
        new = [key_id for key_id, change in changes.items() if self._told.get(key_id) != change]
        self._told = changes
        if new:
            self._forget(new)
