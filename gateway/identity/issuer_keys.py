"""The keys of one issuer as this replica has them, and when it is worth asking for them again.

    usable(now)     the keys, from the last good answer; those of a URL for `STALE` seconds at most
    adopt(keys, at) begins with what another worker has fetched
    wanted(now)     a token is signed by none of them that is known: asks for another fetch, at most once in `REFETCH`
    wait(told)      calls back when the fetch that is under way has ended, however it ended

A request never fetches. Whoever does (`gateway.identity.key_sources`) tells `begun`, then `succeeded` or `failed`. An
answer that is no use leaves the keys as they are.
"""

import logging
import time
from collections.abc import Callable
from math import inf
from typing import Final

from gateway.jose.keys import KeySet

log = logging.getLogger("gateway")

STALE: Final = 86_400.0
"""Seconds for which keys are used while the issuer cannot be asked."""
REFETCH: Final = 60.0
"""Seconds between two fetches that tokens with unknown keys have caused."""
_MOST_WAITING: Final = 1000
OUTCOMES: Final = ("fetched", "unreachable", "timeout", "status", "too_large", "malformed")


def _nothing() -> None:
    """Nobody wants to be told."""


class IssuerKeys:
    """`expire` says that the keys come from a URL: they are fetched again and again, and get stale. Those of a file do
    not. `outcomes` counts what came of fetches, or of readings of the file. `problem` says why the last one brought
    nothing, None after a good one. Instants are of the monotonic clock."""

    __slots__ = (
        "_asked_at",
        "_clock",
        "_expire",
        "_waiting",
        "fetching",
        "good_at",
        "keys",
        "next_at",
        "on_removed",
        "outcomes",
        "problem",
        "wake",
    )

    def __init__(self, *, expire: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.keys: KeySet | None = None
        self.good_at = -inf
        self.next_at = clock()
        self.problem: str | None = None
        self.fetching = False
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.wake: Callable[[], None] = _nothing
        """Asks whoever fetches to do so now."""
        self.on_removed: Callable[[], None] = _nothing
        """Told when a key is gone: what it has signed counts no longer."""
        self._expire = expire
        self._clock = clock
        self._asked_at = -inf
        self._waiting: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<IssuerKeys {self.keys} problem={self.problem}>"

    def age(self, now: float) -> float:
        """Seconds since the last good answer, infinity without one."""
        return now - self.good_at

    def usable(self, now: float) -> KeySet | None:
        """The keys, None where there are none or they are too old."""
        return None if self._expire and now - self.good_at > STALE else self.keys

    def retry_after(self, now: float) -> float:
        """Seconds until keys are asked for again, so that it may be worth coming back."""
        return max(0.0, self.next_at - now)

    def wanted(self, now: float) -> bool:
        """Whether an answer is under way that may have the key; asks for one where that is allowed."""
        if self.fetching:
            return True
        if not self._expire or now - self._asked_at < REFETCH:
            return False
        self._asked_at = now
        self.fetching = True
        self.wake()
        return True

    def wait(self, told: Callable[[], None]) -> bool:
        """Call `told` when the fetch under way has ended. False: there is none, or too many wait for it already."""
        if not self.fetching or len(self._waiting) >= _MOST_WAITING:
            return False
        self._waiting.append(told)
        return True

    def adopt(self, keys: KeySet, good_at: float) -> bool:
        """Begin with keys that another worker has fetched, at an instant of the clock that it shares with this one.
        Returns whether they are of use: they are not when they are too old."""
        if self._clock() - good_at > STALE:
            return False
        self.keys, self.good_at = keys, good_at
        return True

    def begun(self) -> None:
        """Somebody asks the issuer now."""
        self.fetching = True

    def succeeded(self, keys: KeySet, again_in: float) -> None:
        """The issuer has answered; it is asked again in so many seconds."""
        before, self.keys = self.keys, keys
        self.good_at = self._clock()
        self.problem = None
        self.outcomes["fetched"] += 1
        if before is not None and not before.fingerprints <= keys.fingerprints:
            self.on_removed()
        self._ended(again_in)

    def failed(self, outcome: str, problem: str, again_in: float) -> None:
        """There is no answer, or none that is of use; `outcome` is one of `OUTCOMES`."""
        self.problem = problem
        self.outcomes[outcome] += 1
        self._ended(again_in)

    def closed(self) -> None:
        """Nobody will ask any more."""
        self._ended(1.0)

    def _ended(self, again_in: float) -> None:
        self.fetching = False
        self.next_at = self._clock() + again_in
        waiting, self._waiting = self._waiting, []
        for told in waiting:
            try:
                told()
            except Exception:
                # One request's failure must not become that of the others, nor of whoever fetches.
                log.exception("telling of the keys of an issuer failed")
