"""`/`: links to what is there, for somebody who has just started the gateway. Browsers get a page, all others JSON.

It is served only while no route takes the path. It names the paths of the control plane and the prefixes of routes for
any host, which a client may know anyway.
"""

from collections.abc import Iterable
from html import escape

import orjson
from aiohttp import web

PATH = "/"
_LINKS = {
    "health": ("/health", "how the gateway is"),
    "metrics": ("/metrics", "figures for Prometheus"),
    "breakers": ("/status/breakers", "every circuit"),
    "resilience": ("/api/resilience/health", "how each upstream is, and why"),
    "console": ("/console", "all of it, as it happens"),
    "documentation": ("/api/docs", "every operation of the control plane, with an example"),
    "openapi": ("/api/openapi.json", "the same for programs"),
}
_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{service}</title>
<h1>{service}</h1>
<p>This is an API gateway.</p>
<ul>
{links}
</ul>
<p>Requests below these paths are forwarded: {routes}</p>
</html>
"""


def routes(service: str, prefixes: Iterable[str]) -> list[web.RouteDef]:
    """`/` for aiohttp: what is there, as a page for browsers, else as JSON. `prefixes` are those of the routes."""
    prefixes = list(dict.fromkeys(prefixes))
    links = {name: path for name, (path, _) in _LINKS.items()}
    known = {"service": service, "links": links, "routes": prefixes}
    body = orjson.dumps(known, option=orjson.OPT_APPEND_NEWLINE)
    items = (f'<li><a href="{path}">{path}</a>: {meaning}</li>' for path, meaning in _LINKS.values())
    forwarded = ", ".join(f"<code>{escape(prefix)}</code>" for prefix in prefixes) or "none"
    page = _PAGE.format(service=escape(service), links="\n".join(items), routes=forwarded)
    headers = {"Vary": "Accept", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}

    async def root(request: web.Request) -> web.Response:
        """`GET /`: a page for browsers, else JSON."""
        if "text/html" in request.headers.get("Accept", ""):
            return web.Response(text=page, content_type="text/html", headers=headers)
        return web.Response(body=body, content_type="application/json", headers=headers)

    return [web.get(PATH, root)]
