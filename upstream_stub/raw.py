"""Writes bytes to the connection that no well-behaved HTTP server sends.

aiohttp parses the request; the answer goes to the transport byte for byte. A `RawAnswer` tells aiohttp that the answer
has been given, and whether the connection may carry another request.
"""

import asyncio
import socket
import struct

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

# l_onoff = 1, l_linger = 0: closing discards what is unsent and sends RST instead of FIN (SO_LINGER, socket(7)).
LINGER_ZERO = struct.pack("ii", 1, 0)


class RawAnswer(web.StreamResponse):
    """Stands for an answer that was already written. The connection closes after it unless `keep_alive`."""

    def __init__(self, *, keep_alive: bool = False) -> None:
        super().__init__()
        self._keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write nothing: the handler has written the bytes of the answer itself."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing: the handler has ended the answer itself."""
        return


def connection(request: web.Request) -> asyncio.Transport:
    """The transport; a client that is already gone ends the exchange."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client is gone")
    return transport


async def send(request: web.Request, octets: bytes) -> None:
    """Write below HTTP and wait until the kernel has all of it, so that a reset cannot overtake it."""
    transport = connection(request)
    transport.write(octets)
    while transport.get_write_buffer_size():
        await asyncio.sleep(0.001)
        connection(request)


def reset(request: web.Request) -> None:
    """Close with RST: the client sees ECONNRESET, not the end of the stream."""
    transport = connection(request)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    transport.abort()
