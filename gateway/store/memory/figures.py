"""What the replicas of one process have counted: the reference for `lua/figures.lua`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from gateway.store.port import FIGURES_CELL, FIGURES_KEPT, FigureDelta, FigureSum


@dataclass(slots=True)
class ServiceFigures:
    """The keys of `cells` are the numbers of cells since the epoch. `seen` holds the last sequence of each replica,
    with its cell. `cleaned` is the cell in which what is too old was dropped last."""

    reset_at: float = float("-inf")
    cells: dict[int, list[int]] = field(default_factory=dict)
    seen: dict[str, tuple[int, int]] = field(default_factory=dict)
    last_error_at: float | None = None
    cleaned: int = 0

    def clean(self, now: float) -> None:
        """Drop what is too old."""
        oldest = int((now - FIGURES_KEPT) // FIGURES_CELL)
        self.cells = {index: cell for index, cell in self.cells.items() if index >= oldest}
        self.seen = {replica: seen for replica, seen in self.seen.items() if seen[1] >= oldest}


class FigureTable:
    """What several `MemoryFigures` share, as replicas share a Redis. A service is forgotten when nobody has counted for
    it for `FIGURES_KEPT` seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.services: dict[str, ServiceFigures] = {}
        self.resets: dict[str, tuple[int, float]] = {}
        self.records: list[bytes] = []
        self._cleaned = 0

    def clean(self, now: float) -> None:
        """Forget resets and services of long ago."""
        current = int(now // FIGURES_CELL)
        if current == self._cleaned:
            return
        self._cleaned = current
        self.resets = {name: reset for name, reset in self.resets.items() if reset[1] > now - FIGURES_KEPT}
        for name, service in list(self.services.items()):
            service.clean(now)
            if not service.cells and not service.seen and service.reset_at <= now - FIGURES_KEPT:
                del self.services[name]


class MemoryFigures:
    """The figures part of the store port, for one replica. Nothing awaits, so every operation is atomic."""

    def __init__(self, table: FigureTable | None = None, replica: str = "one") -> None:
        self._table = table or FigureTable()
        self._replica = replica

    async def add_figures(self, deltas: Sequence[FigureDelta]) -> dict[str, int]:
        """See `FigureStore.add_figures`."""
        table = self._table
        now = table.clock()
        for delta in deltas:
            self._add(table.services.setdefault(delta.service, ServiceFigures()), delta, now)
        table.clean(now)
        return {service: number for service, (number, _) in table.resets.items()}

    def _add(self, service: ServiceFigures, delta: FigureDelta, now: float) -> None:
        if delta.sequence <= service.seen.get(self._replica, (0, 0))[0]:
            return
        for age, counts in delta.cells:
            at = now - age
            if at < service.reset_at or at <= now - FIGURES_KEPT:
                continue
            cell = service.cells.setdefault(int(at // FIGURES_CELL), [])
            # Another version may count more than the one that began this cell.
            cell += [0] * (len(counts) - len(cell))
            for i, count in enumerate(counts):
                cell[i] += count
        if delta.last_error_age is not None:
            at = now - delta.last_error_age
            if at >= service.reset_at:
                service.last_error_at = max(at, service.last_error_at or at)
        current = int(now // FIGURES_CELL)
        service.seen[self._replica] = (delta.sequence, current)
        if service.cleaned != current:
            service.cleaned = current
            service.clean(now)

    async def sum_figures(self, services: Sequence[str], window: float, width: int) -> Sequence[FigureSum]:
        """See `FigureStore.sum_figures`."""
        now = self._table.clock()
        first = int((now - window) // FIGURES_CELL)
        sums = []
        for name in services:
            service = self._table.services.get(name, ServiceFigures())
            vectors = [[0] * width, *(cell for index, cell in service.cells.items() if index >= first)]
            last = service.last_error_at
            counts = tuple(map(sum, zip_longest(*vectors, fillvalue=0)))[:width]
            sums.append(FigureSum(counts, None if last is None else max(0.0, now - last)))
        return sums

    async def reset_figures(self, service: str) -> None:
        """See `FigureStore.reset_figures`."""
        table = self._table
        now = table.clock()
        table.services[service] = ServiceFigures(reset_at=now)
        # Of the clock, so that it also differs from those of a store that was lost.
        number, _ = table.resets.get(service, (0, 0.0))
        table.resets[service] = (max(number + 1, int(now * 1000)), now)

    async def add_records(self, records: Sequence[bytes], keep: int) -> None:
        """See `FigureStore.add_records`."""
        self._table.records[:] = [*reversed(records), *self._table.records][:keep]

    async def records(self, count: int) -> Sequence[bytes]:
        """See `FigureStore.records`."""
        return self._table.records[:count]

    async def close(self) -> None:
        """Nothing to close."""
