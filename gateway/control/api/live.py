"""`/api/resilience/live`: a snapshot of everything, as a stream of what changes or once."""

from typing import Any

import orjson
from aiohttp import web

from gateway.control.api.operation import Call, Operation
from gateway.control.live.broadcast import Broadcast, Listener
from gateway.control.models.live import Live
from gateway.control.models.shapes import Nothing
from gateway.control.serving.response import ALWAYS
from gateway.control.serving.time_limit import stay
from gateway.telemetry.metrics.accept import media_ranges

PATH = "/api/resilience/live"
STREAM = "text/event-stream"
# How soon a browser comes back that has lost the stream, in milliseconds.
_RETRY = b"retry: 1000\n\n"


def operations(broadcast: Broadcast) -> list[Operation[Any, Any]]:
    """The operation that shows everything as it changes."""

    async def live(call: Call[Nothing, Nothing]) -> web.StreamResponse:
        """A stream for whoever asks for one, else one snapshot."""
        accept = ", ".join(call.request.headers.getall("Accept", []))
        if wants_stream(accept):
            listener = broadcast.listen()
            try:
                return await streamed(call.request, listener)
            finally:
                broadcast.leave(listener)
        body = orjson.dumps(await broadcast.current(), option=orjson.OPT_APPEND_NEWLINE)
        return web.Response(body=body, content_type="application/json", headers={"Vary": "Accept"})

    return [
        Operation(
            "GET", PATH, "watch", "Everything at a glance, once or as a stream of what changes",
            Live, live, Nothing, Nothing, also=(STREAM,), refusals=(503,),
        )
    ]  # fmt: skip


def wants_stream(accept: str) -> bool:
    """Whether an `Accept` value (RFC 9110 section 12.5.1) names event streams, and does not prefer JSON."""
    stream = json = 0.0
    for media, quality in media_ranges(accept):
        if media == STREAM:
            stream = quality
        elif media == "application/json":
            json = quality
    return stream > 0 and stream >= json


async def streamed(request: web.Request, listener: Listener) -> web.StreamResponse:
    """Send a listener its events until they end, or it is dropped."""
    headers = {**ALWAYS, "Content-Type": f"{STREAM}; charset=utf-8", "Vary": "Accept"}
    # nginx would gather the events and send them late.
    response = web.StreamResponse(headers={**headers, "X-Accel-Buffering": "no"})
    response.force_close()
    stay(request)
    if request.transport is not None:
        # Whoever writes may wait for a client that takes nothing: only this ends it.
        listener.drop = request.transport.abort
    await response.prepare(request)
    await response.write(_RETRY)
    while (events := await listener.next()) is not None:
        await response.write(events)
    await response.write_eof()
    return response
