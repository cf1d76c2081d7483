"""The WebSocket tunnels of one route: how many there are, how many of each client, and how they have ended.

A place is taken when the exchange begins, because the upstream may take its time to switch, and is free again when both
sides of the tunnel are closed. It is no gate: a tunnel lives for hours, and only requests for one are to pay for it.
"""

import math
import random
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from gateway.config.sections.routes.model import RouteConfig
from gateway.proxy.answers.refusals import Refusal, Refusals, jittered
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.cells import Labels
from gateway.wire.tunnel import BACKPRESSURE, ENDINGS, TunnelLimits

# How many of the latest places that became free say when the next one will, and the bounds of that in seconds.
_REMEMBERED: Final = 8
_SOONEST: Final = 1.0
_LATEST: Final = 60.0


class Tunnels:
    """`count` are open or being opened, `most` may be, `client_most` of one client. `ended` says how often what has
    ended one, by `ENDINGS`."""

    __slots__ = ("_client_full", "_freed_at", "_full", "_held", "client_most", "count", "ended", "limits", "most")

    def __init__(self, config: RouteConfig) -> None:
        self.most = config.max_tunnels
        self.client_most = math.ceil(config.max_tunnels * config.tunnel_client_share)
        self.count = 0
        self.ended = dict.fromkeys(ENDINGS, 0)
        self.limits = TunnelLimits(
            config.tunnel_idle_timeout,
            config.tunnel_stall_timeout,
            config.tunnel_ping_interval or float("inf"),
            round(config.tunnel_buffer_bytes * config.backpressure_threshold),
        )
        self._held: dict[str, int] = {}
        # When the first place was taken, and then when places became free.
        self._freed_at: deque[float] = deque(maxlen=_REMEMBERED)
        full = f"the route {config.name} has its {self.most} tunnels open"
        self._full = Refusals(partial(Refusal, 503, "tunnel_limit", full))
        # Without Retry-After: when a place becomes free is up to this client.
        most_of_one = f"the client has {self.client_most} tunnels open on the route {config.name}, the most that it may"
        self._client_full = Refusal(429, "client_tunnel_limit", most_of_one)

    def refusal(self, client: str, now: float, rng: random.Random) -> Refusal | None:
        """What speaks against one more tunnel of this client."""
        if self.count >= self.most:
            return self._full.after(jittered(self._wait(now), rng))
        if self._held.get(client, 0) >= self.client_most:
            return self._client_full
        return None

    def take(self, client: str, now: float) -> None:
        """A place is taken."""
        self.count += 1
        self._held[client] = self._held.get(client, 0) + 1
        if not self._freed_at:
            self._freed_at.append(now)

    def give_back(self, client: str, now: float) -> None:
        """A place is free again."""
        self.count -= 1
        left = self._held[client] - 1
        if left:
            self._held[client] = left
        else:
            del self._held[client]
        self._freed_at.append(now)

    def dropped(self, side: str) -> int:
        """Tunnels so far whose `side`, client or upstream, took nothing."""
        return self.ended[f"{BACKPRESSURE}_{side}"]

    def _wait(self, now: float) -> float:
        """In how many seconds a place may become free: the mean time between those of late."""
        mean = (now - self._freed_at[0]) / len(self._freed_at)
        return min(max(mean, _SOONEST), _LATEST)


def register(metrics: Metrics, tunnels: Iterable[tuple[str, Tunnels]]) -> None:
    """Add the metrics of these routes, which are given by name."""
    of_routes = tuple(tunnels)

    def endings() -> Iterator[tuple[Labels, float]]:
        return (((name, by), count) for name, each in of_routes for by, count in each.ended.items())

    def drops() -> Iterator[tuple[Labels, float]]:
        return (((name, side), each.dropped(side)) for name, each in of_routes for side in ("client", "upstream"))

    metrics.gauge(
        "websocket_connections_max",
        "WebSocket tunnels that may be open.",
        ("route",),
        lambda: (((name,), each.most) for name, each in of_routes),
    )
    metrics.counter(
        "websocket_connections_ended_total",
        "WebSocket tunnels that have ended, by the side that ended them, or why the gateway did.",
        ("route", "by"),
        endings,
    )
    metrics.counter(
        "websocket_backpressure_drops_total",
        "WebSocket tunnels that the gateway has closed because a side took nothing of what waited for it.",
        ("route", "side"),
        drops,
    )
