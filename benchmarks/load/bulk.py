"""One large body over one connection, as fast as it goes."""

import socket
import time

from benchmarks.host import pinned
from benchmarks.rig import Rig

_BLOCK = 1 << 20
_TIMEOUT = 30.0


def download(rig: Rig, port: int, target: str) -> tuple[int, float]:
    """Bytes of the body and seconds. Raises OSError when the answer is not a whole 200."""
    with pinned(rig.cores.load), socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT) as sock:
        started = time.perf_counter()
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        length, received = _head(sock)
        block = bytearray(_BLOCK)
        while received < length:
            count = sock.recv_into(block)
            if not count:
                raise OSError(f"the body ended after {received} of {length} bytes")
            received += count
        return length, time.perf_counter() - started


def upload(rig: Rig, port: int, target: str, size: int) -> tuple[int, float]:
    """Likewise for a request body of `size` bytes, up to the answer."""
    with pinned(rig.cores.load), socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT) as sock:
        started = time.perf_counter()
        head = f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {size}\r\n\r\n"
        sock.sendall(head.encode())
        block = bytes(_BLOCK)
        for offset in range(0, size, _BLOCK):
            sock.sendall(block[: size - offset])
        _head(sock)
        return size, time.perf_counter() - started


def _head(sock: socket.socket) -> tuple[int, int]:
    """Content-Length of the answer, and how much of the body came with the head."""
    received = b""
    while (end := received.find(b"\r\n\r\n")) < 0:
        piece = sock.recv(65_536)
        if not piece:
            raise OSError("the connection ended before the answer")
        received += piece
    if not received.startswith(b"HTTP/1.1 200"):
        raise OSError(f"not a 200: {received[:200]!r}")
    length = 0
    for line in received[:end].split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return length, len(received) - end - 4
