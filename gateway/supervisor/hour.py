"""The last hour of each route: every ten seconds, how many requests there were, and how many of them failed.

It is made of the figures that the workers tell anyway, in the process that serves no request. It outlives the workers
that counted, and an upgrade of the supervisor. Routes that split their requests have a count for each upstream besides,
under both names as a snapshot joins labels. Only routes with requests are in a step, so a quiet gateway keeps next
to nothing; with R busy routes it is 360 R pairs of numbers.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from gateway.supervisor.totals import Totals
from gateway.telemetry.metrics.snapshot import NAMES, SEPARATOR, SERIES, Snapshot, labels_of

STEP: Final = 10.0
STEPS: Final = 360
_ALL: Final = "http_request_duration_seconds"
_FAILED: Final = "http_requests_5xx_total"
_PARTS: Final = "split_responses_total"

Step = list[Any]
"""When it ended, in seconds since the epoch, and `{route: [requests, failed]}`."""


class Hour:
    """`note` is to be called once every `STEP` seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._steps: deque[Step] = deque(maxlen=STEPS)
        self._before: dict[str, list[int]] | None = None

    def note(self, totals: Totals) -> None:
        """One more step. The first call only says where counting begins."""
        now = _by_route(totals)
        before, self._before = self._before, now
        if before is None:
            return
        step = {}
        for route, (requests, failed) in now.items():
            old = before.get(route, (0, 0))
            # Where a worker was killed with what it had not told, a sum may be smaller than it was.
            new = [max(0, requests - old[0]), max(0, failed - old[1])]
            if any(new):
                step[route] = new
        self._steps.append([self._clock(), step])

    def all(self) -> list[Step]:
        """Oldest first."""
        return list(self._steps)

    def dump(self) -> dict[str, Any]:
        """Everything, as plain data, for the next process of this supervisor."""
        return {"steps": self.all(), "before": self._before}

    def restore(self, dumped: dict[str, Any]) -> None:
        """Go on with what `dump` gave."""
        self._steps.extend(dumped["steps"])
        self._before = dumped["before"]


def _by_route(totals: Totals) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    gathered = totals.gather()
    for snapshot in (*(each for _, each in gathered["living"]), gathered["dead"]):
        for at, name in enumerate((_ALL, _FAILED)):
            entry = snapshot.get(name)
            if entry is None or "route" not in entry[NAMES]:
                continue
            where = entry[NAMES].index("route")
            for key, value in entry[SERIES].items():
                # Of a histogram: the sum of what was observed, then how often each bucket was met.
                count = sum(value[1:]) if isinstance(value, list) else value
                found.setdefault(labels_of(key, entry[NAMES])[where], [0, 0])[at] += count
        _add_parts(found, snapshot)
    return found


def _add_parts(found: dict[str, list[int]], snapshot: Snapshot) -> None:
    entry = snapshot.get(_PARTS)
    if entry is not None and list(entry[NAMES]) == ["route", "upstream", "status"]:
        for key, count in entry[SERIES].items():
            part, _, status = key.rpartition(SEPARATOR)
            counts = found.setdefault(part, [0, 0])
            counts[0] += count
            counts[1] += count if status == "5xx" else 0
