"""What the client connections of a listener share, and the factory that makes them."""

import asyncio
import time

from gateway.wire.deadlines import Deadlines
from gateway.wire.front import Front
from gateway.wire.request import Limits
from gateway.wire.server_connection import ServerConnection


class Server:
    """What all connections of a listener share."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        front: Front,
        *,
        limits: Limits,
        scheme: str = "http",
        max_connections: int = 20_000,
        header_timeout: float = 10.0,
        keepalive_timeout: float = 75.0,
        client_idle_timeout: float = 60.0,
    ) -> None:
        self.loop = loop
        self.front = front
        self.limits = limits
        self.scheme = scheme
        self.max_connections = max_connections
        self.header_timeout = header_timeout
        self.keepalive_timeout = keepalive_timeout
        self.client_idle_timeout = client_idle_timeout
        self.connections: set[ServerConnection] = set()
        self.turned_away: set[ServerConnection] = set()
        # Seconds, not milliseconds: see gateway.wire.deadlines.
        self.deadlines = Deadlines(loop, min(1.0, header_timeout / 4, keepalive_timeout / 4))
        self.draining = False

    def __call__(self) -> "ServerConnection":
        return ServerConnection(self)

    def close_idle(self, idle_for: float) -> None:
        """Close the connections that have been without a request for that many seconds."""
        since = time.monotonic() - idle_for
        for connection in list(self.connections):
            connection.close_if_idle(since)

    def give_up(self) -> None:
        for connection in list(self.connections):
            connection.give_up()

    def abort(self) -> None:
        for connection in [*self.connections, *self.turned_away]:
            connection.abort()
