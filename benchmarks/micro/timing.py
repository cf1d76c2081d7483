"""Timing of a function without arguments, and of the reference beside it."""

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from benchmarks.observations import spread

Case = Callable[[], object]

_REPETITIONS = 9
_BATCH_SECONDS = 0.012


@dataclass(frozen=True, slots=True)
class Timing:
    """`ns` per call, the call of the case itself included (some 40 ns); `ratio` to the reference, `spread` of that."""

    name: str
    ns: float
    ratio: float
    spread: float


def reference() -> object:
    """What a request path is made of: attributes, dictionaries, bytes, calls. About a microsecond."""
    cells = {b"host": 0, b"via": 1}
    found = 0
    for name in (b"Host", b"Accept", b"Via", b"User-Agent"):
        code = cells.get(name.lower())
        if code is not None:
            found += code
    return b"%b: %d\r\n" % (b"X-Found", found)


def time_cases(cases: Iterable[tuple[str, Case]]) -> list[Timing]:
    """Each case in batches, alternating with batches of the reference; the collector is off meanwhile."""
    base_batch = _batch_size(reference)
    timings = []
    for name, case in cases:
        batch = _batch_size(case)
        costs, ratios = [], []
        for _ in range(_REPETITIONS):
            base = _nanoseconds(reference, base_batch)
            cost = _nanoseconds(case, batch)
            costs.append(cost)
            ratios.append(cost / base)
        timings.append(Timing(name, median(costs), median(ratios), spread(ratios)))
    return timings


def _batch_size(case: Case) -> int:
    case()
    count = 1
    while (seconds := _nanoseconds(case, count) * count / 1e9) < _BATCH_SECONDS / 4:
        count *= 4
    return max(1, int(count * _BATCH_SECONDS / seconds))


def _nanoseconds(case: Case, count: int) -> float:
    rounds = range(count)
    enabled = gc.isenabled()
    gc.disable()
    try:
        # CPU time of this thread: what else the machine does in between is not counted.
        started = time.thread_time_ns()
        for _ in rounds:
            case()
        return (time.thread_time_ns() - started) / count
    finally:
        if enabled:
            gc.enable()
