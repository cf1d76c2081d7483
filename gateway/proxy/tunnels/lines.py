"""WebSocket tunnels in the application log, for who looks there before looking at metrics.

    INFO      how many are open on a route: `active connections`, at most every 10 s while it changes, and once a minute
    WARNING   tunnels that were closed because a side took nothing (`backpressure`), or answered no Ping; once a second

Each worker speaks of its own tunnels and of its share of the cap.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from gateway.background import Ticker
from gateway.proxy.tunnels.tunnels import Tunnels
from gateway.telemetry.log.render import counted
from gateway.wire.tunnel import BACKPRESSURE, UNRESPONSIVE

logger = logging.getLogger("gateway.websocket")

_WHILE_CHANGING: Final = 10.0
_WHILE_STEADY: Final = 60.0
_CAUSES: Final = (
    (BACKPRESSURE, "websocket_backpressure", "backpressure: a side took nothing of what waited for it for {:g} s"),
    (UNRESPONSIVE, "websocket_unresponsive", "a side answered no Ping for {:g} s"),
)


class _Route:
    """What was last written of one route."""

    __slots__ = ("count", "ended", "name", "tunnels", "written_at")

    def __init__(self, name: str, tunnels: Tunnels) -> None:
        self.name = name
        self.tunnels = tunnels
        self.count = 0
        self.written_at = -_WHILE_STEADY
        self.ended = dict(tunnels.ended)


class TunnelLines:
    """Writes what `tunnels`, by the names of their routes, have to say. `start` and `stop` are called on one event
    loop; `stop` writes the rest."""

    def __init__(self, tunnels: Iterable[tuple[str, Tunnels]], clock: Callable[[], float] = time.monotonic) -> None:
        self._routes = [_Route(name, each) for name, each in tunnels]
        self._clock = clock
        self._ticker = Ticker(self.write)

    def start(self) -> None:
        """Begin to write, on the running loop. Nothing is to be done where no route has tunnels."""
        if self._routes:
            self._ticker.start()

    def stop(self) -> None:
        """Write what has not been written yet, and end."""
        self._ticker.stop()
        self.write()

    def write(self) -> None:
        """What there is to say of each route since the last call."""
        now = self._clock()
        for route in self._routes:
            self._closed(route)
            count, since = route.tunnels.count, now - route.written_at
            if since >= _WHILE_CHANGING if count != route.count else count and since >= _WHILE_STEADY:
                route.count, route.written_at = count, now
                most = route.tunnels.most
                logger.info(
                    "WebSocket route %s: %d active connections of %d",
                    *(route.name, count, most),
                    extra={"event": "websocket_connections", "route": route.name, "count": count, "limit": most},
                )

    def _closed(self, route: _Route) -> None:
        """Those that the gateway has closed because of a side."""
        ended, before = route.tunnels.ended, route.ended
        if ended == before:
            return
        route.ended = dict(ended)
        for cause, event, words in _CAUSES:
            by_side = {side: ended[f"{cause}_{side}"] - before[f"{cause}_{side}"] for side in ("client", "upstream")}
            total = sum(by_side.values())
            if total:
                logger.warning(
                    "WebSocket route %s: closed %s, %s (the client of %d, the upstream of %d)",
                    *(route.name, counted(total, "tunnel"), words.format(route.tunnels.limits.stall_timeout)),
                    *by_side.values(),
                    extra={"event": event, "route": route.name, "count": total},
                )
