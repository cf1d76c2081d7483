"""`/api/docs`: a page that shows the OpenAPI document. It is one file that loads nothing from elsewhere, and its policy
allows nothing else."""

import base64
import hashlib
from pathlib import Path

from aiohttp import web

PATH = "/api/docs"


def routes() -> list[web.RouteDef]:
    """The page that shows the API to people, with a Content-Security-Policy that allows only its own script and
    style."""
    page = Path(__file__).with_name("docs.html").read_text(encoding="utf-8")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_digest(page, 'script')}'",
            f"style-src '{_digest(page, 'style')}'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}

    async def docs(_: web.Request) -> web.Response:
        """`GET /api/docs`."""
        return web.Response(text=page, content_type="text/html", headers=headers)

    return [web.get(PATH, docs)]


def _digest(page: str, element: str) -> str:
    """The hash of an element's text, with which a policy allows this element and no other one (CSP Level 3)."""
    text = page.partition(f"<{element}>")[2].partition(f"</{element}>")[0]
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
