"""The priorities of requests: which of them a limit that is nearly reached refuses first.

    a class may hold   100 % (critical), 95 % (high), 90 % (normal), 75 % (low), 50 % (background)   of a limit

So the last places are kept for what matters most, and as the load grows the classes are shed one after the other, the
lowest first. It is decided by the number in flight alone: there is no controller that could swing. The lowest classes
of the fewest places have one place at least.
"""

from typing import Final, Literal

Priority = Literal["critical", "high", "normal", "low", "background"]

PRIORITIES: Final[tuple[Priority, ...]] = ("critical", "high", "normal", "low", "background")
"""The names of the classes. A class is the index of its name: a lower one has a greater number."""

NORMAL: Final = 2
"""The class of a request of which nobody says anything."""

BY_PRIORITY: Final = (100, 95, 90, 75, 50)
"""What each class may hold of a limit, in percent."""

WHOLE: Final = (100, 100, 100, 100, 100)
"""Likewise where nobody has configured priorities."""


def caps(limit: int, percents: tuple[int, ...]) -> list[int]:
    """How many of `limit` places each class may hold: rounded down, and at least 1 unless there is none."""
    return [max(1, limit * percent // 100) if limit > 0 else 0 for percent in percents]


def class_of(name: str) -> int:
    """The class that is called `name`. Raises ValueError for any other word."""
    for number, known in enumerate(PRIORITIES):
        if known == name:
            return number
    raise ValueError(name)
