"""Trouble on demand: what the scripts in chaos/scripts switch on, and `GET /chaos/config` shows.

With Redis the settings are keys there, such as `chaos:payments:error_rate`, read before each request that may fail:
every replica has them, and they outlive a restart. Without Redis they are fields of this process: a restart clears
them. A Redis that does not answer means no chaos, because this must not be what breaks the shop.
"""

import asyncio
import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Final

import redis.asyncio
from aiohttp import web
from redis.exceptions import RedisError

from shop.common.answers import Refused
from shop.common.bodies import json_object

# What there is for each service, with the greatest value that makes sense.
KINDS: Final[dict[str, dict[str, float]]] = {
    "payments": {"error_rate": 1.0, "latency_ms": 60_000},
    "inventory": {"error_rate": 1.0, "lock_contention_ms": 60_000},
}
REDIS_PATIENCE: Final = 0.2


class Chaos:
    """The settings of one service; every one of them is 0 unless somebody has set it."""

    def __init__(self, service: str, redis_url: str | None) -> None:
        self._service = service
        self._most = KINDS[service]
        self._local: dict[str, float] = {}
        self._redis: redis.asyncio.Redis | None = None
        if redis_url is not None:
            self._redis = redis.asyncio.Redis.from_url(
                redis_url, socket_timeout=REDIS_PATIENCE, socket_connect_timeout=REDIS_PATIENCE, decode_responses=True
            )

    async def settings(self) -> dict[str, float]:
        """By name."""
        values: Mapping[str, object] = self._local
        if self._redis is not None:
            try:
                found = await self._redis.mget([self._key(name) for name in self._most])
                values = dict(zip(self._most, found, strict=True))
            except (RedisError, OSError):
                values = {}
        return {name: _number(values.get(name), most) for name, most in self._most.items()}

    async def change(self, wanted: Mapping[str, object]) -> None:
        """Set some of them; `Refused` for a name that is unknown or a value that is out of range."""
        for name, value in wanted.items():
            most = self._most.get(name)
            if most is None:
                raise Refused(422, "unknown_chaos", f"{name!r} is not one of {', '.join(self._most)}")
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                raise Refused(422, "chaos_out_of_range", f"{name} must be a number from 0 to {most:g}")
        if self._redis is None:
            self._local.update({name: float(str(value)) for name, value in wanted.items()})
        elif wanted:
            with _redis_needed():
                await self._redis.mset({self._key(name): str(value) for name, value in wanted.items()})

    async def clear(self) -> None:
        """No chaos."""
        self._local.clear()
        if self._redis is not None:
            with _redis_needed():
                await self._redis.delete(*(self._key(name) for name in self._most))

    async def delay(self) -> None:
        """Wait as long as `latency_ms` says."""
        await asyncio.sleep((await self.settings())["latency_ms"] / 1000)

    async def fails(self) -> bool:
        """Whether this request is one of those that `error_rate` makes fail."""
        return random.random() < (await self.settings())["error_rate"]

    async def close(self) -> None:
        """Close the connection to Redis."""
        if self._redis is not None:
            await self._redis.aclose()

    def add_routes(self, app: web.Application) -> None:
        """`/chaos/config`: GET shows, PUT changes, DELETE clears."""

        async def show(_: web.Request) -> web.Response:
            return web.json_response(await self.settings())

        async def change(request: web.Request) -> web.Response:
            await self.change(await json_object(request))
            return await show(request)

        async def clear(request: web.Request) -> web.Response:
            await self.clear()
            return await show(request)

        app.router.add_get("/chaos/config", show)
        app.router.add_put("/chaos/config", change)
        app.router.add_delete("/chaos/config", clear)

    def _key(self, name: str) -> str:
        return f"chaos:{self._service}:{name}"


def injected() -> Refused:
    """The failure of a request that `Chaos.fails` has picked."""
    return Refused(503, "chaos", "this failure was asked for: see /chaos/config")


def _number(value: object, most: float) -> float:
    """Whatever somebody has written into Redis by hand; what is no number counts as nothing."""
    try:
        number = 0.0 if "_" in str(value) else float(str(value))
    except ValueError:
        return 0.0
    return number if 0 <= number <= most else 0.0


@contextlib.contextmanager
def _redis_needed() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise Refused(503, "redis_unavailable", f"the settings are in Redis, which does not answer: {error}") from None
