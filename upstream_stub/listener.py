"""The listening socket, which can go away for a while and come back on the same port.

While it is away the kernel refuses new connections, as it does for a server that died. Idle connections are closed, and
requests in flight finish.
"""

import asyncio
from collections.abc import Callable

from aiohttp import web

from upstream_stub.stats import Stats

BACKLOG = 4096


class Listener:
    """The stub's listening socket, which can be closed for a while so that connections are refused. `port` 0 means one
    that the kernel chooses; `port` is the real one once it listens."""

    def __init__(self, runner: web.AppRunner, stats: Stats, host: str, port: int) -> None:
        self._runner = runner
        self._stats = stats
        self._host = host
        self.port = port
        self._listening: asyncio.Server | None = None
        self._reopening: asyncio.TimerHandle | None = None
        self._reopen_task: asyncio.Task[None] | None = None
        self.on_lost: Callable[[OSError], None] = _ignore

    async def open(self) -> None:
        """Listen. Port 0 takes a free one and keeps it. OSError when that is impossible."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._accept, self._host, self.port, backlog=BACKLOG)
        self.port = self._listening.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Stop to listen, and do not begin again. Open connections stay. Idempotent."""
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    def refuse(self, seconds: float) -> None:
        """Stop listening for `seconds`. A later call replaces an earlier one. `on_lost` is called if it cannot listen
        again."""
        self.close()
        for connection in self._server().connections:
            if connection._request_in_progress:  # noqa: SLF001 -- aiohttp has no public word for "idle"
                connection.close()
            else:
                connection.force_close()
        self._reopening = asyncio.get_running_loop().call_later(seconds, self._reopen)

    def _accept(self) -> asyncio.BaseProtocol:
        self._stats.connections += 1
        return self._server()()

    def _server(self) -> web.Server:
        server = self._runner.server
        if server is None:
            raise RuntimeError("the runner is set up before the listener opens")
        return server

    def _reopen(self) -> None:
        self._reopening = None
        self._reopen_task = asyncio.get_running_loop().create_task(self._open_again())

    async def _open_again(self) -> None:
        try:
            await self.open()
        except OSError as error:
            self.on_lost(error)


def _ignore(_: OSError) -> None:
    return None
