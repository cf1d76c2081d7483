"""What the fleet has counted, kept in Redis (`lua/figures.lua`).

`{prefix}:figures:{service}` holds the cells of a service, `{prefix}:figures` which services were reset when, and
`{prefix}:errors` the latest records. No call touches two keys.

It has a connection of its own and its own, longer time limit: no request waits for a figure, and a figure that comes
late must not cost the request path its connection.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.config.sections.redis.model import RedisConfig
from gateway.store.port import FIGURES_CELL, FIGURES_KEPT, FigureDelta, FigureSum, StoreUnavailable
from gateway.store.redis.client import Arg, RedisClient, ignore, script

TIMEOUT = 0.5
RECORDS_KEPT = 86_400.0
MOST_READ = 16  # services in one call, so that Redis serves others in between

_CELL = round(FIGURES_CELL * 1000)
_KEPT = round(FIGURES_KEPT * 1000)


class RedisFigures:
    """The figures part of the store port, for one replica. Raises only `StoreUnavailable`."""

    def __init__(self, config: RedisConfig, replica: str, observe: Callable[[str, float], None] = ignore) -> None:
        self._client = RedisClient(replace(config, timeout=max(config.timeout, TIMEOUT)), observe)
        self._replica = replica
        self._script = script("figures")
        self._resets_key = f"{config.key_prefix}:figures"
        self._records_key = f"{config.key_prefix}:errors"

    def key(self, service: str) -> str:
        """The key of a service's figures."""
        return f"{self._resets_key}:{service}"

    async def add_figures(self, deltas: Sequence[FigureDelta]) -> dict[str, int]:
        """See `FigureStore.add_figures`."""
        calls: list[tuple[Sequence[str], Sequence[Arg]]] = [((self._resets_key,), ("resets",))]
        calls += [((self.key(delta.service),), self._added(delta)) for delta in deltas]
        resets, *_ = await self._client.run_many(self._script, calls)
        pairs = zip(resets[::2], resets[1::2], strict=True)
        return {service.decode("utf-8", "replace"): int(number) for service, number in pairs}

    def _added(self, delta: FigureDelta) -> list[Arg]:
        last = -1 if delta.last_error_age is None else round(delta.last_error_age * 1000)
        arguments: list[Arg] = ["add", _CELL, _KEPT, self._replica, delta.sequence, last]
        for age, counts in delta.cells:
            arguments += (round(age * 1000), " ".join(map(str, counts)))
        return arguments

    async def sum_figures(self, services: Sequence[str], window: float, width: int) -> Sequence[FigureSum]:
        """See `FigureStore.sum_figures`."""
        found: list[FigureSum] = []
        arguments = ("sum", _CELL, round(window * 1000), width)
        for start in range(0, len(services), MOST_READ):
            some = services[start : start + MOST_READ]
            for answer in await self._client.run_many(self._script, [((self.key(each),), arguments) for each in some]):
                if not isinstance(answer, list) or len(answer) != width + 1:
                    raise StoreUnavailable("Redis answered something else than asked")
                last, *counts = answer
                found.append(FigureSum(tuple(counts), None if last < 0 else last / 1000))
        return found

    async def reset_figures(self, service: str) -> None:
        """See `FigureStore.reset_figures`."""
        at = await self._client.run(self._script, (self.key(service),), ("reset", _KEPT))
        await self._client.run(self._script, (self._resets_key,), ("mark", _KEPT, service, at))

    async def add_records(self, records: Sequence[bytes], keep: int) -> None:
        """See `FigureStore.add_records`."""
        arguments: list[Arg] = ["push", round(RECORDS_KEPT * 1000), keep]
        arguments += (record.decode() for record in records)
        await self._client.run(self._script, (self._records_key,), arguments)

    async def records(self, count: int) -> Sequence[bytes]:
        """See `FigureStore.records`."""
        found: Sequence[bytes] = await self._client.run(self._script, (self._records_key,), ("list", count))
        return found

    async def close(self) -> None:
        """See `FigureStore.close`."""
        await self._client.close()
