"""What a worker has counted, as plain data, and the figures of several workers as one.

    snapshot    {family: [kind, combine, label names, {labels: value}, bounds]}
    exemplars   a family of this name: its labels are family, labels and bucket, its values [trace id, value, time]
    labels      the values, joined with SEPARATOR
    value       a number; of a histogram [sum, count of each bucket …], not cumulative; infinities as text

A family says how its series combine (`cells.Combine`). With `dead`, what the workers have counted that are gone:

    sum      dead + all living          counters, histograms, most gauges
    min      the least of the living    1 where it must be so for all
    max      the largest of the living  worst states, ages
    seen     one fleet-wide event that every worker counts: the supervisor keeps the one count, in `dead`
    worker   a series for each slot, label `worker`: a counter is dead + living of the slot, a gauge the newest worker's
    mine     the value of the worker that was asked, which speaks for all

Only counters and histograms are kept of the dead. A family that the asked worker does not know, or knows with other
labels (it runs another version), is shown as the newest of the others has it.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import add
from typing import Any, Final

from gateway.telemetry.metrics.cells import Exemplar, Family, HistogramFamily, Labels

log = logging.getLogger(__name__)

Series = dict[str, Any]
Entry = list[Any]
Snapshot = dict[str, Entry]

KIND: Final = 0
COMBINE: Final = 1
NAMES: Final = 2
SERIES: Final = 3
BOUNDS: Final = 4

SEPARATOR: Final = "\x1f"
EXEMPLARS: Final = "exemplars"
"""No metric: it travels with them, and whoever does not know it leaves it alone."""
WORKER: Final = "worker"


_NONE: Final[Entry] = [EXEMPLARS, "mine", [], {}]


def taken(families: Iterable[Family | HistogramFamily]) -> Snapshot:
    """The values of this moment. A family whose reader raises is left out and logged."""
    found: Snapshot = {}
    exemplars: Series = {}
    for family in families:
        try:
            if isinstance(family, Family):
                found[family.name] = _simple(family)
            else:
                found[family.name] = _histograms(family)
                exemplars.update(_exemplars(family))
        except Exception:
            # One broken gauge must not blind the operator to the rest.
            log.exception("metric could not be read", extra={"metric": family.name})
    if exemplars:
        found[EXEMPLARS] = [EXEMPLARS, "mine", [], exemplars]
    return found


def _exemplars(family: HistogramFamily) -> Series:
    return {
        SEPARATOR.join((family.name, key_of(labels), str(bucket))): [each.trace_id, each.value, each.at]
        for labels, histogram in family.read()
        for bucket, each in (histogram.exemplars or {}).items()
    }


def _simple(family: Family) -> Entry:
    series: Series = {}
    for labels, value in family.read():
        plain = value if type(value) is int or math.isfinite(value) else repr(value)
        series[key_of(labels)] = plain
    return [family.kind, family.combine, list(family.label_names), series]


def _histograms(family: HistogramFamily) -> Entry:
    series: Series = {}
    bounds: tuple[float, ...] | None = None
    for labels, histogram in family.read():
        if bounds is None:
            bounds = histogram.bounds
        if histogram.bounds == bounds:
            series[key_of(labels)] = [histogram.total, *histogram.buckets]
    return ["histogram", "sum", list(family.label_names), series, list(bounds or ())]


def key_of(labels: Labels) -> str:
    """The labels as one text. Lone surrogates, which JSON does not have, become question marks."""
    key = labels[0] if len(labels) == 1 else SEPARATOR.join(labels)
    return key if key.isascii() else key.encode("utf-8", "replace").decode()


def labels_of(key: str, names: Sequence[str]) -> Labels:
    """The other way round."""
    return tuple(key.split(SEPARATOR)) if names else ()


def sum_into(total: Series, series: Mapping[str, Any], suffix: str = "") -> None:
    """Add counters or histograms to others. `suffix` is appended to the keys that are added."""
    for key, value in series.items():
        before = total.get(key + suffix)
        if before is None:
            total[key + suffix] = value
        elif type(value) is list:
            total[key + suffix] = list(map(add, before, value))
        else:
            total[key + suffix] = before + value


def alike(one: Entry, other: Entry) -> bool:
    """Whether two entries of the same name can be combined."""
    return one[:SERIES] == other[:SERIES] and one[BOUNDS:] == other[BOUNDS:]


class Parts:
    """What is to be combined: the snapshots of the living workers with their slots, in the order in which they started,
    `own` among them, and what the dead have counted."""

    __slots__ = ("_dead", "_living", "_own")

    def __init__(self, own: Snapshot, living: Sequence[tuple[int, Snapshot]], dead: Snapshot) -> None:
        self._own = own
        self._living = living
        self._dead = dead

    @property
    def names(self) -> Iterator[str]:
        """Every family, those of the asked worker first."""
        known = {EXEMPLARS, *self._own}
        yield from (name for name in self._own if name != EXEMPLARS)
        for snapshot in (*(each for _, each in self._living), self._dead):
            for name in snapshot:
                if name not in known:
                    known.add(name)
                    yield name

    def exemplars(self) -> dict[tuple[str, str], dict[int, Exemplar]]:
        """By family and labels, the latest of each bucket that a living worker has."""
        found: dict[tuple[str, str], dict[int, Exemplar]] = {}
        for _, snapshot in self._living:
            for key, (trace_id, value, at) in snapshot.get(EXEMPLARS, _NONE)[SERIES].items():
                family, _, rest = key.partition(SEPARATOR)
                labels, _, bucket = rest.rpartition(SEPARATOR)
                buckets = found.setdefault((family, labels), {})
                before = buckets.get(int(bucket))
                if before is None or before.at <= at:
                    buckets[int(bucket)] = Exemplar(trace_id, value, at)
        return found

    def combined(self, name: str) -> Entry:
        """One family of all workers."""
        shape = self._own.get(name) or next((each[name] for _, each in reversed(self._living) if name in each), None)
        dead = self._dead.get(name)
        if shape is None:
            return dead if dead is not None else ["gauge", "mine", [], {}]
        living = [(slot, each[name]) for slot, each in self._living if name in each and alike(each[name], shape)]
        kind, combine, names, _, *bounds = shape
        if combine == WORKER:
            names = [*names, WORKER]
        gone: Series = {}
        if dead is not None and dead[NAMES] == names and dead[BOUNDS:] == bounds:
            gone = dead[SERIES]
        if combine == "mine":
            series = shape[SERIES]
        elif combine == "seen":
            series = {**shape[SERIES], **gone}
        elif combine == WORKER:
            series = _by_worker(kind, living, gone)
        elif combine == "sum":
            series = dict(gone)
            for _, entry in living:
                sum_into(series, _numbers(entry[SERIES]))
        else:
            series = _extreme(min if combine == "min" else max, [_numbers(entry[SERIES]) for _, entry in living])
        return [kind, combine, names, _numbers(series), *bounds]


def _by_worker(kind: str, living: Iterable[tuple[int, Entry]], gone: Series) -> Series:
    series = dict(gone)
    for slot, entry in living:
        suffix = f"{SEPARATOR}{slot}" if entry[NAMES] else str(slot)
        if kind == "counter":
            sum_into(series, entry[SERIES], suffix)
        else:
            series.update({key + suffix: value for key, value in entry[SERIES].items()})
    return series


def _extreme(choose: Any, all_series: Iterable[Series]) -> Series:
    found: Series = {}
    for series in all_series:
        for key, value in series.items():
            found[key] = choose(found[key], value) if key in found else value
    return found


def _numbers(series: Series) -> Series:
    """With infinities, which travel as text, as numbers again."""
    if any(type(value) is str for value in series.values()):
        return {key: float(value) if type(value) is str else value for key, value in series.items()}
    return series
