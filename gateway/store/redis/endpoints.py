"""Endpoints that an operator has taken out, kept in Redis at `{prefix}:endpoints` (`lua/endpoints.lua`)."""

from collections.abc import Sequence
from typing import Any, Literal

from gateway.store.port import EndpointOut, StoreUnavailable
from gateway.store.redis.client import RedisClient, script

_WIDTH = 4  # of one entry in the answer to `list`


class RedisEndpoints:
    """The endpoint part of the store port. Raises only `StoreUnavailable`."""

    def __init__(self, client: RedisClient, prefix: str) -> None:
        self._client = client
        self._key = f"{prefix}:endpoints"
        self._script = script("endpoints")

    async def put(self, out: EndpointOut) -> None:
        """See `EndpointStore.take_out`."""
        arguments = ("out", out.upstream, out.endpoint, out.mode, round(out.left * 1000), out.reason)
        await self._client.run(self._script, (self._key,), arguments)

    async def drop(self, upstream: str, endpoint: str) -> bool:
        """See `EndpointStore.bring_back`."""
        return bool(await self._client.run(self._script, (self._key,), ("back", upstream, endpoint)))

    async def listed(self) -> Sequence[EndpointOut]:
        """See `EndpointStore.endpoints_out`."""
        answer: Any = await self._client.run(self._script, (self._key,), ("list",), patient=True)
        if not isinstance(answer, list) or len(answer) % _WIDTH:
            raise StoreUnavailable("Redis answered something else than asked")
        found = []
        for at in range(0, len(answer), _WIDTH):
            field, mode, left, reason = answer[at : at + _WIDTH]
            upstream, _, endpoint = _text(field).partition(" ")
            word: Literal["drained", "disabled"] = "disabled" if _text(mode) == "disabled" else "drained"
            found.append(EndpointOut(upstream, endpoint, word, int(left) / 1000, _text(reason)))
        return found


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
