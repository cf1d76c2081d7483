"""Whether names resolve at all, asked on a thread that nothing else waits for."""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Sequence


def look_up(names: Sequence[tuple[str, int]]) -> "asyncio.Future[None]":
    """Done when one of the names resolves; the last error when none does."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[None] = loop.create_future()

    def settle(error: OSError | None) -> None:
        if not found.done():
            if error is None:
                found.set_result(None)
            else:
                found.set_exception(error)
                found.exception()  # it may be that nobody waits any more

    def work() -> None:
        error: OSError | None = None
        for host, port in names:
            try:
                socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError as exc:
                error = exc
            else:
                error = None
                break
        with contextlib.suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(settle, error)

    # A daemon: a resolver that hangs must not hold up the end of the program.
    threading.Thread(target=work, name="redis-lookup", daemon=True).start()
    return found


def is_literal(host: str) -> bool:
    """Whether it is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
