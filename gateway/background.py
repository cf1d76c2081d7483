"""Work that goes on beside the requests: a task of its own, on one event loop, from `start` to `stop`."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

log = logging.getLogger("gateway")


class Background:
    """`work` makes the coroutine that goes on until it is stopped. Should it end by an error of its own, that is
    logged: nobody else would notice."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._work = work
        self._name = name
        self._task: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._task is not None

    def start(self) -> None:
        """Begin, on the running loop. Without effect when it has begun."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(), name=self._name)
            self._task.add_done_callback(self._ended)

    async def stop(self) -> bool:
        """Break the work off, and wait until it has ended. Idempotent. Returns whether it had begun."""
        task, self._task = self._task, None
        if task is None:
            return False
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("%s has ended, which it must not", self._name, exc_info=error)


async def repeat(act: Callable[[], Awaitable[object]], interval: float, when_it_fails: str) -> None:
    """Call `act` now and again `interval` seconds after each end of it, for ever. No error ends it: `when_it_fails` is
    logged with the traceback, once until it works again."""
    works = True
    while True:
        try:
            await act()
        except Exception:
            if works:
                log.exception(when_it_fails)
            works = False
        else:
            works = True
        await asyncio.sleep(interval)


class Ticker:
    """Calls `act` every `seconds` on the running loop, from `start` to `stop`, without a task."""

    def __init__(self, act: Callable[[], None], seconds: float = 1.0) -> None:
        self._act = act
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, with the first call in `seconds`."""
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._tick)

    def stop(self) -> None:
        """Call it no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        # Before the call, so that an error of it is not the end.
        self.start()
        self._act()
