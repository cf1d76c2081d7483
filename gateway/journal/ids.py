"""Ids of records: a prefix, the time, and what makes them unlike any other."""

import secrets
import time
from collections.abc import Callable
from typing import Final

# Crockford's letters sort as the numbers that they stand for, and have none that is read as another.
_LETTERS: Final = "0123456789abcdefghjkmnpqrstvwxyz"


class RecordIds:
    """Makes ids that grow: from one to the next always, and between processes to the millisecond. Records are listed in
    the order of their ids."""

    def __init__(self, prefix: str, wall: Callable[[], float] = time.time) -> None:
        self._prefix = prefix
        self._wall = wall
        self._last = 0

    def new(self) -> str:
        """The prefix and 26 letters and digits: 48 bits of milliseconds, 80 random bits. Within one millisecond, and
        after the clock was set back, it is the number before this one plus one (https://github.com/ulid/spec,
        "Monotonicity")."""
        milliseconds = int(self._wall() * 1000) & (1 << 48) - 1
        number = milliseconds << 80 | secrets.randbits(80)
        if milliseconds <= self._last >> 80:
            number = self._last + 1
        self._last = number
        return self._prefix + "".join(_LETTERS[number >> shift & 31] for shift in range(125, -1, -5))
