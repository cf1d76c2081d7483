"""What the kernel knows of a connection and the event loop does not tell."""

import asyncio
import contextlib
import ctypes
import fcntl
import select
import socket
import struct
import sys
import termios
from typing import Final


def unsent(transport: asyncio.Transport) -> int:
    """Bytes that were written and that the other side's kernel has not yet confirmed; -1 when that is not to be known.

    The loop hears of a slow reader in large steps only: a socket counts as writable again when a third of its buffer,
    which may hold megabytes, is free. Linux: TIOCOUTQ, tcp(7).
    """
    sock = transport.get_extra_info("socket")
    try:
        queued = int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])
    except (OSError, AttributeError, ValueError):
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


def unread(transport: asyncio.BaseTransport) -> bool:
    """Whether bytes have arrived that the loop has not read. Linux: FIONREAD, tcp(7)."""
    sock = transport.get_extra_info("socket")
    try:
        return fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0") != b"\0\0\0\0"
    except (OSError, AttributeError):
        return False


def hold_unsent_below(transport: asyncio.Transport, size: int) -> None:
    """Have the kernel take no more for the other side than what is on its way there and `size` bytes. It would take
    megabytes for each slow reader. Linux: TCP_NOTSENT_LOWAT, tcp(7)."""
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, size)


# Of struct tcp_info: tcpi_bytes_acked, an unsigned number of 64 bits (linux/tcp.h, since 4.1).
_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)
_BYTES_ACKED: Final = slice(120, 128)


def acknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the other side's kernel has confirmed so far; 0 when that is not to be known."""
    sock = transport.get_extra_info("socket")
    try:
        return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 128)[_BYTES_ACKED], sys.byteorder)
    except (OSError, AttributeError, TypeError):
        return 0


# SO_ATTACH_FILTER of Linux, and a classic BPF program of five instructions (code, if true, if false, operand): load the
# byte of the flags from the TCP header, keep SYN and ACK, and drop the packet where only SYN is set.
_SO_ATTACH_FILTER: Final = 26
_DROP_SYN: Final = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),
        (0x54, 0, 0, 0x12),
        (0x15, 0, 1, 0x02),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0xFFFFFFFF),
    )
)
# Not a local variable: compiled code frees one after its last use, and here that is before the kernel has read it.
_DROP_SYN_BUFFER: Final = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))


def refuse_new_connections(listener: socket.socket) -> None:
    """Let no further connection into the accept queue of a listening socket, so that it can be emptied before it is
    closed. A client that tries meanwhile hears nothing, repeats its SYN after a second and is refused then. Where the
    kernel has no such filter the queue stays open."""
    with contextlib.suppress(OSError):
        description = struct.pack("HP", len(_DROP_SYN) // 8, ctypes.addressof(_DROP_SYN_BUFFER))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, description)


# NETLINK_SOCK_DIAG and SOCK_DIAG_BY_FAMILY (sock_diag(7)). The request is `struct nlmsghdr` with `struct
# inet_diag_req_v2`, and asks for all sockets of one port in one state, here TCP_SYN_RECV.
_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_REQUEST_AND_DUMP: Final = 0x301
_SYN_RECEIVED: Final = 1 << 3
_ANY_COOKIE: Final = b"\xff" * 8


def handshakes_under_way(port: int) -> bool:
    """Whether the kernel has answered the SYN of a client of this port, and waits for the ACK that completes the
    handshake. The client is connected by then, as far as it knows. False where the kernel does not tell."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as diagnosis:
            for family in (socket.AF_INET, socket.AF_INET6):
                head = struct.pack("=IHHII", 72, _BY_FAMILY, _REQUEST_AND_DUMP, 0, 0)
                what = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, _SYN_RECEIVED)
                where = struct.pack("!HH36x", port, 0) + _ANY_COOKIE
                diagnosis.send(head + what + where)
                if _lists_any(diagnosis):
                    return True
    except (OSError, AttributeError):
        pass
    return False


def _lists_any(diagnosis: socket.socket) -> bool:
    """Read the answer to its end, and say whether it names a socket."""
    found = False
    while True:
        answer = diagnosis.recv(65_536)
        at = 0
        while at < len(answer):
            length, kind = struct.unpack_from("=IH", answer, at)
            if kind != _BY_FAMILY:
                # NLMSG_DONE, or NLMSG_ERROR.
                return found
            found = True
            at += (length + 3) & ~3
