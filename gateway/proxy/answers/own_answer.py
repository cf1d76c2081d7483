"""Answers that are the gateway's own and no refusals: to a preflight, to `OPTIONS *`, and to TRACE and OPTIONS that may
go no further.

`Max-Forwards` (RFC 9110 section 7.6.2) bounds how far TRACE and OPTIONS go. At 0 whoever holds the request answers it;
above, one less goes on. For other methods it means nothing and goes on as it came.
"""

import re
from typing import Final

from gateway.wire.message.date import date_line
from gateway.wire.message.request import Request
from gateway.wire.message.response import Response, phrase_of

# More than any chain of proxies is long; a larger number becomes this one, as section 7.6.2 allows.
_MOST_FORWARDS: Final = 2**31 - 1
_MAX_FORWARDS_LINE: Final = re.compile(rb"^(max-forwards: )[^\r\n]*", re.IGNORECASE | re.MULTILINE)
_NUMBER: Final = re.compile(rb"[0-9]+")
# RFC 9110 section 9.3.8: a reflected request is read by whoever can make another send it, so what may be a secret is
# left out. Names are all there is to go by.
SECRET_NAMES: Final = rb"auth|cookie|token|secret|key|session|passw|credential|signature|jwt|csrf|xsrf"
_SECRET: Final = re.compile(SECRET_NAMES, re.IGNORECASE)


class OwnAnswer:
    """A whole answer, except for the date, the ids and what filters add for each request. `fields` are its header
    lines, without the length of `body`. `decision` is what the access log says. `response` is the head of an upstream's
    answer that is given again, for the filters that add to it; None for what the gateway says itself."""

    __slots__ = ("_lines", "body", "decision", "fields", "response", "status")

    def __init__(self, status: int, fields: bytes, decision: tuple[str, str], body: bytes | None = None) -> None:
        self.status = status
        self.decision = decision
        self.response: Response | None = None
        self.body = body or b""
        self.fields = fields
        self._lines = fields if body is None else fields + b"Content-Length: %d\r\n" % len(body)

    @property
    def size(self) -> int:
        """The bytes of the body."""
        return len(self.body)

    def to_head(self) -> "OwnAnswer":
        """The same as the answer to a HEAD: without the body, and with its length."""
        return OwnAnswer(self.status, self._lines, self.decision)

    def render(self, request_id: bytes, extra: bytes, wall: float) -> bytes:
        """`extra` are complete header lines, `wall` in seconds since the epoch."""
        return b"HTTP/1.1 %d %b\r\n%b%bX-Request-ID: %b\r\n%b\r\n%b" % (
            self.status,
            phrase_of(self.status),
            date_line(wall),
            self._lines,
            request_id,
            extra,
            self.body,
        )


OPTIONS_OF_THE_GATEWAY = OwnAnswer(200, b"", ("options", "answered"), b"")


def is_about_the_gateway(request: Request) -> bool:
    """Whether it is `OPTIONS *`, which asks whether the server itself is there (RFC 9110 section 9.3.7). OPTIONS of a
    URL without a path means the same."""
    return request.path == b"*"


def forwards_left(request: Request) -> int | None:
    """How often TRACE or OPTIONS may still be passed on; None where nothing bounds it. Raises ValueError when the field
    says no number."""
    value = request.fields.max_forwards
    if value is None or request.method not in {"TRACE", "OPTIONS"}:
        return None
    if not _NUMBER.fullmatch(value):
        raise ValueError("Max-Forwards is not a number")
    return _MOST_FORWARDS if len(value) > 10 else min(int(value), _MOST_FORWARDS)


def with_forwards(lines: bytes, left: int) -> bytes:
    """The header lines with this number in `Max-Forwards`."""
    return _MAX_FORWARDS_LINE.sub(rb"\g<1>%d" % left, lines)


def last_stop(request: Request, allow: str) -> OwnAnswer:
    """The answer to a TRACE or OPTIONS that may go no further. `allow` is the value of Allow."""
    if request.method == "OPTIONS":
        return OwnAnswer(200, f"Allow: {allow}\r\n".encode() if allow else b"", ("max_forwards", "answered"), b"")
    echo = b"%b %b HTTP/1.%d\r\n" % (request.method.encode(), request.target, request.minor)
    if request.fields.hosts:
        echo += b"Host: %b\r\n" % request.fields.hosts[0]
    for line in request.fields.lines.splitlines(keepends=True):
        if not _SECRET.search(line.partition(b":")[0]):
            echo += line
    return OwnAnswer(
        200,
        b"Content-Type: message/http\r\nX-Content-Type-Options: nosniff\r\n",
        ("max_forwards", "answered"),
        echo + b"\r\n",
    )
