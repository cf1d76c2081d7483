"""A Redis whose scripts run on a clock that the test moves, for comparing a store with the one in memory."""

from collections.abc import Sequence
from typing import Any

import redis

from gateway.store.redis.client import Arg, Key, Script
from tests.support.redis_server import RedisServer

_TIME = "redis.call('TIME')"
_TAKE_EXPIRIES = """
local left = {}
for i, key in ipairs(KEYS) do
  left[i] = redis.call('PTTL', key)
  redis.call('PERSIST', key)
end
return left
"""


class MadeUpClock:
    """`RedisClient` as far as `RedisCircuits` and `RedisBuckets` need one. `now` is in seconds, and the scripts take it
    for the time.

    Only the reading of the clock is replaced in a script; all the rest of it runs as it is.
    """

    clustered = False

    def __init__(self, server: RedisServer, *, expires: bool = False) -> None:
        """With `expires`, keys expire by `now` as well, however long a command takes."""
        password = getattr(server, "password", None)  # fakeredis has none
        self._redis = redis.Redis(host=server.host, port=server.port, password=password, decode_responses=True)
        self.now = 0.0
        self._expires = expires
        self._ends: dict[Key, float] = {}

    def begin(self) -> None:
        """Forget every key, and set the clock to its start."""
        self._redis.flushall()
        self.now = 1000.0

    def advance(self, seconds: float) -> None:
        """Move the clock, by an uneven amount: no instants of two steps coincide, and rounding decides nothing."""
        self.now = round(self.now + seconds + 0.000017, 6)
        for key in [key for key, end in self._ends.items() if end <= self.now]:
            del self._ends[key]
            self._redis.delete(key)

    async def run(self, script: Script, keys: Sequence[Key], args: Sequence[Arg], *, patient: bool = False) -> Any:
        """As `RedisClient.run`."""
        return (await self.run_many(script, [(keys, args)]))[0]

    async def run_many(
        self, script: Script, calls: Sequence[tuple[Sequence[Key], Sequence[Arg]]], *, patient: bool = False
    ) -> list[Any]:
        """As `RedisClient.run_many`."""
        assert script.text.count(_TIME) == 1
        seconds, micro = divmod(round(self.now * 1_000_000), 1_000_000)
        text = script.text.replace(_TIME, f"{{ '{seconds}', '{micro}' }}")
        used = [key for keys, _ in calls for key in keys] if self._expires else []
        pipeline = self._redis.pipeline(transaction=bool(used))
        for keys, args in calls:
            pipeline.eval(text, len(keys), *keys, *args)
        answers = pipeline.eval(_TAKE_EXPIRIES, len(used), *used).execute() if used else pipeline.execute()
        if used:
            for key, left in zip(used, answers.pop(), strict=True):
                if left >= 0:
                    self._ends[key] = self.now + left / 1000
        return answers

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()
