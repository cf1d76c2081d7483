"""Connections that have done one request and then stay, doing nothing."""

import contextlib
import socket
from collections.abc import Iterator

# A source address has some 28,000 ports for one destination; several leave room for what is closing.
_SOURCES = 8


@contextlib.contextmanager
def idle_connections(port: int, target: str, count: int) -> Iterator[int]:
    """Open them, one request each; yields how many there are. They are closed in the end."""
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        opened = 0
        for index in range(count):
            source = (f"127.0.0.{2 + index % _SOURCES}", 0)
            sock = stack.enter_context(
                socket.create_connection(("127.0.0.1", port), timeout=5.0, source_address=source)
            )
            sock.sendall(request)
            if not sock.recv(4096).startswith(b"HTTP/1.1 200"):
                raise OSError(f"connection {index} was not served")
            opened += 1
        yield opened
