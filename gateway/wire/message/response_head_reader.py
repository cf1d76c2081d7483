"""Response heads out of a connection's bytes: sizes checked before anything is parsed, the last head remembered.

Upstreams mostly repeat their heads on a connection. The same head again is the same `Response` object again, and a head
whose field block is the same parses its status line alone. A head of more than 4 KiB is not kept.
"""

import re
from typing import Final

from gateway.wire.message.fields import Fields
from gateway.wire.message.response import (
    MAX_HEAD_BYTES,
    Response,
    ResponseError,
    parse_fields,
    parse_status_line,
)

_MAX_KEPT_HEAD: Final = 4096
_BARE_LINE_FEED: Final = re.compile(rb"(?<!\r)\n")


class ResponseHeadReader:
    """`partial` is what has arrived of a head that is not complete. `last` is the last final response to anything but a
    HEAD, and `last_head` its bytes; who finds them again need not call `read`."""

    __slots__ = ("_block", "_fields", "last", "last_head", "partial")

    def __init__(self) -> None:
        self.partial = b""
        self.last: Response | None = None
        self.last_head = b""
        self._block = b""
        self._fields: Fields | None = None

    def __repr__(self) -> str:
        return f"<ResponseHeadReader partial={len(self.partial)} last={self.last!r}>"

    def read(self, data: bytes, to_head: bool) -> tuple[Response, bytes] | None:
        """The response whose head is complete with `data`, framed, and what follows the head. None while more is
        needed. Raises `ResponseError`."""
        if self.partial:
            data = self.partial + data
            self.partial = b""
        end = data.find(b"\r\n\r\n")
        if end > MAX_HEAD_BYTES or (end < 0 and len(data) > MAX_HEAD_BYTES):
            raise ResponseError("the response head is too large")
        if end >= 0:
            return self._parse(data[: end + 4], to_head), data[end + 4 :]
        if not data.startswith(b"HTTP/"[: len(data)]):
            raise ResponseError("the response is not HTTP/1")
        if _BARE_LINE_FEED.search(data):
            # What ends its lines like this will never send the empty line that is waited for.
            raise ResponseError("a line feed without a carriage return in the response head")
        self.partial = data
        return None

    def _parse(self, head: bytes, to_head: bool) -> Response:
        """A head, framed. A response to a HEAD is not kept, because it is framed differently."""
        line_end = head.find(b"\r\n")
        minor, status, phrase = parse_status_line(head[:line_end])
        block = head[line_end + 2 :]
        fields = self._fields
        if fields is None or block != self._block:
            fields = parse_fields(block)
        response = Response(status, phrase, minor, fields)
        response.frame(to_head)
        if status < 200:
            # It comes between others, which are kept.
            return response
        if len(head) <= _MAX_KEPT_HEAD:
            self._fields = fields
            self._block = block
            self.last = None if to_head else response
            self.last_head = head
        else:
            self.last = self._fields = None
            self.last_head = self._block = b""
        return response
