"""`/metrics`: the exposition, in the format that `Accept` asks for.

All values are read in one go and put into text piece by piece, with a turn of the event loop in between, so that no
request waits for a scrape. Scrapes that come while one is being made share it, and a flood of them shares as many as an
`Allowance` of the loop's time permits. With 5 % of the time and 5 ms for each scrape, what is served is at most 100 ms
old.

With several workers, `gather` gets the figures of all of them; they are combined piece by piece, too.

Not compressed: a scraper is near, and compressing costs more time on the loop than rendering.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.control.serving.allowance import Allowance
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.exposition import negotiate
from gateway.telemetry.metrics.snapshot import Parts


class Scrape:
    """Makes and shares the exposition of `metrics`, one of each format. `gather` is given where there are workers."""

    def __init__(
        self,
        metrics: Metrics,
        allowance: Allowance | None = None,
        gather: Callable[[], Awaitable[Parts]] | None = None,
    ) -> None:
        self._metrics = metrics
        self._gather = gather
        self._allowance = allowance or Allowance()
        self._last: dict[bool, tuple[bytes, str]] = {}
        self._making: dict[bool, asyncio.Task[tuple[bytes, str]]] = {}

    def warm_up(self) -> None:
        """Make the first exposition, which makes the text of every series (20 ms at 100 routes), so that no request has
        to wait for that."""
        if self._gather is None:
            self._metrics.render(None)
        else:
            own = self._metrics.snapshot()
            b"".join(self._metrics.pieces_of_several(None, Parts(own, [(0, own)], {}))[0])

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type."""
        openmetrics = negotiate(accept)
        making = self._making.get(openmetrics)
        if making is None:
            last = self._last.get(openmetrics)
            if last is not None and not self._allowance.open:
                return last
            making = asyncio.get_running_loop().create_task(self._make(accept, openmetrics))
            self._making[openmetrics] = making
        # When one scraper leaves, the others still want the result.
        return await asyncio.shield(making)

    async def respond(self, accept: str) -> web.Response:
        """The metrics as an answer, in the format that `Accept` prefers."""
        body, content_type = await self.text(accept)
        return web.Response(body=body, headers={"Content-Type": content_type, "Vary": "Accept"})

    def routes(self) -> list[web.RouteDef]:
        """`/metrics` for aiohttp."""

        async def scrape(request: web.Request) -> web.Response:
            """`GET /metrics`."""
            # Several Accept lines are one list (RFC 9110 section 5.3).
            return await self.respond(", ".join(request.headers.getall("Accept", [])))

        return [web.get("/metrics", scrape)]

    async def _make(self, accept: str, openmetrics: bool) -> tuple[bytes, str]:
        spent = 0.0
        try:
            if self._gather is None:
                began = time.perf_counter()
                pieces, content_type = self._metrics.pieces(accept)
            else:
                parts = await self._gather()
                began = time.perf_counter()
                pieces, content_type = self._metrics.pieces_of_several(accept, parts)
            made: list[bytes] = []
            for piece in pieces:
                made.append(piece)
                spent += time.perf_counter() - began
                await asyncio.sleep(0)
                began = time.perf_counter()
            last = self._last[openmetrics] = b"".join(made), content_type
            return last
        finally:
            self._allowance.spend(spent)
            del self._making[openmetrics]
