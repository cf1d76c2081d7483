"""How long something takes lately: quantiles over the last minute, in a bounded amount of memory.

    bucket b     times up to LEAST * 2 ** (b / 16), so each bound is 4.4 % above the one before it
    window       six cells of 10 s, the current one included: between 50 and 60 s; cells leave it whole
    quantile q   the bound of the first bucket up to which at least the part q of all times lies: never less than the
                 true quantile, and at most 4.4 % more

Times below 0.1 ms count as 0.1 ms, and those above two minutes as two minutes.
"""

import math
from typing import Final

LEAST: Final = 0.0001
WINDOW: Final = 60.0
PER_DOUBLING: Final = 16
_CELLS: Final = 6
_WIDTH: Final = WINDOW / _CELLS
# The last bound is a little more than two minutes.
_BUCKETS: Final = 325
_SCALE: Final = PER_DOUBLING / math.log(2.0)


class RecentTimes:
    """`count` times are in the window. Instants are of one clock that does not run backwards; all in seconds."""

    __slots__ = ("_cell", "_cell_end", "_cells", "_index", "_sums", "count")

    def __init__(self, now: float) -> None:
        self.count = 0
        # By bucket: of all cells, and of each of them.
        self._sums = [0] * _BUCKETS
        self._cells = [[0] * _BUCKETS for _ in range(_CELLS)]
        self._index = 0
        self._cell = self._cells[0]
        self._cell_end = now + _WIDTH

    def __repr__(self) -> str:
        return f"<RecentTimes {self.count}>"

    def add(self, seconds: float, now: float) -> None:
        """One more. HOT."""
        if now >= self._cell_end:
            self.advance(now)
        bucket = 0
        if seconds > LEAST:
            bucket = min(_BUCKETS - 1, math.ceil(math.log(seconds / LEAST) * _SCALE))
        self._cell[bucket] += 1
        self._sums[bucket] += 1
        self.count += 1

    def quantile(self, part: float, now: float) -> float:
        """The time within which this part of them, above 0 and up to 1, have been; 0 where there is none."""
        if now >= self._cell_end:
            self.advance(now)
        if not self.count:
            return 0.0
        wanted = math.ceil(part * self.count - 1e-9)
        seen = 0
        bucket = 0
        for bucket, count in enumerate(self._sums):  # noqa: B007 - it is read behind the loop
            seen += count
            if seen >= wanted:
                break
        return float(LEAST * math.pow(2.0, bucket / PER_DOUBLING))

    def advance(self, now: float) -> None:
        """Begin the cell of this instant; those that are too old leave."""
        passed = int((now - self._cell_end) / _WIDTH) + 1
        for _ in range(min(passed, _CELLS)):
            self._index = (self._index + 1) % _CELLS
            cell = self._cell = self._cells[self._index]
            for bucket, count in enumerate(cell):
                if count:
                    self._sums[bucket] -= count
                    self.count -= count
                    cell[bucket] = 0
        self._cell_end += passed * _WIDTH
