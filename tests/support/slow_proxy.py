"""A TCP proxy in the test's own event loop that holds back what passes through it: Redis far away, or a bad network."""

import asyncio
import random
from types import TracebackType
from typing import Self


class SlowProxy:
    """Listens on `port` of the loopback and passes bytes of new connections on to `target`, in order, each way.

    Every piece waits `delay` seconds and up to `jitter` more, and one of `late_share` waits `late` more than that.
    `stall` holds back everything until `resume`. All of them may be changed at any time.
    """

    def __init__(self, target: tuple[str, int], seed: int = 0) -> None:
        self.delay = 0.0
        self.jitter = 0.0
        self.late_share = 0.0
        self.late = 0.0
        self.port = 0
        self.target = target
        self._rng = random.Random(seed)
        self._passing = asyncio.Event()
        self._passing.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stall(self) -> None:
        self._passing.clear()

    def resume(self) -> None:
        self._passing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*self.target)
        except OSError:
            writer.close()
            return
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pass(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = loop.create_task(self._send(held, sink))
        try:
            due = 0.0
            while data := await source.read(65536):
                wait = self.delay + self._rng.uniform(0.0, self.jitter)
                if self._rng.random() < self.late_share:
                    wait += self.late
                due = max(due, loop.time() + wait)  # nothing overtakes what came before it
                held.put_nowait((due, data))
            held.put_nowait((due, b""))
            await sending
        except OSError:
            pass
        finally:
            sending.cancel()
            sink.close()

    async def _send(self, held: "asyncio.Queue[tuple[float, bytes]]", sink: asyncio.StreamWriter) -> None:
        while True:
            due, data = await held.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            await self._passing.wait()
            if not data:
                return
            sink.write(data)
