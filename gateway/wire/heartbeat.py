"""A Ping of the gateway's own to one side of a tunnel, and the Pong that must not reach the other side.

    silent for `interval`  ->  Ping  ->  anything at all comes from there   it is alive
                                     ->  nothing for `patience`             it is gone

The other side has not asked, and RFC 6455 lets it ignore a Pong that it did not expect (section 5.5.3). The answer is
taken out of the stream all the same: a Pong with our payload, and no other. Where its first bytes have come they wait
for the rest, so that it can be taken out whole; nothing else is ever held back.

A side may answer only the latest of several Pings (section 5.5.3). So none is sent while one of the other side's own
may be unanswered: the answer to ours would stand for both, and the other side would wait in vain.

No Ping goes out within a frame or behind a Close, and none to a side that is itself within a frame, because it could
not answer. Fragments of a message may have control frames between them (section 5.4). Where the
handshake leaves open what control frames mean there are no Pings (gateway.wire.websocket.has_plain_control_frames).
"""

import secrets
from typing import Final

from gateway.wire.websocket import PONG, FrameTracker, ping_frame, unmasked

_PAYLOAD_BYTES: Final = 8
_MASK_BYTES: Final = 4
# Other Pongs, each of which is looked at by itself. Who sends more than these in place of the one that it was asked for
# is alive, and its Pongs are passed on without being looked at.
_MOST_STRANGERS: Final = 64


class Heartbeat:
    """The Pings to one side. `masked` says that frames to it are masked: it is the upstream. `awaits` says that a Pong
    is to be taken out of what comes from there."""

    __slots__ = ("_held", "_masked", "_payload", "_strangers", "asked_at", "awaits", "unanswered")

    def __init__(self, *, masked: bool) -> None:
        self._masked = masked
        self._payload = b""
        self._held = b""
        self._strangers = 0
        self.awaits = False
        self.asked_at = 0.0
        """When the last Ping was sent, of the monotonic clock."""
        self.unanswered = False
        """A Ping of the other side's own may be without an answer yet."""

    def ping(self, now: float) -> bytes:
        """A Ping, to be written at once. A Pong that is still awaited is given up: if it comes it is passed on."""
        self._payload = secrets.token_bytes(_PAYLOAD_BYTES)
        self._strangers = 0
        self.awaits = True
        self.asked_at = now
        return ping_frame(self._payload, masked=self._masked)

    def held(self) -> bytes:
        """What is held back, which is thereby given out: the stream has ended within it."""
        held, self._held = self._held, b""
        self.awaits = False
        return held

    def without_pong(self, data: bytes, tracker: FrameTracker) -> bytes:
        """What of `data`, which has come from this side, goes on to the other one. `tracker` has followed what has gone
        on before, and follows this. To be called while a Pong is awaited."""
        if self._held:
            data, self._held = self._held + data, b""
        at = 0
        while self.awaits:
            at = tracker.feed_to_pong(data, at)
            if at == len(data):
                return data
            size = self._matches(data, at)
            if size == 0:
                at = tracker.feed_frame(data, at)
                self._strangers += 1
                self.awaits = self._strangers < _MOST_STRANGERS
            elif size > len(data) - at:
                self._held = data[at:]
                return data[:at]
            else:
                self.awaits = False
                data = data[:at] + data[at + size :]
        tracker.feed(data, at)
        return data

    def _matches(self, data: bytes, at: int) -> int:
        """How long the awaited Pong is, if it begins at the index `at`, or may do so as far as can be seen; else 0."""
        from_client = not self._masked
        head = bytes((PONG, 0x80 | _PAYLOAD_BYTES if from_client else _PAYLOAD_BYTES))
        size = len(head) + _PAYLOAD_BYTES + (_MASK_BYTES if from_client else 0)
        frame = data[at : at + size]
        if not frame.startswith(head[: len(frame)]):
            return 0
        body = frame[len(head) :]
        payload = unmasked(body[_MASK_BYTES:], body[:_MASK_BYTES]) if from_client else body
        return size if self._payload.startswith(payload) else 0
