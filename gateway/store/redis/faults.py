"""Faults on demand in Redis: those of the gateways at `{prefix}:faults` (`lua/faults.lua`), and what operators write to
`chaos:{upstream}:{setting}` by hand (`lua/chaos.lua`)."""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from gateway.policy.faults import Fault
from gateway.store.faults import CHAOS_SETTINGS, MOST, ChaosKey, ChaosSetting, SharedFault, fault_of, plain
from gateway.store.port import StoreUnavailable
from gateway.store.redis.client import Arg, RedisClient, script
from gateway.syntax import units

_WIDTH: Final = 3  # of one fault in the answer to `list`


class RedisFaults:
    """The fault part of the store port. Raises only `StoreUnavailable`."""

    def __init__(self, client: RedisClient, prefix: str) -> None:
        self._client = client
        self._key = f"{prefix}:faults"
        self._script = script("faults")
        self._chaos = script("chaos")

    async def add(self, fault: Fault, duration: float, lease: float) -> str:
        """See `FaultStore.add_fault`."""
        payload = orjson.dumps(plain(fault))
        answer = await self._run("add", fault.id, _ms(duration), _ms(lease), MOST, fault.upstream, payload)
        return _text(answer)

    async def renew(self, ids: Sequence[str], lease: float) -> None:
        """See `FaultStore.renew_faults`."""
        if ids:
            await self._run("renew", _ms(lease), *ids)

    async def drop(self, ids: Sequence[str] | None) -> int:
        """See `FaultStore.drop_faults`."""
        return 0 if ids is not None and not ids else int(await self._run("drop", *(ids or ())))

    async def listed(self) -> Sequence[SharedFault]:
        """See `FaultStore.faults`."""
        answer: Any = await self._client.run(self._script, (self._key,), ("list",), patient=True)
        if not isinstance(answer, list) or len(answer) % _WIDTH:
            raise StoreUnavailable("Redis answered something else than asked")
        found = []
        for at in range(0, len(answer), _WIDTH):
            fault = fault_of(_parsed(answer[at]))
            if fault is not None:
                found.append(SharedFault(fault, int(answer[at + 1]) / 1000, int(answer[at + 2]) / 1000))
        return sorted(found, key=lambda each: each.fault.id)

    async def chaos(self, upstreams: Sequence[str], most: float) -> Sequence[ChaosKey]:
        """See `FaultStore.chaos`."""
        found = []
        keys = [(upstream, setting) for upstream in upstreams for setting in CHAOS_SETTINGS]
        for (upstream, setting), answer in zip(keys, await self._of_each(keys, "read", _ms(most)), strict=True):
            value = _number(answer[0]) if len(answer) == 2 else None
            if value is not None:
                found.append(ChaosKey(upstream, setting, value, int(answer[1]) / 1000))
        return found

    async def drop_chaos(self, keys: Sequence[tuple[str, ChaosSetting]]) -> int:
        """See `FaultStore.drop_chaos`."""
        return sum(int(answer[0]) for answer in await self._of_each(keys, "drop") if answer)

    async def _of_each(self, keys: Sequence[tuple[str, ChaosSetting]], *arguments: Arg) -> list[Any]:
        calls: list[tuple[Sequence[str], Sequence[Arg]]] = [
            ((f"chaos:{upstream}:{setting}",), arguments) for upstream, setting in keys
        ]
        return await self._client.run_many(self._chaos, calls, patient=True) if calls else []

    async def _run(self, *arguments: Arg) -> Any:
        return await self._client.run(self._script, (self._key,), arguments)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _parsed(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return None


def _number(value: bytes) -> float | None:
    """What was written by hand may be anything."""
    return units.number(_text(value).strip())


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
