"""The figures of all workers: the last snapshot of each one that lives, and the sums of what the dead have counted.

    counter of the host = dead + Σ last snapshot of the living, so it never goes down: `ended` moves a worker's last
    snapshot from one term to the other

A family that every worker counts for the same event (`seen`: one trip of a circuit is noticed by all) has one count T
for the host. A worker joins at the T of that moment, and with n events seen since it says that there were base + n.

    T = max over the workers (base + n)

When a worker ends, the others' bases are set to the present T, so that a worker which had seen less than the one that
is gone does not have to catch up before T moves on.

No input or output here, and no clock. What is kept of a worker is lost with the process, unless `dump` takes it over
to the next (the upgrade in place). Snapshots of a worker that was never started, or has ended, are ignored: they come
too late.
"""

from typing import Any, Final

from gateway.telemetry.metrics.snapshot import (
    BOUNDS,
    COMBINE,
    KIND,
    NAMES,
    SEPARATOR,
    SERIES,
    WORKER,
    Snapshot,
    sum_into,
)

_COUNTED: Final = frozenset({"counter", "histogram"})
_ADDED: Final = frozenset({"sum", WORKER})

Worker = tuple[int, int]
"""Slot and pid."""


class Totals:
    """`gather` answers in the form that `gateway.worker.one_service` reads."""

    def __init__(self) -> None:
        # In the order in which they started.
        self._living: dict[Worker, Snapshot] = {}
        self._dead: Snapshot = {}
        # For each living worker, what T was minus what it had seen itself, by family and labels.
        self._bases: dict[Worker, dict[str, dict[str, float]]] = {}

    @property
    def living(self) -> list[Worker]:
        """The workers that have started and not ended."""
        return list(self._living)

    def started(self, slot: int, pid: int) -> None:
        """A worker has begun to count, at nothing. Without effect on one that has begun already."""
        if (slot, pid) not in self._living:
            self._living[slot, pid] = {}
            self._bases[slot, pid] = {
                name: dict(entry[SERIES]) for name, entry in self._dead.items() if entry[COMBINE] == "seen"
            }

    def put(self, slot: int, pid: int, snapshot: Snapshot) -> None:
        """The latest that a worker says."""
        worker = slot, pid
        if worker not in self._living:
            return
        self._living[worker] = snapshot
        for name, entry in snapshot.items():
            if entry[COMBINE] == "seen":
                base = self._bases[worker].setdefault(name, {})
                total = self._kept(name, entry)
                for key, count in entry[SERIES].items():
                    total[key] = max(total.get(key, 0), base.get(key, 0) + count)

    def ended(self, slot: int, pid: int) -> None:
        """A worker is gone; what it counted stays. Without effect on one that is not known."""
        snapshot = self._living.pop((slot, pid), None)
        self._bases.pop((slot, pid), None)
        if snapshot is None:
            return
        for name, entry in snapshot.items():
            if entry[COMBINE] == "seen":
                self._rebase(name)
            elif entry[KIND] in _COUNTED and entry[COMBINE] in _ADDED:
                suffix = ""
                if entry[COMBINE] == WORKER:
                    suffix = f"{SEPARATOR}{slot}" if entry[NAMES] else str(slot)
                sum_into(self._kept(name, entry), entry[SERIES], suffix)

    def gather(self, asking: Worker | None = None) -> dict[str, Any]:
        """`living`: slot and snapshot of each, in the order of their start, where the snapshot of the one that asks is
        left out (None), because it has it; `dead`: what is left of the others, in the form of a snapshot."""
        return {
            "living": [
                [worker[0], None if worker == asking else snapshot] for worker, snapshot in self._living.items()
            ],
            "dead": self._dead,
        }

    def dump(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {
            "living": [[*worker, snapshot, self._bases[worker]] for worker, snapshot in self._living.items()],
            "dead": self._dead,
        }

    @classmethod
    def restored(cls, dumped: dict[str, Any]) -> "Totals":
        """What `dump` gave, in the next process."""
        totals = cls()
        totals._dead = dumped["dead"]
        for slot, pid, snapshot, bases in dumped["living"]:
            totals._living[slot, pid] = snapshot
            totals._bases[slot, pid] = bases
        return totals

    def _kept(self, name: str, entry: list[Any]) -> dict[str, Any]:
        """Where the dead workers' counts of a family are. One that has changed its labels or bounds begins anew."""
        names = [*entry[NAMES], WORKER] if entry[COMBINE] == WORKER else entry[NAMES]
        kept = self._dead.get(name)
        if kept is None or kept[NAMES] != names or kept[BOUNDS:] != entry[BOUNDS:]:
            kept = self._dead[name] = [entry[KIND], entry[COMBINE], names, {}, *entry[BOUNDS:]]
        series: dict[str, Any] = kept[SERIES]
        return series

    def _rebase(self, name: str) -> None:
        total = self._dead[name][SERIES]
        for worker, bases in self._bases.items():
            entry = self._living[worker].get(name)
            seen = entry[SERIES] if entry is not None else {}
            bases[name] = {key: count - seen.get(key, 0) for key, count in total.items()}
