"""The reverse proxy that a Python team writes first: an aiohttp application and one `ClientSession`. No protection.

`python -m benchmarks.peers.aiohttp_app PORT UPSTREAM_URL`
"""

import sys
from collections.abc import AsyncIterator

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

_HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "content-length"}


def application(upstream: str) -> web.Application:
    app = web.Application(client_max_size=1 << 30)
    session_key: web.AppKey[ClientSession] = web.AppKey("session", ClientSession)

    async def session(app: web.Application) -> AsyncIterator[None]:
        connector = TCPConnector(limit=1024)
        async with ClientSession(connector=connector, auto_decompress=False, timeout=ClientTimeout(30)) as opened:
            app[session_key] = opened
            yield

    async def forward(request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers["X-Forwarded-For"] = request.remote or ""
        body = request.content if request.can_read_body else None
        async with app[session_key].request(
            request.method, upstream + request.raw_path, headers=headers, data=body, allow_redirects=False
        ) as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    response.headers.add(name, value)
            response.content_length = answer.content_length
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{tail:.*}", forward)
    return app


if __name__ == "__main__":
    uvloop.install()
    web.run_app(application(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
