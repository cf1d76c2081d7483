"""What each service has been asked and how often it failed, in ten-second cells for an hour.

A service is an upstream, or the gateway itself for requests that never came to concern one (no route, malformed, shed,
draining). Every request is counted for exactly one service, once, when it is over, so that a client that counts its own
requests and failures finds the same numbers:

    requests          requests that are over
    failed_requests   of these, the ones that ended in a 5xx, from the upstream or generated, or were cut off
    error_rate        failed_requests / requests, 0 when there are none
    errors            failed attempts (5xx, timeout, refused, reset, protocol error, cut off) and refusals with a 5xx
                      status that no failed attempt led to (circuit_open, bulkhead_full, draining, ...)
    refused           refusals with a 4xx status: the limits at work, or a client's mistake. No failure of the service.
    by_category       errors and refused by category; they sum up to errors + refused
    main_error        the category that most errors are of, refusals left aside

A request that is rescued by a retry is an error and no failed request; one that fails three times is three errors and
one failed request. Free retries of stale connections and clients that leave are neither. A 4xx of the upstream is an
answer like any other.

    errors_per_minute = errors * 60 / window

A window is as wide as asked and up to one cell (10 s) more: the cell in which it begins counts as a whole. Nothing ever
scans errors; reading costs one addition for each cell that has something in it.

Left out on purpose: time. The caller passes instants of one monotonic clock.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from gateway.reasons import CATEGORIES

CELL: Final = 10.0
"""Seconds."""
HORIZON: Final = 3600.0
"""Longest window, in seconds."""
DEFAULT_WINDOW: Final = 300.0
"""The window of figures that name none, in seconds: the runbook's five minutes."""

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
_ERRORS_AT, _REFUSALS_AT, _FAILED_REFUSALS_AT, _EVENTS = (2 + part * _KINDS for part in range(4))
_ERRORS: Final[Mapping[str, int]] = {name: _ERRORS_AT + i for i, name in enumerate(CATEGORIES)}
_REFUSALS: Final[Mapping[str, int]] = {name: _REFUSALS_AT + i for i, name in enumerate(CATEGORIES)}
_FAILED_REFUSALS: Final[Mapping[str, int]] = {name: _FAILED_REFUSALS_AT + i for i, name in enumerate(CATEGORIES)}

Scope = Literal["fleet", "process"]


class Rate(NamedTuple):
    """The figures of one service over the last `window` seconds.

    `last_error_time` is seconds since the epoch, None if there was none within the hour. `scope` says whose they are:
    "process" while the store is away. `refused_by_category` is the part of
    `by_category` that is `refused`.
    """

    service: str
    window: float
    requests: int
    failed_requests: int
    errors: int
    refused: int
    by_category: dict[str, int]
    refused_by_category: dict[str, int]
    last_error_time: float | None
    scope: Scope

    @property
    def error_rate(self) -> float:
        """From 0 to 1."""
        return self.failed_requests / self.requests if self.requests else 0.0

    @property
    def errors_per_minute(self) -> float:
        """The mean over the window."""
        return self.errors * 60.0 / self.window

    @property
    def main_error(self) -> tuple[str, int] | None:
        """The category that most errors are of, and how many; None without errors."""
        errors = {name: count - self.refused_by_category.get(name, 0) for name, count in self.by_category.items()}
        category = max(errors, key=lambda name: errors[name], default="")
        return (category, errors[category]) if self.errors and errors.get(category, 0) > 0 else None


def rate(service: str, window: float, counts: Sequence[int], last_error_time: float | None, scope: Scope) -> Rate:
    """The figures that a count vector stands for. `by_category` has all ten categories, in their order."""
    by_category = dict(zip(CATEGORIES, counts[FIRST_CATEGORY:FIRST_REFUSED], strict=True))
    refused_by_category = dict(zip(CATEGORIES, counts[FIRST_REFUSED:], strict=True))
    errors = counts[ERRORS]
    # While a fleet's cells are pruned, the parts of one sum may come from two instants. Never show less than zero.
    refused = max(0, sum(by_category.values()) - errors)
    return Rate(
        service,
        window,
        counts[REQUESTS],
        counts[FAILED],
        errors,
        refused,
        by_category,
        refused_by_category,
        last_error_time,
        scope,
    )


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
