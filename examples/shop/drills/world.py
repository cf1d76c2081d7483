"""The shop that the drills break: its own, on free ports, with databases in a directory of its own.

With a `redis-server` on this machine it has a Redis, so that the drill of its loss can be played.
"""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from shop.common.connect import connect
from shop.common.database import Row
from shop.drills.customers import PATIENCE_SECONDS, Customers
from shop.drills.report import Orders
from shop.processes import PACKAGE, Failure, Ports, Process, Shop, is_free

POLL_SECONDS: Final = 0.05
BREAKER_OPEN: Final = 1.0
BREAKER_CLOSED: Final = 0.0


class World:
    """`quick` asks for short incidents. `shop` has the processes, `redis` the Redis if there is one, `outages` when
    something was broken (seconds since the epoch), `met` what customers have met in all drills."""

    def __init__(self, directory: Path, *, quick: bool, ports: Ports | None = None, slack: float = 1.0) -> None:
        self.directory = directory
        self.quick = quick
        self.slack = slack
        self.ports = ports or Ports.free()
        self.redis = _redis(directory) if shutil.which("redis-server") else None
        self.environment = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
        if self.redis is not None:
            self.environment["REDIS_URL"] = f"redis://127.0.0.1:{self.redis.port}/0"
        if quick:
            self.environment["OPEN_DURATION"] = "2"
        self.shop = Shop(self.ports, directory, self.environment, logs=directory)
        self.outages: list[tuple[float, float]] = []
        self.met = Orders()
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Start everything and wait until it is healthy."""
        await self.start_redis()
        await self.shop.start()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10.0))

    async def close(self) -> None:
        """Stop everything."""
        if self._session is not None:
            await self._session.close()
        await self.shop.stop()
        if self.redis is not None:
            await self.redis.stop()

    def process(self, name: str) -> Process:
        """One of the five."""
        return self.shop.processes[name]

    def url(self, service: str) -> str:
        """Where one of the five listens."""
        return f"http://127.0.0.1:{getattr(self.ports, service)}"

    async def start(self, name: str) -> None:
        """Start one that has ended, and wait until it is healthy."""
        await self.process(name).start()
        await self.process(name).wait_ready()

    async def start_redis(self) -> None:
        """Start the Redis, if there is one, and wait until it listens."""
        redis = self.redis
        if redis is not None:

            async def listens() -> bool:
                return not is_free(redis.port)

            await redis.start()
            await self.after(listens, 30)

    async def mend(self) -> None:
        """Whatever a drill has left broken, so that the next one begins with a shop that is whole."""
        self.outages.clear()
        if self.redis is not None and not self.redis.runs:
            await self.start_redis()
        for name, process in self.shop.processes.items():
            if not process.runs:
                await self.start(name)
        assert self._session is not None  # noqa: S101 - open() comes first
        for service in ("payments", "inventory"):
            # "Reset all chaos" of the runbook.
            async with self._session.delete(self.url(service) + "/chaos/config") as answer:
                answer.raise_for_status()

    @contextlib.asynccontextmanager
    async def customers(self, number: int, pause: float = 0.05) -> AsyncIterator[Customers]:
        """So many customers order while the context lasts. What they meet counts for the service levels."""
        customers = Customers(self.url("gateway"), pause, PATIENCE_SECONDS * self.slack)
        try:
            async with customers.ordering(number):
                yield customers
        finally:
            self.met.wanted += len(customers.attempts)
            self.met.placed += sum(each.placed for each in customers.attempts)
            self.met.requests += sum(len(each.statuses) for each in customers.attempts)
            self.met.failed_requests += sum(each.failed_requests for each in customers.attempts)

    async def get(self, service: str, path: str) -> Any:
        """The JSON of an answer, whatever its status."""
        assert self._session is not None  # noqa: S101 - open() comes first
        async with self._session.get(self.url(service) + path) as answer:
            return await answer.json(content_type=None)

    async def metric(self, service: str, name: str, /, **labels: str) -> float:
        """The sum of the series of this name with these labels among others."""
        assert self._session is not None  # noqa: S101 - open() comes first
        async with self._session.get(self.url(service) + "/metrics") as answer:
            text = await answer.text()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def breaker(self, downstream: str) -> float:
        """`breaker_state` of an upstream: 0 closed, 1 open, 2 half-open."""
        return await self.metric("gateway", "breaker_state", downstream=downstream)

    async def after(self, condition: Callable[[], Awaitable[bool]], seconds: float) -> float | None:
        """After how many seconds the condition holds; None if it does not within `seconds`, times the slack."""
        began = time.monotonic()
        while time.monotonic() - began < seconds * self.slack:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                if await condition():
                    return time.monotonic() - began
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def breaker_becomes(self, downstream: str, state: float, seconds: float) -> float | None:
        """After how many seconds the circuit is in the state."""

        async def there() -> bool:
            return await self.breaker(downstream) == state

        return await self.after(there, seconds)

    async def query(self, service: str, sql: str) -> list[Row]:
        """As an operator would ask the database of a service."""
        database = await connect(self.shop.urls[service])
        try:
            return await database.fetch(sql)
        finally:
            await database.close()

    async def script(self, name: str, *arguments: str) -> None:
        """One of chaos/scripts, as the runbook has it."""
        environment = {**self.environment, "PAYMENTS_URL": self.url("payments"), "INVENTORY_URL": self.url("inventory")}
        running = await asyncio.create_subprocess_exec(
            "bash",
            f"chaos/scripts/{name}.sh",
            *arguments,
            cwd=PACKAGE,
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
        )
        if await running.wait() != 0:
            raise Failure(f"{name}.sh {' '.join(arguments)} failed")

    def logged(self, name: str, word: str) -> int:
        """How many lines of a process's log contain the word."""
        return (self.directory / f"{name}.log").read_text(errors="replace").count(word)


def _redis(directory: Path) -> Process:
    """Its memory is all it has: a restart comes back empty, like a failover to an empty replica."""
    port = Ports.free().gateway
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
    return Process("redis", command, {"PATH": os.environ.get("PATH", os.defpath)}, port, directory / "redis.log")
