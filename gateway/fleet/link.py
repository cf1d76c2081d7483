"""Whether the store answers: one flag that everything on the request path reads instead of finding out by itself.

The link is up when the last exchange worked. Whoever meets `StoreUnavailable`, or an answer that is late, calls `lost`.
From then on only the sync loop tries to reach the store, and it calls `back` for each good answer. Each change is
logged once.

A store that comes and goes several times a second would change the way of deciding as often. So a link that is lost
within `STEADY` seconds of its return needs twice as many good answers in a row as the last time before it is up again,
`MOST_ANSWERS` at most. A link that was steady needs one.

While the gateway starts, it waits for the first answer instead of working without the store. So `lost` is not logged
until `started` has been called.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from gateway.store.port import StoreUnavailable

logger = logging.getLogger("gateway.fleet")

STEADY: Final = 5.0
MOST_ANSWERS: Final = 6  # there is one every 60 ms, so a return is noticed well within a second


def _nobody() -> None:
    """Does nothing, where nobody is to be called."""


class Link:
    """`up` is False until the first exchange has worked. `replicas` (≥ 1) is the number of live ones last seen.

    `since` is the instant of `clock` at which `up` last changed, `last_error` the text of the last failure, and
    `losses` counts how often the link went from up to down. `wake` makes the sync loop look at once; the loop sets it.
    `returned` is called when the link comes up; the limiter sets it. `store` is what the store is called in log lines,
    at the beginning of a sentence.
    """

    __slots__ = (
        "_answers",
        "_clock",
        "_needed",
        "_told",
        "last_error",
        "losses",
        "replicas",
        "returned",
        "since",
        "starting",
        "store",
        "up",
        "wake",
    )

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, starting: bool = False, store: str = "Redis"
    ) -> None:
        self.store = store
        self.up = False
        self.replicas = 1
        self.since = clock()
        self.last_error: str | None = None
        self.losses = 0
        self.starting = starting
        self.wake: Callable[[], None] = _nobody
        self.returned: Callable[[], None] = _nobody
        self._clock = clock
        self._answers = 0
        self._needed = 1
        self._told = False

    def __repr__(self) -> str:
        return f"Link(up={self.up}, replicas={self.replicas})"

    @property
    def joined(self) -> bool:
        """Whether the link was ever up."""
        return self.up or self.losses > 0

    def started(self, waited: float) -> None:
        """The gateway begins to work now, after it has waited `waited` seconds for the store."""
        self.starting = False
        if not self.up:
            self._tell(f"no answer within {waited:.1f} s of the start ({self.last_error or 'nothing was said'})")

    def lost(self, cause: StoreUnavailable) -> None:
        """The store did not answer, or not in time. May be called many times."""
        self.last_error = str(cause)
        self._answers = 0
        if self.up:
            now = self._clock()
            self._needed = min(2 * self._needed, MOST_ANSWERS) if now - self.since < STEADY and self.losses else 1
            self.up = False
            self.losses += 1
            self.since = now
            self.wake()
        if not self.starting:
            self._tell(str(cause))

    def back(self, replicas: int) -> None:
        """The store has answered in time, and knows of `replicas` replicas."""
        self.replicas = max(1, replicas)
        if not self.up:
            self._answers += 1
            if self._answers < self._needed:
                return
            self.up = True
            self.since = self._clock()
            self.returned()
        if self._told:
            self._told = False
            logger.info("%s is back, %d live replicas", self.store, self.replicas, extra={"event": self._event("back")})

    def _tell(self, cause: str) -> None:
        if not self._told:
            self._told = True
            logger.warning(
                "%s lost: %s; every replica goes on by itself", self.store, cause, extra={"event": self._event("lost")}
            )

    def late(self, limit: float) -> StoreUnavailable:
        """What an answer that took longer than `limit` seconds comes to."""
        return StoreUnavailable(f"{self.store} did not answer within {limit * 1000:.0f} ms")

    def _event(self, what: str) -> str:
        return f"{self.store.lower().replace(' ', '_')}_{what}"
