"""Free TCP ports on the loopback."""

import socket


def free_port() -> int:
    """A port that nothing listens on now. Another process may take it before the caller does; that is rare enough."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False
