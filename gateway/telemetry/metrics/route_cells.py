"""What is counted of the requests of one route: how many there were by method and status, and how long they took.

Methods that are not registered share one cell, `_OTHER`. Statuses that are not registered share one for their class,
`1xx` to `5xx`, or `other`.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

from gateway.telemetry.metrics.cells import LATENCY_BOUNDS, Histogram

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
CLIENT_CLOSED: Final = 499

_CLASSES: Final = ("other", "1xx", "2xx", "3xx", "4xx", "5xx")
_REGISTERED: Final = sorted({*[int(status) for status in HTTPStatus], CLIENT_CLOSED})
# By the number of the cell: the status, or the index of a class.
_STATUSES: Final[list[int]] = [*range(len(_CLASSES)), *_REGISTERED]
_OK: Final = _STATUSES.index(200)


def _cell_of(status: int) -> int:
    if status in _REGISTERED:
        return _STATUSES.index(status)
    return status // 100 if 100 <= status < 600 else 0


# A list: a tuple of so many numbers is one type for each of them to the compiler.
_CELL: Final[list[int]] = [_cell_of(status) for status in range(1000)]


class RouteCells:
    """The cells of one route."""

    __slots__ = ("by_method", "duration")

    def __init__(self) -> None:
        # In each list by the number of the cell.
        self.by_method: dict[str, list[int]] = {"GET": [0] * len(_STATUSES)}
        self.duration = Histogram(LATENCY_BOUNDS)

    def exchange(self, method: str, status: int, seconds: float) -> None:
        """HOT. One finished exchange, refused ones included; `seconds` from the request head to the end, 0 for one that
        was refused as soon as it had come."""
        counts = self.by_method.get(method)
        if counts is None:
            counts = self._counts_of(method)
        counts[_CELL[status] if status < len(_CELL) else 0] += 1
        self.duration.observe(seconds)

    def counted(self) -> Iterator[tuple[str, int, int]]:
        """Method, status (below 6: a class, see `label`) and number of the requests, of each cell that has any, and of
        the one that nearly every route will have."""
        for method, counts in self.by_method.items():
            for cell, count in enumerate(counts):
                if count or (cell == _OK and method == "GET"):
                    yield method, _STATUSES[cell], count

    def _counts_of(self, method: str) -> list[int]:
        """The counts of a method that has none yet, or none of its own."""
        return self.by_method.setdefault(method if method in METHODS else "_OTHER", [0] * len(_STATUSES))


def label(status: int) -> str:
    """The label of a status that `counted` tells."""
    return str(status) if status >= len(_CLASSES) else _CLASSES[status]
