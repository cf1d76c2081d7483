"""The retry budget: what keeps retries from multiplying the load of an upstream that is already failing.

At every retry, over the last `window` seconds:

    retries <= ratio * requests + min_per_second * window

the definition of Finagle's RetryBudget and tower's TpsBudget. The window is ten cells wide, the current one included,
so that it covers between nine and ten tenths of `window`; cells leave it whole, requests and retries together.

Left out on purpose: per-client budgets, and sharing between replicas (each is held to the ratio of its own traffic,
hence so is their sum).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_CELLS: Final = 10


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """Retries in the last `window` seconds may not exceed `ratio` of the requests plus `min_per_second` a second."""

    ratio: float = 0.2
    min_per_second: float = 3.0
    window: float = 10.0


class RetryBudget:
    """The budget of one upstream. Every `now` is an instant of one clock that does not run backwards, in seconds."""

    __slots__ = (
        "_cell_end",
        "_cell_width",
        "_index",
        "_ratio",
        "_requests",
        "_requests_before",
        "_requests_now",
        "_reserve",
        "_retries",
        "_retries_before",
        "_retries_now",
    )

    def __init__(self, settings: BudgetSettings, clock: Callable[[], float]) -> None:
        """`clock` only says when the first cell begins; every later instant is an argument."""
        self._ratio = settings.ratio
        self._reserve = settings.min_per_second * settings.window
        self._cell_width = settings.window / _CELLS
        self._cell_end = clock() + self._cell_width
        self._index = 0
        self._requests = [0] * _CELLS  # of the cells before the current one; the current cell's own entry is zero
        self._retries = [0] * _CELLS
        self._requests_before = 0
        self._retries_before = 0
        self._requests_now = 0
        self._retries_now = 0

    def __repr__(self) -> str:
        retries = self._retries_before + self._retries_now
        return f"<RetryBudget {retries} retries, {self._requests_before + self._requests_now} requests>"

    def request(self, now: float) -> None:
        """Count a request, once, before its first attempt. HOT."""
        if now >= self._cell_end:
            self._advance(now)
        self._requests_now += 1

    def try_spend(self, now: float) -> bool:
        """Whether one more retry is within the budget; if so it is spent."""
        if now >= self._cell_end:
            self._advance(now)
        requests = self._requests_before + self._requests_now
        retries = self._retries_before + self._retries_now
        if retries + 1 > self._ratio * requests + self._reserve:
            return False
        self._retries_now += 1
        return True

    def left(self, now: float) -> int:
        """How many retries the budget has room for, without spending one."""
        if now >= self._cell_end:
            self._advance(now)
        requests = self._requests_before + self._requests_now
        retries = self._retries_before + self._retries_now
        return max(0, int(self._ratio * requests + self._reserve - retries))

    def _advance(self, now: float) -> None:
        """Close the current cell and as many empty ones as have passed, at most all of them."""
        requests, retries, index = self._requests, self._retries, self._index
        requests[index] = self._requests_now
        retries[index] = self._retries_now
        passed = int((now - self._cell_end) / self._cell_width) + 1
        for _ in range(min(passed, _CELLS)):
            index = (index + 1) % _CELLS
            requests[index] = retries[index] = 0
        self._index = index
        self._requests_before = sum(requests)
        self._retries_before = sum(retries)
        self._requests_now = self._retries_now = 0
        self._cell_end += passed * self._cell_width
