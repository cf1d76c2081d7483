"""What had arrived on a connection before it broke, and was not read yet.

A server that answers a large upload early and closes (413, 401, a redirect) makes a write to it fail. uvloop tears the
transport down on that first failed write and reads nothing more, although the kernel still holds the answer: a reset
does not empty a socket's receive queue (Linux). When uvloop calls `connection_lost`, a plain transport still has its
file descriptor, so the answer can be read from there.

Over TLS the descriptor is closed by then. So whoever uploads over TLS keeps a duplicate of it (`spare_file`). What was
left is in two places: in the TLS object, since uvloop decrypts nothing while reading is paused, and in the kernel.
"""

import asyncio
import os
import ssl
from collections.abc import Iterator
from typing import Final

_READ_BYTES: Final = 65_536
NO_FILE: Final = -1


def spare_file(transport: asyncio.Transport) -> int:
    """A duplicate of the transport's file descriptor, to be closed by the caller; `NO_FILE` if there can be none."""
    try:
        return os.dup(transport.get_extra_info("socket").fileno())
    except (OSError, AttributeError):
        return NO_FILE


def leftovers(transport: asyncio.Transport, spare: int = NO_FILE) -> Iterator[bytes]:
    """Pieces of what had arrived, for use within `connection_lost` only. An empty piece comes last if TLS was ended
    in order, by a close_notify. The sum is bounded by the kernel's receive buffer and that of the TLS object."""
    tls = transport.get_extra_info("ssl_object")
    return _plain(transport) if tls is None else _decrypted(transport, tls, spare)


def _plain(transport: asyncio.Transport) -> Iterator[bytes]:
    try:
        file = transport.get_extra_info("socket").fileno()
        while data := os.read(file, _READ_BYTES):
            yield data
    except (OSError, AttributeError):
        return


def _decrypted(transport: asyncio.Transport, tls: ssl.SSLObject, spare: int) -> Iterator[bytes]:
    while True:
        try:
            while data := tls.read(_READ_BYTES):
                yield data
        except ssl.SSLWantReadError:
            if not _fetch(transport, spare):
                return
        except (ssl.SSLError, OSError, ValueError):
            return
        else:
            yield b""
            return


def _fetch(transport: asyncio.Transport, spare: int) -> bool:
    """Move bytes from the kernel to the TLS object, through uvloop's own protocol. False when there are none."""
    protocol = transport.get_extra_info("uvloop.sslproto")
    if spare == NO_FILE or protocol is None:
        return False
    try:
        count = os.readv(spare, [protocol.get_buffer(_READ_BYTES)])
    except OSError:
        return False
    protocol.buffer_updated(count)
    return count > 0
