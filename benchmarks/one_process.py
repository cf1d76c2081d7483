"""A whole gateway in one process, without supervisor: for what looks into it while it works.

python -m benchmarks.one_process    # with the settings in the environment, until it is killed
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping

import uvloop

from gateway.assembly.gateway import build
from gateway.assembly.lifecycle import Lifecycle
from gateway.config import load
from gateway.telemetry.log.lines import LineWriter


@contextlib.asynccontextmanager
async def serving(settings: Mapping[str, str]) -> AsyncIterator[None]:
    """Serve on `PORT` of the loopback. Lines of the logs go nowhere."""
    config = load({**settings, "HOST": "127.0.0.1"})
    nowhere = os.open(os.devnull, os.O_WRONLY)
    writer = LineWriter(nowhere)
    listening = socket.create_server(("127.0.0.1", int(settings["PORT"])), backlog=1024)
    listening.setblocking(False)
    gateway = Lifecycle(build(config, writer), {"listener": [listening]})
    try:
        await gateway.prepare()
        await gateway.accept()
        yield
    finally:
        await gateway.close()
        writer.close()
        os.close(nowhere)


async def _serve() -> None:
    async with serving(os.environ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
