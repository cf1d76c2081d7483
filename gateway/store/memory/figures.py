"""What the replicas of one process have counted: the reference for `lua/figures.lua`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.store.port import FIGURES_CELL, FIGURES_KEPT, FigureDelta, FigureSum


@dataclass(slots=True)
class _Service:
    """`cells` are by the number of the cell since the epoch; `seen` holds each replica's last sequence and its cell."""

    reset_at: float = float("-inf")
    cells: dict[int, list[int]] = field(default_factory=dict)
    seen: dict[str, tuple[int, int]] = field(default_factory=dict)
    last_error_at: float | None = None


class FigureTable:
    """What several `MemoryFigures` share, as replicas share a Redis."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.services: dict[str, _Service] = {}
        self.resets: dict[str, tuple[int, float]] = {}
        self.records: list[bytes] = []


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
            self._add(table.services.setdefault(delta.service, _Service()), delta, now)
        return {service: number for service, (number, at) in table.resets.items() if at > now - FIGURES_KEPT}

    def _add(self, service: _Service, delta: FigureDelta, now: float) -> None:
        if delta.sequence <= service.seen.get(self._replica, (0, 0))[0]:
            return
        for age, counts in delta.cells:
            at = now - age
            if at < service.reset_at or at <= now - FIGURES_KEPT:
                continue
            cell = service.cells.setdefault(int(at // FIGURES_CELL), [0] * len(counts))
            for i, count in enumerate(counts):
                cell[i] += count
        if delta.last_error_age is not None:
            at = now - delta.last_error_age
            if at >= service.reset_at:
                service.last_error_at = max(at, service.last_error_at or at)
        current = int(now // FIGURES_CELL)
        service.seen[self._replica] = (delta.sequence, current)
        oldest = int((now - FIGURES_KEPT) // FIGURES_CELL)
        service.cells = {index: cell for index, cell in service.cells.items() if index >= oldest}
        service.seen = {replica: seen for replica, seen in service.seen.items() if seen[1] >= oldest}

    async def sum_figures(self, services: Sequence[str], window: float, width: int) -> Sequence[FigureSum]:
        """See `FigureStore.sum_figures`."""
        now = self._table.clock()
        first = int((now - window) // FIGURES_CELL)
        sums = []
        for name in services:
            service = self._table.services.get(name, _Service())
            vectors = [[0] * width, *(cell for index, cell in service.cells.items() if index >= first)]
            last = service.last_error_at
            counts = tuple(map(sum, zip(*vectors, strict=True)))
            sums.append(FigureSum(counts, None if last is None else max(0.0, now - last)))
        return sums

    async def reset_figures(self, service: str) -> None:
        """See `FigureStore.reset_figures`."""
        table = self._table
        now = table.clock()
        table.services[service] = _Service(reset_at=now)
        number, _ = table.resets.get(service, (0, 0.0))
        table.resets[service] = (number + 1, now)

    async def add_records(self, records: Sequence[bytes], keep: int) -> None:
        """See `FigureStore.add_records`."""
        self._table.records[:] = [*reversed(records), *self._table.records][:keep]

    async def records(self, count: int) -> Sequence[bytes]:
        """See `FigureStore.records`."""
        return self._table.records[:count]

    async def close(self) -> None:
        """Nothing to close."""
