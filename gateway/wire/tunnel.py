"""A tunnel: what one side sends, the other gets, with backpressure, until either closes or both are silent for too
long.

Left out on purpose: the frames' meaning. The tunnel follows their boundaries only so that it can end in order, with a
Close to both sides, when the gateway stops."""

import asyncio
import time
from collections.abc import Callable
from typing import cast

from gateway.wire.reading import Reading
from gateway.wire.websocket import FrameTracker, close_frame

# How long both sides have to answer a Close before the connections are closed without.
_CLOSE_TIME = 2.0


class Tunnel:
    __slots__ = (
        "_client",
        "_closed",
        "_closing",
        "_idle_timeout",
        "_upstream",
        "bytes_from_client",
        "bytes_from_upstream",
        "deadline",
        "ended_by",
    )

    def __init__(
        self,
        client: asyncio.Transport,
        upstream: asyncio.Transport,
        *,
        idle_timeout: float,
        closed: Callable[["Tunnel"], None],
    ) -> None:
        from_client, from_upstream = (Reading(each, asyncio.get_running_loop()) for each in (client, upstream))
        self._client = _Side(self, client, from_client, upstream, from_upstream, masks=True)
        self._upstream = _Side(self, upstream, from_upstream, client, from_client, masks=False)
        self._idle_timeout = idle_timeout
        self._closed: Callable[[Tunnel], None] | None = closed
        self._closing = False
        self.deadline = time.monotonic() + idle_timeout
        self.bytes_from_client = 0
        self.bytes_from_upstream = 0
        self.ended_by = ""

    def start(self, *, from_client: bytes, from_upstream: bytes) -> None:
        """Take the transports over, with what has already been read from them."""
        self._client.transport.set_protocol(self._client)
        self._upstream.transport.set_protocol(self._upstream)
        if from_upstream:
            self._upstream.data_received(from_upstream)
        if from_client:
            self._client.data_received(from_client)

    def close(self) -> None:
        """End in order: a Close to both sides as soon as neither is within a frame."""
        if not self._closing:
            self._closing = True
            self.ended_by = "gateway"
            self.deadline = time.monotonic() + _CLOSE_TIME
            self._client.say_close()
            self._upstream.say_close()

    def expire(self, now: float) -> None:
        """The deadline has passed (gateway.wire.deadlines)."""
        self.ended_by = self.ended_by or "idle"
        if self._closing:
            self._client.transport.abort()
            self._upstream.transport.abort()
        else:
            self.close()

    def moved(self, side: "_Side", count: int) -> None:
        if side is self._client:
            self.bytes_from_client += count
        else:
            self.bytes_from_upstream += count
        if not self._closing:
            self.deadline = time.monotonic() + self._idle_timeout

    @property
    def closing(self) -> bool:
        return self._closing

    def lost(self, side: "_Side") -> None:
        """One side is gone; what it sent last is still written to the other."""
        self.ended_by = self.ended_by or ("client" if side is self._client else "upstream")
        other = self._upstream if side is self._client else self._client
        self._closing = True
        self.deadline = time.monotonic() + _CLOSE_TIME
        if not other.gone:
            other.transport.close()
            return
        closed, self._closed = self._closed, None
        if closed is not None:
            closed(self)


class _Side(asyncio.Protocol):
    """One end, which writes to the other; `masks` says that what comes in here are a client's frames."""

    __slots__ = (
        "_masks",
        "_other",
        "_other_reading",
        "_reading",
        "_said_close",
        "_tracker",
        "_tunnel",
        "gone",
        "transport",
    )

    def __init__(
        self,
        tunnel: Tunnel,
        transport: asyncio.Transport,
        reading: Reading,
        other: asyncio.Transport,
        other_reading: Reading,
        *,
        masks: bool,
    ) -> None:
        self._tunnel = tunnel
        self.transport = transport
        self._reading = reading
        self._other = other
        self._other_reading = other_reading
        self._masks = masks
        self._tracker = FrameTracker()
        self._said_close = False
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if len(data) >= self._reading.large:
            self._reading.rest()
        if self._said_close:
            return
        self._tracker.feed(data)
        self._other.write(data)
        self._tunnel.moved(self, len(data))
        if self._tunnel.closing:
            self.say_close()

    def say_close(self) -> None:
        """Write a Close to the other end, in the direction that this end's frames go, if between two of them."""
        if not self._said_close and self._tracker.between_frames:
            self._said_close = True
            self._other.write(close_frame(masked=self._masks))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._tunnel.lost(self)

    def pause_writing(self) -> None:
        self._other_reading.stop()

    def resume_writing(self) -> None:
        self._other_reading.start()
