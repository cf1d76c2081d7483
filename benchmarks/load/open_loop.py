"""Requests at a constant rate whatever the answers do, each with a patience, while the upstream's capacity changes.

    python -m benchmarks.load.open_loop PORT UPSTREAM_PORT < plan        (a JSON object: the fields of `Plan`)

prints a line of JSON for each request: [second, path, status, seconds]. A status of 0 is no answer within the patience:
the client closes its connection and goes. A connection that is free is used again. Refused clients do not come again.
"""

import asyncio
import json
import random
import sys
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Final, cast

import uvloop

GONE: Final = 0
_LENGTH: Final = b"content-length:"


@dataclass(frozen=True, slots=True)
class Plan:
    """`rate` requests a second for `seconds`; `paths` have their weights. At each of `changes` (instant, workers) the
    upstream is told how many workers it has."""

    rate: float
    seconds: float
    patience: float
    paths: dict[str, float]
    changes: list[tuple[float, int]]


class Client(asyncio.Protocol):
    """One connection, and the request on it. `answered` is called with a status, GONE when the connection is lost."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._buffer = b""
        self._due: asyncio.TimerHandle | None = None
        self._path = ""
        self._began = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio's by descent.
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, path: str, began: float, patience: float) -> None:
        assert self._transport is not None  # noqa: S101 - it is connected
        self._path, self._began = path, began
        self._due = self._load.loop.call_later(patience - (time.monotonic() - began), self._leave)
        self._transport.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        lower = head.lower()
        at = lower.find(_LENGTH)
        length = int(lower[at + len(_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(rest) < length:
            return
        self._buffer = b""
        status = int(head.split(b" ", 2)[1])
        self._end(status)
        if b"\r\nconnection: close" in lower and self._transport is not None:
            self._transport.close()
        else:
            self._load.free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end(GONE)

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def _leave(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._end(GONE)

    def _end(self, status: int) -> None:
        due, self._due = self._due, None
        if due is not None:
            due.cancel()
            self._load.ended(self._path, self._began, status)


class Load:
    def __init__(self, port: int, upstream: int, plan: Plan) -> None:
        self.loop = asyncio.get_running_loop()
        self.free: deque[Client] = deque()
        self._port = port
        self._upstream = upstream
        self._plan = plan
        self._rng = random.Random(1)
        self._results: list[tuple[float, str, int, float]] = []
        self._started = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def ended(self, path: str, began: float, status: int) -> None:
        self._results.append((began - self._started, path, status, time.monotonic() - began))

    async def run(self) -> list[tuple[float, str, int, float]]:
        plan = self._plan
        self._started = time.monotonic()
        for instant, workers in plan.changes:
            self.loop.call_later(instant, self._begin, self._tell(workers))
        paths, weights = list(plan.paths), list(plan.paths.values())
        due = 0.0
        while due < plan.seconds:
            due += self._rng.expovariate(plan.rate)
            wait = self._started + due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            self._begin(self._ask(self._rng.choices(paths, weights)[0]))
        await asyncio.sleep(plan.patience + 0.5)
        return self._results

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, path: str) -> None:
        began = time.monotonic()
        while self.free:
            client = self.free.pop()
            if client.open:
                client.ask(path, began, self._plan.patience)
                return
        try:
            _, client = await self.loop.create_connection(lambda: Client(self), "127.0.0.1", self._port)
        except OSError:
            self.ended(path, began, GONE)
            return
        client.ask(path, began, self._plan.patience)

    async def _tell(self, workers: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        writer.write(f"GET /capacity/{workers} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        await reader.readline()
        writer.close()


async def main(port: int, upstream: int) -> None:
    given = json.load(sys.stdin)
    plan = Plan(**{**given, "changes": [(instant, workers) for instant, workers in given["changes"]]})
    for result in await Load(port, upstream, plan).run():
        sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
