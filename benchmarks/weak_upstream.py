"""An upstream that works on a few requests at once and lets the others wait, as a server with a pool of threads does.

`python -m benchmarks.weak_upstream PORT WORKERS SECONDS`: each request takes a worker about SECONDS (exponential, the
same in every run). `GET /capacity/N` leaves N workers from then on. Requests whose client has gone are worked on all
the same: most servers do not notice before they answer.
"""

import asyncio
import random
import re
import sys
from collections import deque
from typing import Final, cast

import uvloop

_CAPACITY: Final = re.compile(rb"GET /capacity/(\d+) ")
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class Pool:
    """`workers` requests at once, the others in order of arrival."""

    def __init__(self, workers: int, seconds: float) -> None:
        self.workers = workers
        self._seconds = seconds
        self._busy = 0
        self._queue: deque[asyncio.Transport] = deque()
        self._rng = random.Random(1)
        self._loop = asyncio.get_running_loop()

    def take(self, transport: asyncio.Transport) -> None:
        self._queue.append(transport)
        self.work()

    def work(self) -> None:
        while self._queue and self._busy < self.workers:
            self._busy += 1
            self._loop.call_later(self._rng.expovariate(1.0 / self._seconds), self._done, self._queue.popleft())

    def _done(self, transport: asyncio.Transport) -> None:
        self._busy -= 1
        if not transport.is_closing():
            transport.write(_ANSWER)
        self.work()


class Connection(asyncio.Protocol):
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio's by descent.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        while b"\r\n\r\n" in self._head:
            head, _, self._head = self._head.partition(b"\r\n\r\n")
            found = _CAPACITY.match(head)
            if found is None:
                self._pool.take(self._transport)
            else:
                self._pool.workers = int(found[1])
                self._transport.write(_ANSWER)
                self._pool.work()


async def serve(port: int, workers: int, seconds: float) -> None:
    pool = Pool(workers, seconds)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(pool), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
