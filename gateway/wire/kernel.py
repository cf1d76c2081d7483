"""What the kernel knows of a connection and the event loop does not tell."""

import asyncio
import fcntl
import select
import struct
import termios


def unsent(transport: asyncio.Transport) -> int:
    """Bytes that were written and that the other side's kernel has not yet confirmed; -1 when that is not to be known.

    The loop hears of a slow reader in large steps only: a socket counts as writable again when a third of its buffer,
    which may hold megabytes, is free. Linux: TIOCOUTQ, tcp(7).
    """
    sock = transport.get_extra_info("socket")
    try:
        queued = int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])
    except (OSError, AttributeError):
        return -1
    return queued + transport.get_write_buffer_size()


def peer_left(transport: asyncio.Transport) -> bool:
    """Whether the other side has closed, or reset the connection, behind bytes that are not read."""
    sock = transport.get_extra_info("socket")
    poll = select.poll()
    try:
        poll.register(sock.fileno(), select.POLLRDHUP)
    except (OSError, AttributeError, ValueError):
        return False
    return bool(poll.poll(0))
