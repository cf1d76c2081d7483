"""Free TCP ports on the loopback."""

import fcntl
import itertools
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# Below the ports that the kernel gives to outgoing connections and to whoever binds port 0, which otherwise could take
# a port between this function and the program that is to listen on it.
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 20_000
_END: Final = 32_000

_reserved: set[int] = set()


def _candidates() -> Iterator[int]:
    end = min(_END, int(_EPHEMERAL.read_text().split()[0])) if _EPHEMERAL.exists() else _END
    ports = range(_LOWEST if end > _LOWEST + 1000 else 1024, end)
    first = random.randrange(len(ports))
    return itertools.chain(ports[first:], ports[:first])


def free_port() -> int:
    """A port that nothing listens on, and that no other call returns while this process lives, in whatever process.

    A lock on one byte of a file that all test processes share reserves it. RuntimeError when there is none.
    """
    for port in _candidates():
        if port not in _reserved and _reserve(port) and _is_free(port):
            return port
    raise RuntimeError("no port is free")


def _reserve(port: int) -> bool:
    try:
        # The lock of a process ends with it, or when it closes any descriptor of the file; children do not inherit it.
        fcntl.lockf(_lock_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _reserved.add(port)
    return True


def _lock_file() -> int:
    global _descriptor  # noqa: PLW0603 - one for the process, opened when it is first needed
    if _descriptor is None:
        path = Path(tempfile.gettempdir()) / f"gateway-test-ports-{os.getuid()}"
        _descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return _descriptor


_descriptor: int | None = None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a connection to the port can be made."""
    try:
        with socket.create_connection((host, port), timeout=5.0):
            return True
    except OSError:
        return False
