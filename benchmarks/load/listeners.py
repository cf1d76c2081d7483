"""Open consoles: listeners of the gateway's live view that take what they are sent."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator

_LIVE = b"GET /api/resilience/live HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"


@contextlib.contextmanager
def listeners(port: int, count: int) -> Iterator[None]:
    """Open them, and read what comes, in a thread of this process. They are closed in the end."""
    stop = threading.Event()
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for number in range(count):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5.0))
            sock.sendall(_LIVE)
            if not sock.recv(65_536).startswith(b"HTTP/1.1 200"):
                raise OSError(f"listener {number} was refused")
            selector.register(sock, selectors.EVENT_READ)

        def read() -> None:
            while not stop.is_set():
                for key, _ in selector.select(0.2):
                    if isinstance(key.fileobj, socket.socket) and not key.fileobj.recv(1 << 20):
                        selector.unregister(key.fileobj)

        thread = threading.Thread(target=read, name="listeners", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
