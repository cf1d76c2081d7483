"""The head of an upstream's response.

Framing follows RFC 9112 section 6.3: no body for HEAD, 1xx, 204 and 304 whatever the fields say; else chunked; else
Content-Length; else up to the end of the connection.
"""

import re
from enum import Enum
from http import HTTPStatus
from typing import Final

from gateway.wire.message.fields import FieldError, Fields, parse_response_fields
from gateway.wire.message.keep_alive import parse_keep_alive

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t \x21-\x7e\x80-\xff]*))?")
_CONTENT_LENGTH: Final = re.compile(rb"^content-length:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)
_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}

# RFC 9110 section 15.5.22: such an answer has to say what it requires.
_UPGRADE_REQUIRED: Final = 426

# More than a client may send: upstreams are trusted further, yet not without bound.
MAX_HEAD_BYTES: Final = 65_536
MAX_FIELDS: Final = 256


class ResponseError(Exception):
    """What the upstream sent is not a response that can be passed on."""


class Framing(Enum):
    """How the end of a body is known."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class Response:
    """One response's head, never changed once it is framed. `length` counts the body's bytes where `framing` is LENGTH,
    else it is 0. `promise` is what the upstream said of its connection. `head` is the status line and the end-to-end
    fields, as they are passed on."""

    __slots__ = ("fields", "framing", "head", "keep_alive", "length", "minor", "phrase", "promise", "status")

    def __init__(self, status: int, phrase: bytes, minor: int, fields: Fields) -> None:
        self.status = status
        self.phrase = phrase
        self.minor = minor
        self.fields = fields
        self.framing = Framing.NONE
        self.length = 0
        self.keep_alive = False
        given = fields.keep_alive_parameters
        self.promise = parse_keep_alive(given) if given is not None else None
        lines = fields.lines
        if fields.length is not None and (status < 200 or status == 204):
            lines = _CONTENT_LENGTH.sub(b"", lines)  # RFC 9110 section 8.6
        if status == _UPGRADE_REQUIRED and fields.upgrade is not None:
            lines += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % fields.upgrade
        self.head = b"HTTP/1.1 %d %b\r\n%b" % (status, phrase, lines)

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.framing.value}>"

    def with_head(self, head: bytes) -> "Response":
        """The same response with another head to be passed on."""
        changed = Response(self.status, self.phrase, self.minor, self.fields)
        changed.framing = self.framing
        changed.length = self.length
        changed.keep_alive = self.keep_alive
        changed.head = head
        return changed

    def with_fields(self, fields: Fields) -> "Response":
        """The same response with other end-to-end fields; what an upstream has said to this gateway alone stays."""
        own = self.fields
        fields.rate_limit = own.rate_limit
        fields.upgrade = own.upgrade
        changed = Response(self.status, self.phrase, self.minor, fields)
        changed.framing = self.framing
        changed.length = self.length
        changed.keep_alive = self.keep_alive
        return changed

    def frame(self, to_head: bool) -> None:
        """Decide the framing, knowing whether the request was a HEAD. Raises `ResponseError`."""
        fields = self.fields
        if fields.transfer_encoding is not None and (not fields.chunked or not self.minor):
            raise ResponseError("a transfer coding other than chunked, or chunked in HTTP/1.0")
        if to_head or self.status < 200 or self.status in (204, 304):
            self.framing = Framing.NONE
        elif fields.chunked:
            self.framing = Framing.CHUNKED
        elif fields.length is not None:
            self.length = fields.length
            self.framing = Framing.LENGTH if fields.length else Framing.NONE
        else:
            self.framing = Framing.CLOSE
        if self.framing is not Framing.CLOSE:
            self.keep_alive = not fields.close and (bool(self.minor) or fields.keep_alive)


def parse_status_line(line: bytes) -> tuple[int, int, bytes]:
    """Minor version, status and phrase of a status line without its line end. Raises `ResponseError`."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise ResponseError("the status line is malformed")
    return int(match[1]), int(match[2]), match[3] or b""


def parse_fields(block: bytes) -> Fields:
    """The field block of a response, with this module's errors."""
    try:
        return parse_response_fields(block, MAX_FIELDS)
    except FieldError as error:
        raise ResponseError(f"the header section is malformed: {error}") from None


def phrase_of(status: int) -> bytes:
    """The reason phrase of a status; empty for one that is not registered."""
    return _PHRASES.get(status, b"")
