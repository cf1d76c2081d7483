"""A share of the event loop's time for work that may be asked for without limit, such as answering polls.

    balance(t) = min(burst, balance(t₀) + share · (t - t₀)) - what was spent

Work is done anew while the balance is positive. Otherwise the last result is used again. So one poll a second always
gets what is true now. A thousand polls a second cost no more than `share` of the loop, and get what was true at most
cost / share seconds ago.
"""

import time
from collections.abc import Callable


class Allowance:
    """`share` of the time of `clock`, saved up to `burst` seconds."""

    __slots__ = ("_at", "_balance", "_burst", "_clock", "_share")

    def __init__(self, share: float = 0.05, burst: float = 0.1, clock: Callable[[], float] = time.perf_counter) -> None:
        self._share = share
        self._burst = burst
        self._clock = clock
        self._balance = burst
        self._at = clock()

    @property
    def open(self) -> bool:
        """Whether anything may be spent now."""
        now = self._clock()
        self._balance = min(self._burst, self._balance + self._share * (now - self._at))
        self._at = now
        return self._balance > 0.0

    def spend(self, seconds: float) -> None:
        """Take `seconds` from the balance, which may become negative."""
        self._balance -= seconds
