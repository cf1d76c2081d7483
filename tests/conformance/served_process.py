"""Serve an empty store over the socket whose descriptor is the first argument, until its peer is gone."""

import asyncio
import socket
import sys

from gateway.ipc.channel import Channel
from gateway.store.served.server import StoreServer


async def main(descriptor: int) -> None:
    gone = asyncio.Event()
    await Channel.over(socket.socket(fileno=descriptor), StoreServer().serve_for("replica"), gone.set)
    await gone.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
