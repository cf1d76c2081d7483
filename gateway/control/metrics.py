"""`/metrics`: the exposition, in the format that `Accept` asks for.

Rendered on the event loop in one go: about 3 ms at 100 routes and 50 upstreams. Not compressed: a scraper is near, and
compressing costs more time on the loop than rendering.
"""

from aiohttp import web

from gateway.telemetry.metrics import Metrics


def routes(metrics: Metrics) -> list[web.RouteDef]:
    async def scrape(request: web.Request) -> web.Response:
        # Several Accept lines are one list (RFC 9110 section 5.3).
        body, content_type = metrics.render(", ".join(request.headers.getall("Accept", [])))
        return web.Response(body=body, headers={"Content-Type": content_type, "Vary": "Accept"})

    return [web.get("/metrics", scrape)]
