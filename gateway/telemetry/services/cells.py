"""What one service has been asked and how often it failed, in ten-second cells for an hour: the counting of
`gateway.telemetry.services.rates`, which says what is counted and what the figures mean.

Left out on purpose: time. The caller passes instants of one monotonic clock.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from gateway.reasons import CATEGORIES

CELL: Final = 10.0
"""Seconds."""
HORIZON: Final = 3600.0
"""Longest window, in seconds."""

REQUESTS: Final = 0
FAILED: Final = 1
ERRORS: Final = 2
FIRST_CATEGORY: Final = 3
FIRST_REFUSED: Final = FIRST_CATEGORY + len(CATEGORIES)
WIDTH: Final = FIRST_REFUSED + len(CATEGORIES)
"""A count vector is requests, failed requests, errors, then one count for each of `CATEGORIES`, then how many of these
were refusals. One without the last part, of an earlier version, is the same with nothing in it."""

# What a cell counts: each event in one place, so that counting is one addition.
_KINDS: Final = len(CATEGORIES)
_GOOD: Final = 0  # requests that ended well
_BAD: Final = 1  # requests that failed, refused ones left aside
_ERRORS_AT: Final = 2
_REFUSALS_AT: Final = _ERRORS_AT + _KINDS
_FAILED_REFUSALS_AT: Final = _REFUSALS_AT + _KINDS
_EVENTS: Final = _FAILED_REFUSALS_AT + _KINDS
_ERRORS: Final[dict[str, int]] = {name: _ERRORS_AT + i for i, name in enumerate(CATEGORIES)}
_REFUSALS: Final[dict[str, int]] = {name: _REFUSALS_AT + i for i, name in enumerate(CATEGORIES)}
_FAILED_REFUSALS: Final[dict[str, int]] = {name: _FAILED_REFUSALS_AT + i for i, name in enumerate(CATEGORIES)}


class ServiceCells:
    """The cells of one service in this process. Instants of one clock, which does not go back."""

    __slots__ = ("_began", "_cell", "_cells", "_end", "_index", "_taken", "_total", "last_error_at", "name")

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.last_error_at: float | None = None
        # The cells before the current one, of those that have something in them.
        self._cells: deque[tuple[int, list[int]]] = deque()
        self._cell = [0] * _EVENTS
        # The end of the current cell. With 0 the next count goes through `_roll`, which notes the time.
        self._end = 0.0
        self._index = int(now // CELL)
        self._began = now
        self._total = [0] * _EVENTS  # The sum of all closed cells, also of those that are no longer kept.
        self._taken = [0] * _EVENTS

    def __repr__(self) -> str:
        return f"<ServiceCells {self.name} {len(self._cells)} cells>"

    def request(self, now: float) -> None:
        """HOT. One request that ended well, or by the client's doing."""
        if now >= self._end:
            self._roll(now)
        self._cell[_GOOD] += 1

    def failed_request(self, now: float) -> None:
        """One request that failed."""
        if now >= self._end:
            self._roll(now)
        self._cell[_BAD] += 1

    def error(self, now: float, category: str) -> None:
        """One failed attempt."""
        if now >= self._end:
            self._roll(now)
        self._cell[_ERRORS[category]] += 1
        self.last_error_at = now

    def refusal(self, now: float, category: str) -> None:
        """HOT. One request that was refused with a 4xx status."""
        if now >= self._end:
            self._roll(now)
        self._cell[_REFUSALS[category]] += 1

    def failed_refusal(self, now: float, category: str) -> None:
        """HOT. One request that was refused with a 5xx status."""
        if now >= self._end:
            self._roll(now)
        self._cell[_FAILED_REFUSALS[category]] += 1
        self.last_error_at = now

    def counts(self, window: float, now: float) -> list[int]:
        """The count vector of the last `window` seconds, the cell in which they begin included as a whole."""
        first = int((now - min(window, HORIZON)) // CELL)
        found = [self._cell] if self._index >= first else [[0] * _EVENTS]
        for index, cell in reversed(self._cells):
            if index < first:
                break
            found.append(cell)
        return _vector([sum(column) for column in zip(*found, strict=True)])

    def take(self) -> tuple[float, list[int]] | None:
        """What was counted since the last `take`, and the instant of the first of it; None for nothing."""
        counted = [closed + current for closed, current in zip(self._total, self._cell, strict=True)]
        if counted == self._taken:
            return None
        delta = [after - before for after, before in zip(counted, self._taken, strict=True)]
        self._taken = counted
        self._end = 0.0
        return self._began, _vector(delta)

    def reset(self) -> None:
        """Forget everything, what was not taken included."""
        self._cells.clear()
        self._cell = [0] * _EVENTS
        self._total = [0] * _EVENTS
        self._taken = [0] * _EVENTS
        self._end = 0.0
        self.last_error_at = None

    def _roll(self, now: float) -> None:
        """Close the cell that is over. Twice a second at most, so HOT no more."""
        index = int(now // CELL)
        if index != self._index:
            cell = self._cell
            if any(cell):
                self._cells.append((self._index, cell))
                self._total = [total + count for total, count in zip(self._total, cell, strict=True)]
                self._cell = [0] * _EVENTS
            self._index = index
            oldest = int((now - HORIZON) // CELL)
            while self._cells and self._cells[0][0] < oldest:
                self._cells.popleft()
            if self.last_error_at is not None and self.last_error_at < now - HORIZON:
                self.last_error_at = None
        if not self._end:
            self._began = now
        self._end = (index + 1) * CELL


def _vector(events: Sequence[int]) -> list[int]:
    """The count vector of what cells have counted."""
    errors = events[_ERRORS_AT:_REFUSALS_AT]
    refusals = events[_REFUSALS_AT:_FAILED_REFUSALS_AT]
    failed_refusals = events[_FAILED_REFUSALS_AT:]
    failed = events[_BAD] + sum(failed_refusals)
    by_category = [sum(each) for each in zip(errors, refusals, failed_refusals, strict=True)]
    requests = events[_GOOD] + sum(refusals) + failed
    return [requests, failed, sum(errors) + sum(failed_refusals), *by_category, *refusals]
