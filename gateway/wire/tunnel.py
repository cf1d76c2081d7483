"""A tunnel: what one side sends, the other gets, with backpressure, until either closes or both are silent for too
long.

An end is passed on like bytes, behind what was sent before it: a side that has sent its FIN may still get the rest of
what the other has for it, a Close frame among that. From the first end on the tunnel is closing, and is given up only
when nothing moves: no byte from either side, and none out of the send queues, the kernel's included.

Left out on purpose: the frames' meaning. The tunnel follows their boundaries only so that it can end in order, with a
Close to both sides, when the gateway stops."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from gateway.wire.kernel import unsent
from gateway.wire.leftovers import leftovers
from gateway.wire.reading import Reading
from gateway.wire.websocket import FrameTracker, close_frame

# While the tunnel is closing and nothing moves: how long an answer to a Close, or the other side's end, is waited for.
_CLOSE_TIME: Final = 2.0
# Likewise, how long a side may take nothing of what is still queued for it.
_STALL_TIME: Final = 10.0
_LOOK_INTERVAL: Final = 0.5


class Tunnel:
    """Two transports, each written what the other brings. `closed` is called once, when both are over."""

    __slots__ = (
        "_client",
        "_closed",
        "_closing",
        "_idle_timeout",
        "_moved_at",
        "_progress",
        "_upstream",
        "bytes_from_client",
        "bytes_from_upstream",
        "deadline",
        "ended_by",
        "says_close",
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
        # While closing: what has moved by the last look, and when that last changed.
        self._progress: tuple[int, ...] = ()
        self._moved_at = 0.0
        self.deadline = time.monotonic() + idle_timeout
        self.bytes_from_client = 0
        self.bytes_from_upstream = 0
        self.ended_by = ""
        # The gateway ends it: a Close goes to both sides.
        self.says_close = False

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
            self._begin_closing()
            self.says_close = True
            self.ended_by = self.ended_by or "gateway"
            self._client.say_close()
            self._upstream.say_close()

    def expire(self, now: float) -> None:
        """The deadline has passed (gateway.wire.deadlines)."""
        self.ended_by = self.ended_by or "idle"
        if not self._closing:
            self.close()
            return
        progress = self._now_at()
        if progress != self._progress:
            self._progress, self._moved_at = progress, now
        # Whoever is only told that the gateway stops must not hold it up.
        patience = _STALL_TIME if any(progress[2:]) and self.ended_by in {"client", "upstream"} else _CLOSE_TIME
        if now - self._moved_at >= patience:
            self._client.transport.abort()
            self._upstream.transport.abort()
            return
        self._client.close_if_drained()
        self._upstream.close_if_drained()
        self.deadline = now + _LOOK_INTERVAL

    def moved(self, side: "_Side", count: int) -> None:
        """One side has brought `size` bytes: the time limit begins anew."""
        if side is self._client:
            self.bytes_from_client += count
        else:
            self.bytes_from_upstream += count
        if not self._closing:
            self.deadline = time.monotonic() + self._idle_timeout

    def ended(self, side: "_Side") -> None:
        """A side sends nothing more, or is gone. What it sent before is still written to the other, then its end."""
        self.ended_by = self.ended_by or ("client" if side is self._client else "upstream")
        if not self._closing:
            self._begin_closing()
        other = self._upstream if side is self._client else self._client
        if not other.gone:
            other.finish(only=side.gone)
            if other.ended:
                other.transport.close()
                side.transport.close()
        elif side.gone:
            closed, self._closed = self._closed, None
            if closed is not None:
                closed(self)

    def _now_at(self) -> tuple[int, ...]:
        """What changes when anything moves: bytes passed on so far, and those that are still queued for each side."""
        queued = (0 if side.gone else side.unsent for side in (self._client, self._upstream))
        return (self.bytes_from_client, self.bytes_from_upstream, *queued)

    def _begin_closing(self) -> None:
        self._closing = True
        self._progress = self._now_at()
        self._moved_at = now = time.monotonic()
        self.deadline = now + _LOOK_INTERVAL


class _Side(asyncio.Protocol):
    """One end, which writes to the other; `masks` says that what comes in here are a client's frames."""

    __slots__ = (
        "_finished",
        "_masks",
        "_other",
        "_other_reading",
        "_reading",
        "_said_close",
        "_tracker",
        "_tunnel",
        "_unwanted",
        "ended",
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
        # Nobody is left to take what comes from here; nothing more is to be written to here.
        self._unwanted = False
        self._finished = False
        # This end has sent its FIN; it is closed altogether.
        self.ended = False
        self.gone = False

    def data_received(self, data: bytes) -> None:
        if len(data) >= self._reading.large:
            self._reading.rest()
        if self._said_close or self._unwanted or not data:
            return
        self._tracker.feed(data)
        self._other.write(data)
        self._tunnel.moved(self, len(data))
        if self._tunnel.says_close:
            self.say_close()

    def say_close(self) -> None:
        """Write a Close to the other end, in the direction that this end's frames go, if between two of them."""
        if not self._said_close and not self._unwanted and not self.ended and self._tracker.between_frames:
            self._said_close = True
            self._other.write(close_frame(masked=self._masks))

    @property
    def unsent(self) -> int:
        """Bytes for this end that it has not confirmed."""
        return max(0, unsent(self.transport))

    def finish(self, *, only: bool) -> None:
        """Nothing more is to be written to here: tell so, behind what is queued. `only` says that nobody takes what
        still comes from here either; it is read all the same, for closing with unread bytes would be a reset, which may
        take from the peer what it has not read yet."""
        if only:
            self._unwanted = True
            self._reading.start()
        if not self._finished:
            self._finished = True
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:
                self.close_if_drained()

    def close_if_drained(self) -> None:
        """TLS has no half-closed connections, and uvloop gives a closing one a fixed time. So it is closed only when
        everything has been taken."""
        if self._finished and not self.gone and not self.transport.can_write_eof() and not self.unsent:
            self.transport.close()

    def eof_received(self) -> bool:
        """True keeps the connection open for what is still to be written to it; over TLS uvloop closes it anyway."""
        self.ended = True
        self._tunnel.ended(self)
        return self.transport.can_write_eof() and not self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended:
            # A write to here failed, or TLS ended without a close_notify, while something was still to be read.
            for data in leftovers(self.transport):
                self.data_received(data)
        self.ended = self.gone = True
        self._tunnel.ended(self)

    def pause_writing(self) -> None:
        self._other_reading.stop()

    def resume_writing(self) -> None:
        self._other_reading.start()
