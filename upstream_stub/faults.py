"""Faults on demand, under `/fault/`: everything an upstream can do wrong on the wire.

Each answers any method. What is sent is fixed by the parameters, so that a drill can tell what must come out of the
gateway. TLS faults and a host that drops packets are left out: they need more than a process.
"""

import asyncio

from aiohttp import web

from upstream_stub.listener import Listener
from upstream_stub.parameters import WrongParameter, choice, integer, number
from upstream_stub.raw import RawAnswer, connection, reset, send

MEBIBYTE = 1 << 20
FRAMINGS = ("length", "chunked")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"

GARBAGE = {
    "bytes": b"\x16\x03\x01\x00\xff\x00 this is no HTTP at all \xfe\xff\r\n\r\n",
    "status": b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "version": b"HTTP/3.7 200 OK\r\nContent-Length: 0\r\n\r\n",
    "header": b"HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 0\r\n\r\n",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "both-framings": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\nabc\r\n0\r\n\r\n",
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: surprise\r\n\r\n",
    "long-head": b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * MEBIBYTE + b"\r\nContent-Length: 0\r\n\r\n",
    "many-headers": b"HTTP/1.1 200 OK\r\n" + b"X-Many: x\r\n" * 20_000 + b"Content-Length: 0\r\n\r\n",
}


def partial_body(framing: str, after: int) -> bytes:
    """The head of an answer and `after` bytes of a body that announces more."""
    body = b"x" * after
    if framing == "length":
        return HEAD + b"Content-Length: %d\r\n\r\n" % (2 * after + 100) + body
    chunk = b"%x\r\n%b\r\n" % (after, body) if after else b""
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk


async def reset_before_head(request: web.Request) -> web.StreamResponse:
    """RST instead of an answer; `?after=0` seconds."""
    await asyncio.sleep(number(request, "after", 0.0))
    reset(request)
    return RawAnswer()


async def close_before_head(request: web.Request) -> web.StreamResponse:
    """The connection ends in order, without an answer; `?after=0` seconds."""
    await asyncio.sleep(number(request, "after", 0.0))
    return RawAnswer()


async def reset_mid_body(request: web.Request) -> web.StreamResponse:
    """`?framing=length|chunked&after=50`: head, so many bytes, then RST."""
    await send(request, partial_body(choice(request, "framing", FRAMINGS), _after(request)))
    # Let the peer take the bytes out of its kernel: some stacks discard them when the RST comes.
    await asyncio.sleep(0.05)
    reset(request)
    return RawAnswer()


async def close_mid_body(request: web.Request) -> web.StreamResponse:
    """`?framing=length|chunked&after=50`: head, so many bytes, then the connection ends in order: truncation."""
    await send(request, partial_body(choice(request, "framing", FRAMINGS), _after(request)))
    return RawAnswer()


async def stall(request: web.Request) -> web.StreamResponse:
    """Nothing at all for `?seconds=60`, then the connection ends."""
    await asyncio.sleep(number(request, "seconds", 60.0))
    return RawAnswer()


async def stall_mid_body(request: web.Request) -> web.StreamResponse:
    """`?framing=length|chunked&after=50&seconds=60`: head, so many bytes, silence, then the connection ends."""
    seconds = number(request, "seconds", 60.0)
    await send(request, partial_body(choice(request, "framing", FRAMINGS), _after(request)))
    await asyncio.sleep(seconds)
    return RawAnswer()


async def garbage(request: web.Request) -> web.StreamResponse:
    """`?kind=bytes` or another key of `GARBAGE`: an answer that is not valid HTTP, then the connection ends."""
    await send(request, GARBAGE[choice(request, "kind", tuple(GARBAGE))])
    return RawAnswer()


async def wrong_length(request: web.Request) -> web.StreamResponse:
    """`?declared=100&sent=50`: a Content-Length and a body that disagree.

    Too little, and the connection ends. Too much, and it stays open with the surplus on it, as if a next answer came.
    """
    declared = integer(request, "declared", 100, high=MEBIBYTE)
    sent = integer(request, "sent", 50, high=MEBIBYTE)
    await send(request, HEAD + b"Content-Length: %d\r\n\r\n" % declared + b"x" * sent)
    return RawAnswer(keep_alive=sent >= declared)


async def trickle(request: web.Request) -> web.StreamResponse:
    """`?part=body|head|all&bytes=20&delay=0.1`: a correct answer, that part of it byte by byte."""
    size = integer(request, "bytes", 20, high=MEBIBYTE)
    delay = number(request, "delay", 0.1)
    part = choice(request, "part", ("body", "head", "all"))
    head, body = HEAD + b"Content-Length: %d\r\n\r\n" % size, b"x" * size
    for octets, slowly in ((head, part != "body"), (body, part != "head")):
        step = 1 if slowly else max(1, len(octets))
        for start in range(0, len(octets), step):
            if slowly:
                await asyncio.sleep(delay)
            await send(request, octets[start : start + step])
    return RawAnswer(keep_alive=True)


async def early(request: web.Request) -> web.StreamResponse:
    """`?status=413&then=drain|close|ignore&seconds=60`: answers before the request body is read, without a 100.

    Then reads and drops the body; or closes at once, with the body unread; or reads no more and keeps the connection
    for `seconds`.
    """
    status = integer(request, "status", 413, low=400, high=599)
    then = choice(request, "then", ("drain", "close", "ignore"))
    seconds = number(request, "seconds", 60.0)
    body = b'{"error": "too early"}'
    head = b"HTTP/1.1 %d Early\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % (status, len(body))
    close = b"" if then == "drain" else b"Connection: close\r\n"
    if then != "drain":
        connection(request).pause_reading()
    await send(request, head + close + b"\r\n" + body)
    if then == "drain":
        return RawAnswer(keep_alive=True)
    if then == "ignore":
        await asyncio.sleep(seconds)
    connection(request).close()
    return RawAnswer()


async def informational(request: web.Request) -> web.StreamResponse:
    """`?codes=103,100&delay=0`: those interim answers, so far apart, and then a 200."""
    codes = request.query.get("codes", "103").split(",")
    delay = number(request, "delay", 0.0)
    allowed = {"100": b"Continue", "102": b"Processing", "103": b"Early Hints", "110": b"Unassigned"}
    if len(codes) > 100 or not set(codes) <= allowed.keys():
        raise WrongParameter(f"codes must be at most 100 of {', '.join(allowed)}, with commas between them")
    for code in codes:
        link = b"Link: </style.css>; rel=preload\r\n" if code == "103" else b""
        await send(request, b"HTTP/1.1 %b %b\r\n%b\r\n" % (code.encode(), allowed[code], link))
        await asyncio.sleep(delay)
    return web.Response(text="final\n")


async def trailers(request: web.Request) -> web.StreamResponse:
    """A chunked answer with two trailer fields, one of which must never be merged into a head."""
    await send(
        request,
        HEAD
        + b"Transfer-Encoding: chunked\r\nTrailer: X-Checksum\r\n\r\n"
        + b"5\r\nhello\r\n0\r\nX-Checksum: 5d41402a\r\nContent-Length: 99\r\n\r\n",
    )
    return RawAnswer(keep_alive=True)


class Outages:
    """Faults of the whole process: not listening, and unhealthy."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._unhealthy_until = 0.0

    async def refuse(self, request: web.Request) -> web.StreamResponse:
        """`?seconds=5`: stops listening for so long; connections are refused, idle ones closed."""
        seconds = number(request, "seconds", 5.0)
        self._listener.refuse(seconds)
        response = web.json_response({"refusing_for": seconds})
        response.force_close()
        return response

    async def unhealthy(self, request: web.Request) -> web.StreamResponse:
        """`?seconds=5`: `/health` answers 503 for so long."""
        seconds = number(request, "seconds", 5.0)
        self._unhealthy_until = asyncio.get_running_loop().time() + seconds
        return web.json_response({"unhealthy_for": seconds})

    async def health(self, _: web.Request) -> web.StreamResponse:
        """200 `healthy`, or 503 `unhealthy` while an outage of the health check lasts."""
        if asyncio.get_running_loop().time() < self._unhealthy_until:
            return web.json_response({"status": "unhealthy"}, status=503)
        return web.json_response({"status": "healthy"})


def _after(request: web.Request) -> int:
    return integer(request, "after", 50, high=MEBIBYTE)
