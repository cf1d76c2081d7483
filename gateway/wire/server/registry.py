"""What the client connections of a listener share, and what is asked of all of them."""

import asyncio
import time

from gateway.wire.deadlines import Deadlines
from gateway.wire.message.head_reader import KeptHeads
from gateway.wire.message.request import Limits
from gateway.wire.ports import Front
from gateway.wire.server.body_rate import BodyRate, RateLimits
from gateway.wire.server.places import Occupant, Places
from gateway.wire.server.tls_buffers import GrownConnections


class Server:
    """What all connections of a listener share."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        front: Front,
        *,
        limits: Limits,
        scheme: str = "http",
        places: Places | None = None,
        header_timeout: float = 10.0,
        keepalive_timeout: float = 75.0,
        client_idle_timeout: float = 60.0,
        rates: RateLimits | None = None,
    ) -> None:
        self.loop = loop
        self.front = front
        self.limits = limits
        self.scheme = scheme
        self.places = Places(20_000) if places is None else places
        self.header_timeout = header_timeout
        self.keepalive_timeout = keepalive_timeout
        self.client_idle_timeout = client_idle_timeout
        self.kept_heads = KeptHeads()
        self.rates = rates or RateLimits()
        # TLS connections whose buffers have grown: see gateway.wire.server.tls_buffers.
        self.grown = GrownConnections()
        # Seconds, not milliseconds: see gateway.wire.deadlines.
        self.deadlines = Deadlines(loop, min(1.0, header_timeout / 4, keepalive_timeout / 4))
        self.draining = False

    def upload(self, now: float) -> BodyRate:
        """For a request body that begins."""
        rates = self.rates
        return BodyRate(
            rates.request_rate, self.client_idle_timeout, now, balance=rates.grace, timeout=rates.body_timeout
        )

    def download(self, now: float) -> BodyRate:
        """For a response that its client does not take as fast as it comes. Until then the client's kernel has taken
        what it could, so that it begins with all that it could have earned."""
        balance = max(self.rates.grace, self.client_idle_timeout)
        return BodyRate(self.rates.response_rate, self.client_idle_timeout, now, balance=balance)

    def close_idle(self, idle_for: float) -> None:
        """Close the connections that have been without a request for that many seconds."""
        since = time.monotonic() - idle_for
        places = self.places
        for connection in list(places.connections):
            connection.close_if_idle(since)
        for occupant in [*places.handshakes, *places.reserve]:
            quiet_since = occupant.quiet_since
            if quiet_since is not None and quiet_since <= since and not occupant.unread:
                occupant.abort()

    @property
    def empty(self) -> bool:
        """Whether no connection is left, those included that have no place."""
        places = self.places
        return not (places.connections or places.handshakes or places.reserve)

    def give_up(self) -> None:
        """Have every exchange end now, with an answer if it has none yet."""
        for connection in list(self.places.connections):
            connection.give_up()

    def abort(self) -> None:
        """Close everything at once."""
        places = self.places
        everybody: list[Occupant] = [*places.connections, *places.handshakes, *places.reserve]
        for occupant in everybody:
            occupant.abort()
