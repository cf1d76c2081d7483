"""Whether the store answers: one flag that everything on the request path reads instead of finding out by itself.

Up means that the last exchange worked. Whoever meets `StoreUnavailable` says `lost`, and from then on nobody asks the
store anything; only the sync loop tries to reach it, and says `back`. Each change is logged once.
"""

import logging
import time
from collections.abc import Callable

from gateway.store.port import StoreUnavailable

logger = logging.getLogger("gateway.fleet")


def _nobody() -> None:
    """Nobody to wake."""


class Link:
    """`up` is False until the first exchange has worked. `replicas` (≥ 1) is the number of live ones last seen.

    `since` is the instant of `clock` at which `up` last changed, `last_error` the text of the last failure, and
    `losses` counts how often the link went from up to down. `wake` makes the sync loop look at once; the loop sets it.
    """

    __slots__ = ("_clock", "_told", "last_error", "losses", "replicas", "since", "up", "wake")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.up = False
        self.replicas = 1
        self.since = clock()
        self.last_error: str | None = None
        self.losses = 0
        self.wake: Callable[[], None] = _nobody
        self._clock = clock
        self._told = False

    def __repr__(self) -> str:
        return f"Link(up={self.up}, replicas={self.replicas})"

    def lost(self, cause: StoreUnavailable) -> None:
        """The store did not answer. May be said many times."""
        self.last_error = str(cause)
        if self.up:
            self.up = False
            self.losses += 1
            self.since = self._clock()
            self.wake()
        if not self._told:
            self._told = True
            logger.warning("Redis lost: %s; every replica goes on by itself", cause, extra={"event": "redis_lost"})

    def back(self, replicas: int) -> None:
        """The store answers, and knows of that many replicas."""
        self.replicas = max(1, replicas)
        if not self.up:
            self.up = True
            self.since = self._clock()
        if self._told:
            self._told = False
            logger.info("Redis is back, %d live replicas", self.replicas, extra={"event": "redis_back"})
