"""Just enough of RFC 6455 to close a tunnel in order: where frames end, and the Close frame itself.

A Close frame may only be written between frames. The tracker follows the frame headers of one direction and skips the
payloads; it neither unmasks nor checks them.

A peer may send frames of two bytes, and hundreds of thousands of them in one read. Those that carry next to nothing
are therefore skipped by one regular expression, a whole run at a time, and cost some 10 ns each.
"""

import re
import secrets
from collections.abc import Iterator
from typing import Final

_GOING_AWAY: Final = b"\x03\xe9"  # 1001, section 7.4.1
_LONGEST_HEADER: Final = 14

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


# Possessive: a run is never given back, so no memory is spent on how it could be.
_RUN: Final = re.compile(rb"(?:.(?:" + b"|".join(_small_frames()) + rb"))++", re.DOTALL)


class FrameTracker:
    """`between_frames` says whether the bytes seen so far end exactly at the end of a frame."""

    __slots__ = ("_header", "_payload")

    def __init__(self) -> None:
        self._header = b""
        self._payload = 0

    @property
    def between_frames(self) -> bool:
        """Whether a frame of our own may be written now."""
        return not self._header and not self._payload

    def feed(self, data: bytes) -> None:
        """Follow the frames in `data`."""
        at, end = 0, len(data)
        while at < end:
            if self._payload:
                taken = min(self._payload, end - at)
                self._payload -= taken
                at += taken
            elif self._header or end - at < _LONGEST_HEADER:
                at = self._piece(data, at)
            elif (run := _RUN.match(data, at)) is not None:
                at = run.end()
            else:
                header = data[at : at + _LONGEST_HEADER]
                self._payload = _payload_length(header)
                at += _header_length(header)

    def _piece(self, data: bytes, at: int) -> int:
        """Take of a header what is here of it; its end in `data`. Only its length decides how many bytes it has."""
        taken = _header_length(self._header) - len(self._header)
        header = self._header = self._header + data[at : at + taken]
        if len(header) >= 2 and len(header) == _header_length(header):
            self._payload = _payload_length(header)
            self._header = b""
        return min(at + taken, len(data))


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


def close_frame(*, masked: bool) -> bytes:
    """Close with 1001, "going away". Frames from a client must be masked (section 5.3)."""
    if not masked:
        return b"\x88\x02" + _GOING_AWAY
    key = secrets.token_bytes(4)
    return b"\x88\x82" + key + bytes(byte ^ mask for byte, mask in zip(_GOING_AWAY, key, strict=False))
