"""Refusals on the wire: one fact in status, `Retry-After`, `Proxy-Status` and a problem+json body.

Body: RFC 9457, one JSON object and a final newline. `Proxy-Status`: RFC 9209, whose error types say where on the way it
failed. `Retry-After` in whole seconds, rounded up, at least 1 (RFC 9110 section 10.2.3).
"""

import json
from email.utils import formatdate

from gateway.wire.response import phrase_of

# reason: (title, RFC 9209 error type or None)
_REASONS: dict[str, tuple[str, str | None]] = {
    "bad_request": ("The request is malformed", "http_request_error"),
    "uri_too_long": ("The request line is too long", "http_request_error"),
    "headers_too_large": ("The header section is too large", "http_request_error"),
    "body_too_large": ("The request body is too large", "http_request_error"),
    "request_timeout": ("The request did not arrive in time", "http_request_error"),
    "response_timeout": ("The response was taken too slowly", "http_request_error"),
    "not_found": ("No route matches", "destination_not_found"),
    "method_not_allowed": ("The method is not allowed here", "http_request_denied"),
    "loop_detected": ("The request has been here before", "proxy_loop_detected"),
    "rate_limited": ("Too many requests", "http_request_denied"),
    "overloaded": ("The gateway is at its limit", "connection_limit_reached"),
    "bulkhead_full": ("The upstream is at its limit", "connection_limit_reached"),
    "tunnel_limit": ("Too many tunnels are open", "connection_limit_reached"),
    "endpoints_out": ("Every endpoint of the upstream is out of service", "destination_unavailable"),
    "circuit_open": ("The upstream is failing and is being left alone", "destination_unavailable"),
    "upstream_timeout": ("The upstream did not answer in time", "http_response_timeout"),
    "upstream_unreachable": ("The upstream cannot be reached", "connection_refused"),
    "upstream_protocol_error": ("The upstream did not answer in HTTP", "http_protocol_error"),
    "upstream_truncated": ("The upstream broke off its answer", "http_response_incomplete"),
    "draining": ("The gateway is stopping", "destination_unavailable"),
    "internal_error": ("The gateway failed", "proxy_internal_error"),
}


_ID_LENGTH = 32


class Clock:
    """The Date field, encoded once a second."""

    def __init__(self) -> None:
        self._second = self._next = 0
        self._line = b""

    def date_line(self, now: float) -> bytes:
        """`now` in seconds since the epoch. HOT."""
        if not self._second <= now < self._next:
            self._second = int(now)
            self._next = self._second + 1
            self._line = b"Date: %b\r\n" % formatdate(self._second, usegmt=True).encode()
        return self._line


_clock = Clock()
date_line = _clock.date_line


class Problem:
    """A refusal but for what differs from one answer to the next: the date, the request's id and fields besides.

    `proxy` is a token, `retry_after` in whole seconds, at least 1. `error` replaces the reason's usual RFC 9209 type;
    `extra` are complete header lines. The body has `size` bytes and those of the request's id.
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
    ) -> None:
        title, usual = _REASONS[reason]
        problem: dict[str, object] = {"type": f"urn:problem:gateway:{reason}", "title": title, "status": status}
        problem |= {"detail": detail, "reason": reason}
        fields = (
            "Content-Type: application/problem+json\r\n"
            f'Proxy-Status: {proxy}; error={error or usual}; details="{reason}"\r\n'
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
