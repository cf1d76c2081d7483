"""The endpoints that behave: fixed answers, echo, bodies of any size, event streams, WebSockets.

Bodies are streamed both ways and never held whole. Bytes that are not text appear in JSON as the character of the
same number (ISO 8859-1), so that nothing is lost.
"""

import asyncio
import hashlib
import json
import random
from http import HTTPStatus

from aiohttp import WSCloseCode, WSMsgType, web

from upstream_stub.parameters import choice, integer, number, whole

BLOCK = bytes(range(256)) * 1024
TEBIBYTE = 1 << 40
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

OK_BODY = json.dumps({"status": "ok"}).encode()
FAIL_BODY = json.dumps({"error": "this endpoint always fails"}).encode()


async def ok(_: web.Request) -> web.Response:
    """200 with a short JSON body."""
    return web.Response(body=OK_BODY, content_type="application/json")


async def fail(_: web.Request) -> web.Response:
    """500 with a short JSON body."""
    return web.Response(body=FAIL_BODY, status=500, content_type="application/json")


async def slow(request: web.Request) -> web.Response:
    """`?seconds=2` until the head is sent."""
    seconds = number(request, "seconds", 2.0)
    await asyncio.sleep(seconds)
    return web.json_response({"status": "ok", "slept": seconds})


async def flaky(request: web.Request) -> web.Response:
    """`?rate=0.5&status=500`: that share of the answers, at random, has that status; the others are 200."""
    rate = number(request, "rate", 0.5, high=1.0)
    status = integer(request, "status", 500, low=200, high=599)
    return answer(status if random.random() < rate else 200)


async def status_code(request: web.Request) -> web.Response:
    """`/status/{code}?retry_after=`: a final status, with `Retry-After` (whole seconds) if asked for."""
    response = answer(whole(request.match_info["code"], "the status", 200, 599))
    if "retry_after" in request.query:
        response.headers["Retry-After"] = str(integer(request, "retry_after", 0, high=86_400))
    return response


def answer(status: int) -> web.Response:
    """A small JSON answer, or none where the status forbids a body (RFC 9110 section 6.4.1)."""
    if status in {204, 205, 304}:
        return web.Response(status=status)
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unassigned"
    return web.json_response({"status": status, "reason": phrase}, status=status, reason=phrase)


async def echo(request: web.Request) -> web.Response:
    """The request as it arrived: `target` and `headers` byte for byte, the body as its length and SHA-256.

    The body is what is inside the framing: chunks are joined, a content coding is left alone.
    """
    digest = hashlib.sha256()
    length = 0
    async for chunk in request.content.iter_any():
        digest.update(chunk)
        length += len(chunk)
    return web.json_response(
        {
            "method": request.method,
            "target": request.raw_path.encode("utf-8", "surrogateescape").decode("iso-8859-1"),
            "http_version": f"{request.version.major}.{request.version.minor}",
            "headers": [[name.decode("iso-8859-1"), value.decode("iso-8859-1")] for name, value in request.raw_headers],
            "body_length": length,
            "body_sha256": digest.hexdigest(),
        }
    )


async def stream(request: web.Request) -> web.StreamResponse:
    """`?chunks=10&bytes=1024&delay=0`: so many chunks of so many bytes, so far apart; chunked unless HTTP/1.0."""
    chunks = integer(request, "chunks", 10, high=10_000_000)
    size = integer(request, "bytes", 1024, low=1, high=len(BLOCK))
    delay = number(request, "delay", 0.0)
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    await response.prepare(request)
    for index in range(0 if request.method == "HEAD" else chunks):
        if delay and index:
            await asyncio.sleep(delay)
        await response.write(BLOCK[:size])
    await response.write_eof()
    return response


async def octets(request: web.Request) -> web.StreamResponse:
    """`/bytes/{n}`: n bytes with their Content-Length; byte i is i modulo 256."""
    size = whole(request.match_info["n"], "the number of bytes", 0, TEBIBYTE)
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.content_length = size
    await response.prepare(request)
    left = 0 if request.method == "HEAD" else size
    while left:
        piece = BLOCK[:left]
        await response.write(piece)
        left -= len(piece)
    await response.write_eof()
    return response


async def events(request: web.Request) -> web.StreamResponse:
    """`/sse?events=10&delay=1`: numbered server-sent events."""
    count = integer(request, "events", 10, high=10_000_000)
    delay = number(request, "delay", 1.0)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    for index in range(0 if request.method == "HEAD" else count):
        if delay and index:
            await asyncio.sleep(delay)
        await response.write(f'id: {index}\nevent: tick\ndata: {{"tick": {index}}}\n\n'.encode())
    await response.write_eof()
    return response


async def not_found(request: web.Request) -> web.Response:
    """404 with the path as it was received, byte for byte."""
    return web.json_response({"error": "no such endpoint", "path": request.raw_path}, status=404)


class Sockets:
    """The open WebSockets, each an echo, told when the stub stops."""

    def __init__(self) -> None:
        self._open: set[web.WebSocketResponse] = set()

    async def echo(self, request: web.Request) -> web.StreamResponse:
        """Echoes text and binary messages and answers the close handshake; takes the first subprotocol offered.

        `?ending=drop` drops the connection after the first message, without a close frame.
        """
        drop = choice(request, "ending", ("handshake", "drop")) == "drop"
        offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")[0].strip()
        socket = web.WebSocketResponse(protocols=(offered,) if offered else (), max_msg_size=MAX_MESSAGE_BYTES)
        await socket.prepare(request)
        self._open.add(socket)
        try:
            async for message in socket:
                if drop and request.transport is not None:
                    request.transport.abort()
                    break
                if message.type is WSMsgType.TEXT:
                    await socket.send_str(message.data)
                elif message.type is WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
        finally:
            self._open.discard(socket)
        return socket

    async def say_goodbye(self, _: web.Application) -> None:
        """Close every open WebSocket with status 1001 (going away). aiohttp calls this when the application stops."""
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in self._open))
