"""A share of events, without chance: whatever the share, the events that are taken are spread evenly over all of them.

    the n-th event is taken if the fraction of n * phi is below the share        phi = 0.618..., the golden ratio less 1

The multiples of phi are spread over the interval from 0 to 1 as evenly as can be, and in no rhythm (H. Weyl, 1916). So
the number that is taken differs by less than 4 from the share of the first 100 000 events. Every tenth event would do
even better, but where requests come in a rhythm of their own, it would always take the same kind of them.
"""

from typing import Final

_WHOLE: Final = 1 << 32
# phi in these units. It is odd, so all values come before one comes again.
_STEP: Final = 2_654_435_769


class Percentage:
    """Takes `percent` of the events, from 0 to 100."""

    __slots__ = ("_at", "_below")

    def __init__(self, percent: float) -> None:
        self._below = round(percent / 100.0 * _WHOLE)
        self._at = 0

    def next(self) -> bool:
        """Whether the next event is taken. HOT."""
        self._at = (self._at + _STEP) % _WHOLE
        return self._at < self._below
