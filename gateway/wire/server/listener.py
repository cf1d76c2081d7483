"""Listening sockets: one port, IPv4 and IPv6, and an accept queue that is long enough for a burst."""

import socket
from typing import Final

BACKLOG: Final = 4096


def listen(host: str, port: int) -> list[socket.socket]:
    """Bound, listening sockets. An empty host is every address of both families. Raises OSError."""
    if not host:
        if socket.has_dualstack_ipv6():
            return [_bind(socket.AF_INET6, ("::", port), dual=True)]
        return [_bind(socket.AF_INET, ("0.0.0.0", port))]  # noqa: S104 - what an empty host asks for
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = dict.fromkeys((family, address[:2]) for family, _, _, _, address in found)
    sockets: list[socket.socket] = []
    try:
        for family, address in addresses:
            sockets.append(_bind(family, (str(address[0]), int(address[1]))))
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind(family: int, address: tuple[str, int], *, dual: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
