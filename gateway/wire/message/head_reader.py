"""Request heads out of a connection's bytes: sizes checked before anything is parsed, the last head remembered.

A head that has not arrived in full is collected, and refused as soon as it can no longer become a valid one: a first
byte that begins no method, a line that is no request line, too long a one, too large a header section, a bare line
feed. Each byte is looked at a bounded number of times, however it is dripped.

A client that keeps its connection mostly repeats itself. The same head again is the same `Request` object again; a head
whose field block is the same parses its request line alone. What is kept for that is bounded: no head above a few KiB,
and over all connections of a listener no more than `KeptHeads` has room for. What has come over other connections of
the same peer is looked for in `KnownHeads`. A client whose head is not kept is served all the same, for the price of
parsing it each time.
"""

import re
from typing import Final

from gateway.wire.message.fields import Fields
from gateway.wire.message.known_heads import KnownHeads
from gateway.wire.message.request import Limits, Request, RequestError, check, parse_fields, parse_request_line

# Tolerated before a request line; RFC 9112 section 2.2 asks for at least one.
_MAX_EMPTY_LINES: Final = 4
_CR: Final = 0x0D
# A method is a token, RFC 9110 section 5.6.2.
_BEGINS_A_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")
# The type of a TLS record that holds a handshake, RFC 8446 section 5.1.
_HANDSHAKE: Final = 0x16
_BARE_LINE_FEED: Final = re.compile(rb"(?<!\r)\n")

_MAX_KEPT_HEAD: Final = 4096


class KeptHeads:
    """Room for the heads that the connections of a listener keep, in bytes of the heads as they were received.

    What is kept with a head is derived from it (fields, the head for the upstream, a piece of the log line) and comes
    to six times its size at most, besides 3 KB or so of objects. 8 MiB are 400 bytes for each of 20,000 connections.
    """

    __slots__ = ("known", "left")

    def __init__(self, room: int = 8 * 1024 * 1024) -> None:
        self.left = room
        self.known = KnownHeads()


class HeadReader:
    """Reads the heads of one connection. `partial` is what has arrived of a head, None while none has begun."""

    __slots__ = ("_block", "_empty_lines", "_fields", "_kept", "_last", "_last_head", "_limits", "partial")

    def __init__(self, limits: Limits, kept: KeptHeads) -> None:
        self._limits = limits
        self._kept = kept
        self.partial: bytearray | None = None
        self._empty_lines = 0
        self._block = b""
        self._fields: Fields | None = None
        self._last_head = b""
        self._last: Request | None = None

    def again(self, data: bytes) -> Request | None:
        """The last request, where `data` is exactly its head once more and nothing is held back. HOT."""
        if data == self._last_head and self.partial is None:
            self._empty_lines = 0
            return self._last
        return None

    def feed(self, data: bytes) -> tuple[bytes, int] | None:
        """All bytes from the first of a head on, and where it ends in them; None while more is needed. Raises
        `RequestError`, after which the connection cannot be understood any more. HOT."""
        partial = self.partial
        if partial is None:
            start = 0
        else:
            start = max(0, len(partial) - 3)
            partial += data
            if partial[0] != _CR:
                return self._complete(partial, start)
            # The rest of an empty line.
            self.partial = None
            data, start = bytes(partial), 0
        if data[0] == _CR:
            data = self._skip_empty_lines(data)
            if not data:
                return None
        end = data.find(b"\r\n\r\n", start)
        if end >= 0:
            self._empty_lines = 0
            return data, end + 4
        self.partial = partial = bytearray(data)
        self._check(partial, 0)
        return None

    def parse(self, head: bytes, peer: str) -> Request:
        """The request that `peer` sends with this head. Raises `RequestError`."""
        last = self._last
        if last is not None and head == self._last_head:
            return last
        known = self._kept.known
        small = len(head) <= _MAX_KEPT_HEAD
        request = known.find(peer, head) if small else None
        if request is None:
            request = self._parsed(head)
            # What is not ASCII is written as escapes in the log line, which are many times as long.
            if not small or not request.target.isascii():
                self.forget()
                return request
            known.note(peer, head, request)
        else:
            # That of an earlier head, for which there may be no room any more.
            self._block = b""
            self._fields = None
        self._keep(head, request)
        return request

    def forget(self) -> None:
        """Keep nothing of earlier heads."""
        self._kept.left += len(self._last_head)
        self._last_head = self._block = b""
        self._last = self._fields = None

    def _keep(self, head: bytes, request: Request) -> None:
        kept = self._kept
        room = kept.left + len(self._last_head)
        if len(head) > room:
            self.forget()
            return
        kept.left = room - len(head)
        self._last = request
        self._last_head = head

    def _parsed(self, head: bytes) -> Request:
        limits = self._limits
        line_end = head.find(b"\r\n")
        if line_end > limits.request_line_bytes:
            raise _uri_too_long(limits)
        if len(head) - 2 - line_end > limits.header_bytes:
            raise _headers_too_large(limits)
        method, target, minor = parse_request_line(head[:line_end])
        block = head[line_end + 2 :]
        fields = self._fields
        if fields is None or block != self._block:
            fields = parse_fields(block, limits)
            # Kept with the head, or not.
            self._block = block
            self._fields = fields
        request = Request(method, target, minor, fields)
        check(request)
        return request

    def _complete(self, partial: bytearray, start: int) -> tuple[bytes, int] | None:
        end = partial.find(b"\r\n\r\n", start)
        if end < 0:
            self._check(partial, start)
            return None
        self.partial = None
        self._empty_lines = 0
        return bytes(partial), end + 4

    def _skip_empty_lines(self, data: bytes) -> bytes:
        start = 0
        while data.startswith(b"\r\n", start):
            start += 2
            self._empty_lines += 1
            if self._empty_lines > _MAX_EMPTY_LINES:
                raise RequestError(400, "bad_request", "empty lines instead of a request")
        return data[start:]

    def _check(self, partial: bytearray, start: int) -> None:
        """What can be refused before the head is complete; `start` is where the new bytes begin, or a little before.
        The first byte and the sizes come first: they cost nothing."""
        if start == 0 and partial != b"\r" and _BEGINS_A_METHOD.match(partial) is None:
            raise _begins_no_request(partial[0])
        limits = self._limits
        line_end = partial.find(b"\r\n", 0, limits.request_line_bytes + 2)
        if line_end < 0:
            if len(partial) > limits.request_line_bytes + 1:
                raise _uri_too_long(limits)
        elif len(partial) - line_end - 2 > limits.header_bytes:
            raise _headers_too_large(limits)
        elif line_end + 2 > start:
            parse_request_line(bytes(partial[:line_end]))
        if _BARE_LINE_FEED.search(partial, start) is not None:
            raise RequestError(400, "bad_request", "a line feed without a carriage return in the request head")


def _begins_no_request(first: int) -> RequestError:
    if first == _HANDSHAKE:
        return RequestError(400, "bad_request", "a TLS handshake, but this port speaks plain HTTP")
    return RequestError(400, "bad_request", f"the first byte of the request, 0x{first:02x}, begins no method")


def _uri_too_long(limits: Limits) -> RequestError:
    return RequestError(414, "uri_too_long", f"the request line is longer than {limits.request_line_bytes} bytes")


def _headers_too_large(limits: Limits) -> RequestError:
    return RequestError(431, "headers_too_large", f"the header section is larger than {limits.header_bytes} bytes")
