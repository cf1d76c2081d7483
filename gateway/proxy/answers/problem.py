"""Refusals on the wire: one fact in status, `Retry-After`, `Proxy-Status` and a problem+json body.

Body: RFC 9457, one JSON object and a final newline. `Proxy-Status`: RFC 9209, whose error types say where on the way it
failed. `Retry-After` in whole seconds, rounded up, at least 1 (RFC 9110 section 10.2.3).
"""

import json
from collections.abc import Mapping
from typing import Final

from gateway.reasons import REASONS
from gateway.wire.message.date import date_line
from gateway.wire.message.response import phrase_of

_ID_LENGTH: Final = 32


class Problem:
    """An answer to a refused request, but for what differs from one such answer to the next: the date, the request's
    id, and fields besides.

    `proxy` is a token, `retry_after` in whole seconds, at least 1. `error` replaces the reason's usual RFC 9209 type;
    `extra` are complete header lines, `members` further members of the body. The body has `size` bytes and those of the
    request's id.
    """

    __slots__ = ("_body", "_fields", "_line", "_usual", "size")

    def __init__(
        self,
        proxy: str,
        status: int,
        reason: str,
        detail: str,
        *,
        retry_after: int | None = None,
        error: str | None = None,
        extra: bytes = b"",
        members: Mapping[str, object] | None = None,
    ) -> None:
        known = REASONS[reason]
        problem: dict[str, object] = {"type": f"urn:problem:gateway:{reason}", "title": known.title, "status": status}
        problem |= {"detail": detail, "reason": reason}
        problem |= members or {}
        fields = (
            "Content-Type: application/problem+json\r\n"
            f'Proxy-Status: {proxy}; error={error or known.error}; details="{reason}"\r\n'
        )
        if retry_after is not None:
            problem["retry_after"] = retry_after
            fields += f"Retry-After: {retry_after}\r\n"
        self._line = b"HTTP/1.1 %d %b\r\n" % (status, phrase_of(status))
        self._body = json.dumps({**problem, "request_id": ""}).encode().removesuffix(b'"}')
        self.size = len(self._body) + len(b'"}\n')
        self._fields = fields.encode() + extra
        self._usual = self._up_to_id(_ID_LENGTH)

    def render(self, request_id: bytes, extra: bytes, now: float, head_only: bool) -> bytes:
        """The whole response. `extra` are complete header lines, `request_id` is printable without quote and backslash,
        `now` in seconds since the epoch. HOT."""
        fields = self._usual if len(request_id) == _ID_LENGTH else self._up_to_id(len(request_id))
        if head_only:
            return b"".join((self._line, date_line(now), fields, request_id, b"\r\n", extra, b"\r\n"))
        return b"".join(
            (
                self._line,
                date_line(now),
                fields,
                request_id,
                b"\r\n",
                extra,
                b"\r\n",
                self._body,
                request_id,
                b'"}\n',
            )
        )

    def _up_to_id(self, id_length: int) -> bytes:
        return b"%bContent-Length: %d\r\nX-Request-ID: " % (self._fields, self.size + id_length)
