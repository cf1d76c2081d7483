"""Just enough of RFC 6455 to keep a tunnel in order: where frames end, and the control frames that the gateway writes.

A frame of the gateway's own may only be written between frames. The tracker follows the frame headers of one direction
and skips the payloads; it neither unmasks nor checks them. Of the control frames it notices that they have passed.

A peer may send frames of two bytes, and hundreds of thousands of them in one read. Those that carry next to nothing
are therefore skipped by one regular expression, a whole run at a time, and cost some 30 ns each.
"""

import re
import secrets
from collections.abc import Iterator
from typing import Final

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
TRY_AGAIN_LATER: Final = 1013
"""Status codes of Close frames (RFC 6455 section 7.4.1, and IANA's registry of WebSocket close codes)."""

_CLOSE: Final = 0x88
_PING: Final = 0x89
PONG: Final = 0x8A
_LONGEST_HEADER: Final = 14

_VERSION: Final = re.compile(rb"^sec-websocket-version:[ \t]*13[ \t]*\r\n", re.IGNORECASE | re.MULTILINE)
_EXTENSIONS: Final = re.compile(rb"^sec-websocket-extensions:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)

# Frames with payloads below these sizes are part of a run: in the short form of the length, and in the two longer
# forms, which a small payload must not use (section 5.2) and a hostile peer may.
_SMALL: Final = 32
_SMALL_IN_LONG_FORM: Final = 8


def _small_frames() -> Iterator[bytes]:
    """The patterns of small frames from their second byte on: the most frequent first."""
    short = [(bytes((size,)), size) for size in range(_SMALL)]
    long = [(b"\x7e" + size.to_bytes(2), size) for size in range(_SMALL_IN_LONG_FORM)]
    longest = [(b"\x7f" + size.to_bytes(8), size) for size in range(_SMALL_IN_LONG_FORM)]
    for header, size in short + long + longest:
        yield re.escape(header) + b".{%d}" % size
        masked = bytes((header[0] | 0x80,)) + header[1:]
        yield re.escape(masked) + b".{%d}" % (size + 4)


def _run(first: bytes) -> "re.Pattern[bytes]":
    """A run of small frames whose first bytes match `first`. Possessive: a run is never given back, so no memory is
    spent on how it could be."""
    return re.compile(rb"(?:" + first + rb"(?:" + b"|".join(_small_frames()) + rb"))++", re.DOTALL)


_RUN: Final = _run(rb".")
_RUN_TO_CLOSE: Final = _run(rb"[^\x88]")
_RUN_TO_PING: Final = _run(rb"[^\x89]")
_RUN_TO_PONG: Final = _run(rb"[^\x8a]")


def _has(frame: int, run_to: "re.Pattern[bytes]", data: bytes, at: int, end: int) -> bool:
    """Whether the run of frames from `at` to `end` has one that begins with the byte `frame`, which ends `run_to`. A
    second look at a run costs as much as the first, and is taken only where the byte is found at all."""
    if data.find(frame, at, end) < 0:
        return False
    before = run_to.match(data, at)
    return before is None or before.end() < end


class FrameTracker:
    """Follows the frames of one direction. `closed` says that a Close has begun to pass; `pinged` and `ponged` that a
    Ping, or a Pong, has, since whoever asks has set them back."""

    __slots__ = ("_header", "_payload", "closed", "pinged", "ponged")

    def __init__(self) -> None:
        self._header = b""
        self._payload = 0
        self.closed = False
        self.pinged = False
        self.ponged = False

    @property
    def between_frames(self) -> bool:
        """Whether the bytes so far end exactly at the end of a frame: one of our own may be written now."""
        return not self._header and not self._payload

    def feed(self, data: bytes, at: int = 0) -> None:
        """Follow the frames in `data`, from the index `at` on."""
        end = len(data)
        while at < end:
            if self._payload or self._header or end - at < _LONGEST_HEADER:
                at = self._step(data, at)
            elif (run := _RUN.match(data, at)) is not None:
                self.ponged = self.ponged or _has(PONG, _RUN_TO_PONG, data, at, run.end())
                at = self._ran(data, at, run.end())
            else:
                at = self._step(data, at)

    def feed_to_pong(self, data: bytes, at: int) -> int:
        """As `feed`, but only up to the next Pong, whose index is returned; the end of `data` if there is none."""
        end = len(data)
        while at < end:
            between = self.between_frames
            if between and data[at] == PONG:
                return at
            if not between or end - at < _LONGEST_HEADER:
                at = self._step(data, at)
            elif (run := _RUN_TO_PONG.match(data, at)) is not None:
                at = self._ran(data, at, run.end())
            else:
                at = self._step(data, at)
        return at

    def feed_frame(self, data: bytes, at: int) -> int:
        """Follow the one frame that begins at the index `at`; its end, or that of `data` if that comes first."""
        end = len(data)
        at = self._step(data, at)
        while at < end and not self.between_frames:
            at = self._step(data, at)
        return at

    def _step(self, data: bytes, at: int) -> int:
        """Take a header, or what is here of it, or what is here of a payload; the index behind it. Only its length
        decides how many bytes a header has."""
        end = len(data)
        if self._payload:
            taken = min(self._payload, end - at)
            self._payload -= taken
            return at + taken
        header = self._header + data[at : at + _LONGEST_HEADER - len(self._header)]
        size = _header_length(header)
        at += min(size, len(header)) - len(self._header)
        if len(header) < size:
            self._header = header
            return end
        self._header = b""
        self._payload = _payload_length(header[:size])
        first = header[0]
        self.closed = self.closed or first == _CLOSE
        self.pinged = self.pinged or first == _PING
        self.ponged = self.ponged or first == PONG
        return at

    def _ran(self, data: bytes, at: int, end: int) -> int:
        """A run of small frames has passed; its end."""
        self.closed = self.closed or _has(_CLOSE, _RUN_TO_CLOSE, data, at, end)
        self.pinged = self.pinged or _has(_PING, _RUN_TO_PING, data, at, end)
        return end


def _header_length(header: bytes) -> int:
    if len(header) < 2:
        return 2
    length = header[1] & 0x7F
    return 2 + (2 if length == 126 else 8 if length == 127 else 0) + (4 if header[1] & 0x80 else 0)


def _payload_length(header: bytes) -> int:
    length = header[1] & 0x7F
    if length == 126:
        return int.from_bytes(header[2:4])
    if length == 127:
        return int.from_bytes(header[2:10])
    return length


def has_plain_control_frames(request_lines: bytes, response_lines: bytes) -> bool:
    """Whether control frames are those of RFC 6455, as far as the handshake tells: version 13, and no extension but
    `permessage-deflate`, which leaves them alone (RFC 7692 section 6.1). Both are complete header lines."""
    named = b",".join(_EXTENSIONS.findall(response_lines)).split(b",")
    extensions = {each.partition(b";")[0].strip(b" \t").lower() for each in named}
    return _VERSION.search(request_lines) is not None and extensions <= {b"", b"permessage-deflate"}


def close_frame(*, masked: bool, code: int = GOING_AWAY) -> bytes:
    """A Close with a status code and no words."""
    return _control_frame(_CLOSE, code.to_bytes(2), masked=masked)


def ping_frame(payload: bytes, *, masked: bool) -> bytes:
    """A Ping; `payload` has at most 125 bytes (section 5.5)."""
    return _control_frame(_PING, payload, masked=masked)


def _control_frame(first: int, payload: bytes, *, masked: bool) -> bytes:
    """Frames from a client must be masked, with a key that nobody can foretell (section 5.3)."""
    if not masked:
        return bytes((first, len(payload))) + payload
    key = secrets.token_bytes(4)
    return bytes((first, 0x80 | len(payload))) + key + unmasked(payload, key)


def unmasked(payload: bytes, key: bytes) -> bytes:
    """The payload without its mask, or with it: for the short payloads of control frames."""
    return bytes([byte ^ key[index & 3] for index, byte in enumerate(payload)])
