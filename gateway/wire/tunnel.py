"""A tunnel: what one side sends, the other gets, with backpressure, until either closes or the gateway ends it.

What waits for a side is bounded: beyond `buffer_bytes` the other one is not read. The gateway ends a tunnel when

    idle           both sides are silent
    backpressure   a side takes nothing of what waits for it
    unresponsive   a side is silent and does not answer a Ping (gateway.wire.heartbeat)
    gateway        the process ends

An end is passed on like bytes, behind what was sent before it: a side that has sent its FIN may still get the rest of
what the other has for it, a Close frame among that. From the first end on the tunnel is closing, and is given up only
when nothing moves: no byte from either side, and none out of the send queues, the kernel's included.

A client that is ended for the last three reasons may come back, and is told so: 1013, "try again later", is what an
operator's overload means to it, while 1008 would accuse it of breaking a rule. To an upstream the gateway is a client
that leaves: 1001, "going away".

Left out on purpose: the frames' meaning. The tunnel follows their boundaries only to write frames of its own between
them: a Close to both sides when it ends, and Pings."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.wire.heartbeat import Heartbeat
from gateway.wire.kernel import hold_unsent_below
from gateway.wire.leftovers import leftovers
from gateway.wire.reading import Reading
from gateway.wire.stall import Stall
from gateway.wire.websocket import GOING_AWAY, TRY_AGAIN_LATER, FrameTracker, close_frame

# While the tunnel is closing and nothing moves: how long an answer to a Close, or the other side's end, is waited for.
_CLOSE_TIME: Final = 2.0
# Likewise, how long a side may take nothing of what is still queued for it.
_STALL_TIME: Final = 10.0
_LOOK_INTERVAL: Final = 0.5
# Of the shorter of the time limits: how often it is looked whether one has passed.
_LOOK_SHARE: Final = 0.25
_NEVER: Final = float("inf")

IDLE: Final = "idle"
GATEWAY: Final = "gateway"
BACKPRESSURE: Final = "backpressure"
UNRESPONSIVE: Final = "unresponsive"
_SIDES: Final = ("client", "upstream")
ENDINGS: Final = (*_SIDES, IDLE, GATEWAY, *(f"{why}_{side}" for why in (BACKPRESSURE, UNRESPONSIVE) for side in _SIDES))
"""All that `Tunnel.ended_by` can be: a side that has ended it, or why the gateway has, and because of which side."""


class TunnelLimits(NamedTuple):
    """Times in seconds; `ping_interval` is infinity where there are no Pings. A side may take nothing, or answer
    nothing, for `stall_timeout`. Of what is for one side, `buffer_bytes` may wait here before the other is read no
    more; it may be exceeded by what one read brings."""

    idle_timeout: float
    stall_timeout: float
    ping_interval: float
    buffer_bytes: int


class Tunnel:
    """Two transports, each written what the other brings. `closed` is called once, when both are over. `ended_by` is
    one of `ENDINGS`, and empty while it is open."""

    __slots__ = (
        "_client",
        "_closed",
        "_closing",
        "_give_up_at",
        "_limits",
        "_look_interval",
        "_moved_at",
        "_progress",
        "_upstream",
        "bytes_from_client",
        "bytes_from_upstream",
        "clock",
        "deadline",
        "ended_by",
        "says_close",
    )

    def __init__(
        self,
        client: asyncio.Transport,
        upstream: asyncio.Transport,
        limits: TunnelLimits,
        closed: Callable[["Tunnel"], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from_client, from_upstream = (Reading(each, asyncio.get_running_loop()) for each in (client, upstream))
        self._client = _Side(self, client, from_client, upstream, from_upstream, masks=True)
        self._upstream = _Side(self, upstream, from_upstream, client, from_client, masks=False)
        self.clock = clock
        self._limits = limits
        self._look_interval = min(limits.stall_timeout, limits.ping_interval) * _LOOK_SHARE
        self._closed: Callable[[Tunnel], None] | None = closed
        self._closing = False
        # While closing: what has moved by the last look. When anything has moved last, and when it is over in any case.
        self._progress: tuple[int, ...] = ()
        self._moved_at = now = clock()
        self._give_up_at = _NEVER
        self.deadline = 0.0
        self._look_again(now)
        self.bytes_from_client = 0
        self.bytes_from_upstream = 0
        self.ended_by = ""
        # The gateway ends it: a Close goes to both sides.
        self.says_close = False

    def start(self, *, from_client: bytes, from_upstream: bytes) -> None:
        """Take the transports over, with what has already been read from them."""
        for side in (self._client, self._upstream):
            side.take_over(self._limits.buffer_bytes, self._moved_at)
        if from_upstream:
            self._upstream.data_received(from_upstream)
        if from_client:
            self._client.data_received(from_client)

    def close(self) -> None:
        """End in order: a Close to both sides as soon as neither is within a frame."""
        if not self._closing:
            self._end(GATEWAY, GOING_AWAY)

    def expire(self, now: float) -> None:
        """It is time to look at it (gateway.wire.deadlines)."""
        if self._closing:
            self._look_at_closing(now)
        elif now - self._moved_at >= self._limits.idle_timeout:
            self._end(IDLE, GOING_AWAY)
        elif (because := self._trouble(now)) != "":
            self._end(because, TRY_AGAIN_LATER)
            self._give_up_at = now + _STALL_TIME
        else:
            self._ping(now)
            self._look_again(now)

    def moved(self, side: "_Side", count: int, now: float) -> None:
        """One side has brought `count` bytes for the other: the time of silence begins anew."""
        self._moved_at = now
        if side is self._client:
            self.bytes_from_client += count
        else:
            self.bytes_from_upstream += count

    def _trouble(self, now: float) -> str:
        """The ending of a tunnel one of whose sides takes or answers nothing; empty if both are well."""
        patience = self._limits.stall_timeout
        for name, side in ((_SIDES[0], self._client), (_SIDES[1], self._upstream)):
            if side.stall.lasts(now, patience):
                return f"{BACKPRESSURE}_{name}"
            if side.unresponsive(now, patience):
                return f"{UNRESPONSIVE}_{name}"
        return ""

    def _ping(self, now: float) -> None:
        """Ask each side that is there for a sign of life, if there has been none from either for long enough."""
        interval = self._limits.ping_interval
        if interval == _NEVER:
            return
        client, upstream = self._client, self._upstream
        client.settle_pings(upstream)
        upstream.settle_pings(client)
        if now - self._moved_at >= interval:
            client.ping(upstream, now, interval)
            upstream.ping(client, now, interval)

    def _look_again(self, now: float) -> None:
        self.deadline = min(now + self._look_interval, self._moved_at + self._limits.idle_timeout)

    def _end(self, because: str, code: int) -> None:
        """Begin to close, with this status code for the client."""
        self._begin_closing()
        self.says_close = True
        self.ended_by = because
        self._client.code, self._upstream.code = GOING_AWAY, code
        self._client.say_close()
        self._upstream.say_close()

    def _look_at_closing(self, now: float) -> None:
        progress = self._now_at()
        if progress != self._progress:
            self._progress, self._moved_at = progress, now
        # Whoever is only told that the gateway stops must not hold it up.
        patience = _STALL_TIME if any(progress[2:]) and self.ended_by in _SIDES else _CLOSE_TIME
        if now - self._moved_at >= patience or now >= self._give_up_at:
            self._client.transport.abort()
            self._upstream.transport.abort()
            return
        self._client.close_if_drained()
        self._upstream.close_if_drained()
        self.deadline = now + _LOOK_INTERVAL

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
        queued = (0 if side.gone else side.stall.waiting for side in (self._client, self._upstream))
        return (self.bytes_from_client, self.bytes_from_upstream, *queued)

    def _begin_closing(self) -> None:
        self._closing = True
        self._progress = self._now_at()
        self._moved_at = now = self.clock()
        self.deadline = now + _LOOK_INTERVAL


class _Side(asyncio.Protocol):
    """One end, which writes to the other; `masks` says that what comes in here are a client's frames. `code` is that of
    a Close in the direction that they go."""

    __slots__ = (
        "_finished",
        "_heard_at",
        "_heartbeat",
        "_masks",
        "_other",
        "_other_reading",
        "_reading",
        "_said_close",
        "_tunnel",
        "_unwanted",
        "code",
        "ended",
        "gone",
        "stall",
        "tracker",
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
        self.tracker = FrameTracker()
        self._heartbeat = Heartbeat(masked=not masks)
        self._said_close = False
        self.code = GOING_AWAY
        self.stall = Stall(transport)
        # When anything came from here, Pongs for the gateway included.
        self._heard_at = 0.0
        # Nobody is left to take what comes from here; nothing more is to be written to here.
        self._unwanted = False
        self._finished = False
        # This end has sent its FIN; it is closed altogether.
        self.ended = False
        self.gone = False

    def take_over(self, buffer_bytes: int, now: float) -> None:
        """Begin. `buffer_bytes` may wait for this end."""
        self._heard_at = now
        self.stall.begin(now)
        # Of uvloop's transport; typeshed knows those of asyncio.
        self.transport.set_write_buffer_limits(high=buffer_bytes, low=buffer_bytes // 4)
        hold_unsent_below(self.transport, buffer_bytes)
        self.transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        if len(data) >= self._reading.large:
            self._reading.rest()
        if self._said_close or self._unwanted or not data:
            return
        self._heard_at = now = self._tunnel.clock()
        if self._heartbeat.awaits:
            data = self._heartbeat.without_pong(data, self.tracker)
            if not data:
                return
        else:
            self.tracker.feed(data)
        self._other.write(data)
        self._tunnel.moved(self, len(data), now)
        if self._tunnel.says_close:
            self.say_close()

    def say_close(self) -> None:
        """Write a Close to the other end, in the direction that this end's frames go, if between two of them. None
        follows the end's own."""
        tracker = self.tracker
        if not self._said_close and not self._unwanted and not self.ended and tracker.between_frames:
            self._said_close = True
            if not tracker.closed:
                self._other.write(close_frame(masked=self._masks, code=self.code))

    def unresponsive(self, now: float, patience: float) -> bool:
        """Whether this end was sent a Ping that long ago, and has said nothing since."""
        heartbeat = self._heartbeat
        if not heartbeat.awaits or self._heard_at > heartbeat.asked_at:
            return False
        if self._reading.stopped:
            # What it may have said waits behind what the other end does not take.
            heartbeat.asked_at = now
        return now - heartbeat.asked_at >= patience

    def settle_pings(self, other: "_Side") -> None:
        """Note whether a Ping of the other end may be unanswered. Several within one look count as the last one."""
        if self.tracker.ponged:
            self._heartbeat.unanswered = False
        elif other.tracker.pinged:
            self._heartbeat.unanswered = True
        self.tracker.ponged = other.tracker.pinged = False

    def ping(self, other: "_Side", now: float, interval: float) -> None:
        """Ask this end whether it is still there, unless there is a reason not to (gateway.wire.heartbeat). What waits
        for it would be in front of the Ping, and is judged by `stalled`."""
        heartbeat, frames_from, frames_to = self._heartbeat, self.tracker, other.tracker
        asked_lately = heartbeat.awaits and self._heard_at <= heartbeat.asked_at
        if asked_lately or now - self._heard_at < interval or heartbeat.unanswered or self._reading.stopped:
            return
        between = frames_from.between_frames and frames_to.between_frames
        if between and not frames_from.closed and not frames_to.closed and not self.stall.waiting:
            self.transport.write(heartbeat.ping(now))

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
        if self._finished and not self.gone and not self.transport.can_write_eof() and not self.stall.waiting:
            self.transport.close()

    def eof_received(self) -> bool:
        """True keeps the connection open for what is still to be written to it; over TLS uvloop closes it anyway."""
        self._pass_on_held()
        self.ended = True
        self._tunnel.ended(self)
        return self.transport.can_write_eof() and not self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended:
            # A write to here failed, or TLS ended without a close_notify, while something was still to be read.
            for data in leftovers(self.transport):
                self.data_received(data)
            self._pass_on_held()
        self.ended = self.gone = True
        self._tunnel.ended(self)

    def _pass_on_held(self) -> None:
        """Nothing more comes: what looked like the beginning of a Pong is passed on."""
        held = self._heartbeat.held()
        if held:
            self.data_received(held)

    def pause_writing(self) -> None:
        self._other_reading.stop()

    def resume_writing(self) -> None:
        self._other_reading.start()
