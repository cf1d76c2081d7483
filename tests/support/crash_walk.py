"""How long the crash walks are: short in the test suite, and as long as `CRASH_WALK_REQUESTS` says (`make crash-walk`).

In a longer walk the gateway dies later, in the same proportion, so there is as much behind each point as before it.
"""

import os
from typing import Final

from tests.support.waiting import PATIENCE

_REQUESTS: Final = int(os.environ.get("CRASH_WALK_REQUESTS", "0"))


class Walk:
    """`requests` of one case, `usual` of them in the test suite. Its end is waited for `patience` seconds."""

    def __init__(self, usual: int) -> None:
        self.requests: Final = _REQUESTS or usual
        self.patience: Final = PATIENCE * max(1.0, self.requests / usual / 4)
        self._usual = usual

    def at(self, number: int) -> int:
        """How often a point is passed, which is passed `number` times in the test suite. The first time is the first
        in every walk: there something is missing that is there from then on."""
        return number if number == 1 else max(number, number * self.requests // self._usual)

    def point(self, point: str) -> str:
        """The same of a fault point, such as `saga.sent:9`. There are fewer commits than that: under load one carries
        several operations."""
        name, _, number = point.partition(":")
        times = self.at(int(number))
        return f"{name}:{max(int(number), times // 4) if name.startswith('journal.') else times}"
