"""Waiting for what happens in another process or thread, and holding promises of promptness against a busy machine.

A test waits for a condition, and never for a time in which it is likely to be true. `PATIENCE` is no promise of the
gateway: it is when a test gives up, and a machine that has time for the test never comes near it.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

PATIENCE: Final = 30.0
_NAP = 0.005


def eventually(condition: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
    """Poll until the condition holds; AssertionError with `what` after `timeout`."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout, f"not {what} within {timeout} s"
        time.sleep(nap(began))


def nap(began: float) -> float:
    """Seconds until the next look, for who has waited since `began` (monotonic clock): longer the longer it lasts.

    Many a look asks a gateway, which takes time from what is waited for, and most of that on a machine that is busy."""
    return min(0.1, 0.01 + (time.monotonic() - began) / 20)


def stands_still(value: Callable[[], float], for_seconds: float = 1.0) -> float:
    """Wait until the value is above zero and has not changed for a while, and return it: how far something got that is
    held up. On a machine that is just slow it goes on, and this with it; AssertionError after `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    seen, since = value(), time.monotonic()
    while not seen or time.monotonic() - since < for_seconds:
        assert time.monotonic() < deadline, f"{seen}, and it goes on"
        time.sleep(0.02)
        if (now := value()) != seen:
            seen, since = now, time.monotonic()
    return seen


class Stopwatch:
    """Seconds since it was entered, less those in which the machine did not run this process though it was due.

    What is promised "within 250 ms" is promised on a machine that runs the gateway. On one that others keep busy, each
    process waits for its turn, this one as much as those under test: a thread that only sleeps says how long.
    """

    def __init__(self) -> None:
        self._began = 0.0
        self._lost = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stopwatch", daemon=True)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        """Up to now."""
        return time.monotonic() - self._began - self._lost

    @property
    def lost(self) -> float:
        """The seconds up to now in which the machine did not run this process though it was due."""
        return self._lost

    def _run(self) -> None:
        now = time.monotonic()
        while not self._stop.wait(_NAP):
            before, now = now, time.monotonic()
            self._lost += max(0.0, now - before - 2 * _NAP)
