"""What arrived: requests by path, how many at a time, connections.

A request is in flight from the moment its head has been read until its answer is written or its connection is gone.
Paths are counted as received, without the query; beyond `MAX_PATHS` of them the rest is counted as `_other`, so that
memory stays bounded. `/stats` does not count itself.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

MAX_PATHS = 1000
OTHER = "_other"

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Tally:
    """Counts requests, those in flight now, and the most that were in flight at once."""

    __slots__ = ("in_flight", "max_in_flight", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.in_flight = 0
        self.max_in_flight = 0

    def enter(self) -> None:
        """Count one request that begins."""
        self.requests += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def leave(self) -> None:
        """Count one request that has ended."""
        self.in_flight -= 1

    def reset(self) -> None:
        """Forget the past. Requests that are in flight stay counted as such."""
        self.requests = 0
        self.max_in_flight = self.in_flight


class Stats:
    """What the stub counts: requests in all and for each path, and open connections."""

    def __init__(self) -> None:
        self._all = Tally()
        self._by_path: dict[str, Tally] = {}
        self.connections = 0

    def counted(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint, with its requests counted."""

        async def count(request: web.Request) -> web.StreamResponse:
            """Count the request, whichever way it ends, and let the endpoint answer it."""
            tally = self._tally(request.raw_path.partition("?")[0])
            self._all.enter()
            tally.enter()
            try:
                return await endpoint(request)
            finally:
                tally.leave()
                self._all.leave()

        return count

    def reset(self) -> None:
        """Set everything to zero. Requests in flight stay counted as such."""
        self.connections = 0
        self._all.reset()
        self._by_path = {path: tally for path, tally in self._by_path.items() if tally.in_flight}
        for tally in self._by_path.values():
            tally.reset()

    def as_dict(self) -> dict[str, object]:
        """The figures in the shape that `/stats` answers with."""
        return {
            "total": self._all.requests,
            "in_flight": self._all.in_flight,
            "max_in_flight": self._all.max_in_flight,
            "connections": self.connections,
            "requests": {path: tally.requests for path, tally in self._by_path.items()},
            "max_in_flight_by_path": {path: tally.max_in_flight for path, tally in self._by_path.items()},
        }

    def _tally(self, path: str) -> Tally:
        tally = self._by_path.get(path)
        if tally is None:
            if len(self._by_path) >= MAX_PATHS:
                path = OTHER
            tally = self._by_path.setdefault(path, Tally())
        return tally
