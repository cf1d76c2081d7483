"""`/console`: the page that operators look at. Plain files, which ask the API for everything that they show.

The page holds no data, so everybody may have it. Its policy allows scripts and styles of these files alone, and
connections to this gateway alone. `settings.json` says what the page cannot find out by asking: who may read and act.
"""

from pathlib import Path
from typing import Final

import orjson
from aiohttp import web

from gateway.control.access import Access
from gateway.reasons import REASONS

PATH: Final = "/console"

_STATIC: Final = Path(__file__).with_name("static")
_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
_HEADERS: Final = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}


def routes(service: str, access: Access, dashboards_url: str | None) -> list[web.RouteDef]:
    """The page and its files for aiohttp. `service` is the name of this gateway."""
    known = {
        "service": service,
        "reading": "token" if access.guards_reading else "everybody",
        "acting": "token" if access.needs_token else "nobody" if access.is_closed else "loopback",
        "dashboardsUrl": dashboards_url,
        "reasons": {word: reason.title for word, reason in REASONS.items()},
    }
    files = {path.name: _answer(path) for path in sorted(_STATIC.iterdir()) if path.suffix in _TYPES}
    files["settings.json"] = orjson.dumps(known, option=orjson.OPT_APPEND_NEWLINE), "application/json"

    async def page(_: web.Request) -> web.Response:
        """`GET /console`."""
        return _served(*files["index.html"])

    async def moved(_: web.Request) -> web.Response:
        """`GET /console/`, as some type it. Relative, for a prefix that a proxy has stripped; from there the names of
        the files would not be right."""
        return web.Response(status=308, headers={"Location": f"..{PATH}"})

    async def file(request: web.Request) -> web.Response:
        """`GET /console/{name}`."""
        found = files.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        return _served(*found)

    return [web.get(PATH, page), web.get(f"{PATH}/", moved), web.get(f"{PATH}/{{name}}", file)]


def _answer(path: Path) -> tuple[bytes, str]:
    return path.read_bytes(), _TYPES[path.suffix]


def _served(body: bytes, content_type: str) -> web.Response:
    charset = None if content_type == "application/json" else "utf-8"
    return web.Response(body=body, content_type=content_type, charset=charset, headers=_HEADERS)
