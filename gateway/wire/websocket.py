"""Just enough of RFC 6455 to close a tunnel in order: where frames end, and the Close frame itself.

A Close frame may only be written between frames. The tracker follows the frame headers of one direction and skips the
payloads; it neither unmasks nor checks them.
"""

import secrets

_GOING_AWAY = b"\x03\xe9"  # 1001, section 7.4.1


class FrameTracker:
    """`between_frames` says whether the bytes seen so far end exactly at the end of a frame."""

    __slots__ = ("_header", "_payload")

    def __init__(self) -> None:
        self._header = b""
        self._payload = 0

    @property
    def between_frames(self) -> bool:
        return not self._header and not self._payload

    def feed(self, data: bytes) -> None:
        at, end = 0, len(data)
        while at < end:
            if self._payload:
                taken = min(self._payload, end - at)
                self._payload -= taken
                at += taken
                continue
            # A header is 2 to 14 bytes; only its length decides how many.
            need = _header_length(self._header)
            taken = min(need - len(self._header), end - at)
            self._header += data[at : at + taken]
            at += taken
            if len(self._header) == _header_length(self._header):
                self._payload = _payload_length(self._header)
                self._header = b""


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
