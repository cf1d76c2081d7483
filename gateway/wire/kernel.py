"""What the kernel knows of a connection and the event loop does not tell."""

import asyncio
import contextlib
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


# SO_BINDTOIFINDEX of Linux, and the number of an interface that there is not. Since 5.7 no privileges are needed to
# bind a socket that is not bound.
_SO_BIND_TO_INTERFACE: Final = 62
_NO_INTERFACE: Final = struct.pack("i", 0x7FFFFFFF)


def refuse_new_connections(listener: socket.socket) -> None:
    """Let no further connection begin, so that the accept queue of a listening socket can be emptied before it closes.
    Handshakes that have begun complete, and the queue stays as it is. This is true for every descriptor of the socket.

    A socket that is bound to an interface from which nothing comes is not found for a SYN, so the client is refused at
    once. As long as another socket listens on the port (SO_REUSEPORT), its SYN may be dropped instead, and it repeats
    it after a second. A filter that drops each SYN (SO_ATTACH_FILTER) needs privileges on some kernels. Where the
    kernel does not bind, newcomers are taken until the socket closes.
    """
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_BIND_TO_INTERFACE, _NO_INTERFACE)


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
