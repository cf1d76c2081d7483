"""Makes one snapshot a second while somebody listens, and sends each listener what has changed.

    event      data
    snapshot   the whole of it, first
    patch      a JSON Merge Patch (RFC 7396) to the one before, once a second; at least `time` is in it
    errors     {"errors": […], "more": …} those that are new, oldest first; at the beginning the latest ones
    end        {"reason": "draining"} the gateway, or this worker of it, ends: connect again

An event is encoded once, for all. Making snapshots begins with the first who asks and ends `LINGER` seconds after the
last one has left. A listener that has not taken `MOST_WAITING` events is dropped, and connects again if it is still
there. There are at most `MOST_LISTENERS`.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from gateway.control.live.counters import Look, Window
from gateway.control.live.snapshot import encoded, snapshot
from gateway.control.parts import ControlledGateway
from gateway.control.serving.problem import RefusalError
from gateway.syntax.merge_patch import difference
from gateway.telemetry.log.render import rfc3339
from gateway.telemetry.metrics.snapshot import Parts
from gateway.telemetry.services.errors import ErrorRecord
from gateway.telemetry.services.rates import DEFAULT_WINDOW

log = logging.getLogger(__name__)

INTERVAL: Final = 1.0
LINGER: Final = 3.0
MOST_LISTENERS: Final = 64
MOST_WAITING: Final = 10
MOST_ERRORS: Final = 100


def _nothing() -> None:
    """Where there is no connection."""


class Listener:
    """What waits for one listener. `next` gives the events in their order, and None at the end."""

    __slots__ = ("_events", "_news", "drop", "ended", "slow")

    def __init__(self) -> None:
        self.drop: Callable[[], None] = _nothing
        """To be set by whoever sends the events: ends the connection at once."""
        self.ended = False
        self.slow = False
        """Whether it was dropped because it did not keep up."""
        self._events: deque[bytes] = deque()
        self._news = asyncio.Event()

    def put(self, event: bytes) -> None:
        """One more event, unless so many wait that this listener is given up."""
        if len(self._events) >= MOST_WAITING:
            self.slow = True
            self._events.clear()
            self.end()
            self.drop()
        elif not self.ended:
            self._events.append(event)
            self._news.set()

    def end(self) -> None:
        """There is nothing more to come."""
        self.ended = True
        self._news.set()

    async def next(self) -> bytes | None:
        """Everything that waits, in one piece; None when it has ended and everything was taken."""
        while not self._events:
            if self.ended:
                return None
            self._news.clear()
            await self._news.wait()
        events = b"".join(self._events)
        self._events.clear()
        return events


class Broadcast:
    """One for each worker. `parts` gives the figures of all workers, as for a scrape."""

    def __init__(
        self,
        gateway: ControlledGateway,
        parts: Callable[[], Awaitable[Parts]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._facts = gateway
        self._parts = parts
        self._clock = clock
        self._listeners: set[Listener] = set()
        self._window = Window()
        self._document: dict[str, Any] = {}
        self._whole = b""
        self._errors: list[ErrorRecord] = []
        self._made = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._wanted_until = 0.0
        self._waiting = 0
        """How many wait for one snapshot."""
        self._ending = False
        self._bewildered = False

    def __repr__(self) -> str:
        return f"<Broadcast to {len(self._listeners)} {'running' if self._task else 'idle'}>"

    @property
    def listeners(self) -> int:
        """How many there are now."""
        return len(self._listeners)

    def listen(self) -> Listener:
        """A new listener, which gets a whole snapshot first. `leave` must follow. Raises `RefusalError` (503) when
        there are too many, or the worker ends."""
        if self._ending:
            raise _ending()
        if len(self._listeners) >= MOST_LISTENERS:
            detail = f"{MOST_LISTENERS} listeners have the live view already."
            raise RefusalError(503, detail, reason="too_many_listeners", retry_after=5.0)
        listener = Listener()
        if self._whole:
            self._begin(listener)
        self._listeners.add(listener)
        self._want()
        return listener

    def leave(self, listener: Listener) -> None:
        """It listens no more. Idempotent."""
        self._listeners.discard(listener)

    async def current(self) -> dict[str, Any]:
        """One whole snapshot, at most a second old. It takes a second where nobody listens, because a rate needs two
        looks. Who asks while the worker ends gets one, too."""
        self._want()
        self._waiting += 1
        try:
            while not self._document or not self._window.seconds:
                self._made.clear()
                await self._made.wait()
            return self._document
        finally:
            self._waiting -= 1

    async def end(self) -> None:
        """Tell every listener that this is the end, and make nothing any more but for those who wait for one snapshot.
        Idempotent."""
        self._ending = True
        for listener in self._listeners:
            listener.put(_event("end", {"reason": "draining"}))
            listener.end()
        task = self._task
        if task is not None and not self._waiting:
            self._forget()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _want(self) -> None:
        self._wanted_until = self._clock() + LINGER
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="live-view")

    async def _run(self) -> None:
        due = self._clock()
        while self._listeners or self._clock() < self._wanted_until:
            try:
                await self._make()
                self._bewildered = False
            except Exception:
                # The next one may go well. What is wrong is logged once until one does.
                if not self._bewildered:
                    self._bewildered = True
                    log.exception("the live view could not be made")
            due = max(due + INTERVAL, self._clock() + INTERVAL / 4)
            await asyncio.sleep(due - self._clock())
        self._forget()

    def _forget(self) -> None:
        # Whoever comes next begins anew: rates over the time in which nobody looked would not be those of now.
        self._window, self._document, self._whole, self._errors = Window(), {}, b"", []
        self._task = None

    async def _make(self) -> None:
        parts = await self._parts()
        rates = await self._facts.figures.rates(DEFAULT_WINDOW)
        recent = (await self._facts.figures.recent(MOST_ERRORS)).records
        self._window.add(Look(self._clock(), parts))
        document = encoded(snapshot(self._facts, self._window, rates))
        patch = _event("patch", difference(self._document, document))
        first = not self._document
        self._document = document
        self._whole = _event("snapshot", document)
        new = [] if first else _new(recent, self._errors)
        self._errors = recent
        told = _event("errors", _told(new, more=len(new) == MOST_ERRORS)) if new else b""
        for listener in list(self._listeners):
            if first:
                self._begin(listener)
            else:
                listener.put(patch + told)
        self._made.set()

    def _begin(self, listener: Listener) -> None:
        listener.put(self._whole + _event("errors", _told(self._errors[::-1], more=False)))


def _ending() -> RefusalError:
    return RefusalError(503, "The gateway is stopping.", reason="draining", retry_after=1.0)


def _new(recent: list[ErrorRecord], before: list[ErrorRecord]) -> list[ErrorRecord]:
    """Those of `recent` that were not there before, oldest first."""
    known = set(before)
    return [each for each in reversed(recent) if each not in known]


def _told(records: list[ErrorRecord], *, more: bool) -> Mapping[str, object]:
    """`more`: there were others, which nobody is told of."""
    return {
        "errors": [
            {
                "time": rfc3339(each.time),
                "requestId": each.request_id,
                "correlationId": each.correlation_id,
                "service": each.service,
                "category": each.category,
                "reason": each.reason,
                "status": each.status,
                "attempt": each.attempt,
                "message": each.message,
            }
            for each in records
        ],
        "more": more,
    }


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    """One event of a stream (WHATWG HTML, section 9.2). JSON of orjson has no line ends."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data))
