"""Refusals on the wire: one fact in status, `Retry-After`, `Proxy-Status` and a problem+json body.

Body: RFC 9457, one JSON object and a final newline. `Proxy-Status`: RFC 9209, whose error types say where on the way it
failed. `Retry-After` in whole seconds, rounded up, at least 1 (RFC 9110 section 10.2.3).
"""

import json
import math
import time
from email.utils import formatdate
from functools import lru_cache

from gateway.wire.response import phrase_of

# reason: (title, RFC 9209 error type or None)
_REASONS: dict[str, tuple[str, str | None]] = {
    "bad_request": ("The request is malformed", "http_request_error"),
    "uri_too_long": ("The request line is too long", "http_request_error"),
    "headers_too_large": ("The header section is too large", "http_request_error"),
    "body_too_large": ("The request body is too large", "http_request_error"),
    "request_timeout": ("The request did not arrive in time", "http_request_error"),
    "not_found": ("No route matches", "destination_not_found"),
    "method_not_allowed": ("The method is not allowed here", "http_request_denied"),
    "loop_detected": ("The request has been here before", "proxy_loop_detected"),
    "rate_limited": ("Too many requests", "http_request_denied"),
    "overloaded": ("The gateway is at its limit", "connection_limit_reached"),
    "bulkhead_full": ("The upstream is at its limit", "connection_limit_reached"),
    "tunnel_limit": ("Too many tunnels are open", "connection_limit_reached"),
    "circuit_open": ("The upstream is failing and is being left alone", "destination_unavailable"),
    "upstream_timeout": ("The upstream did not answer in time", "http_response_timeout"),
    "upstream_unreachable": ("The upstream cannot be reached", "connection_refused"),
    "upstream_protocol_error": ("The upstream did not answer in HTTP", "http_protocol_error"),
    "upstream_truncated": ("The upstream broke off its answer", "http_response_incomplete"),
    "draining": ("The gateway is stopping", "destination_unavailable"),
    "internal_error": ("The gateway failed", "proxy_internal_error"),
}


class Clock:
    """The Date field, encoded once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def date_line(self) -> bytes:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._line = b"Date: %b\r\n" % formatdate(now, usegmt=True).encode()
        return self._line


_clock = Clock()
date_line = _clock.date_line


def retry_after_seconds(retry_after: float) -> int:
    return max(1, math.ceil(retry_after))


@lru_cache(maxsize=2048)
def _template(proxy: str, status: int, reason: str, detail: str, error: str | None) -> tuple[bytes, bytes, bytes]:
    """What all answers of a kind share: status line; fixed fields; the body up to what varies."""
    title, usual = _REASONS[reason]
    problem = {"type": f"urn:problem:gateway:{reason}", "title": title, "status": status}
    body = json.dumps({**problem, "detail": detail, "reason": reason}).encode()
    fields = (
        "Content-Type: application/problem+json\r\n"
        f'Proxy-Status: {proxy}; error={error or usual}; details="{reason}"\r\n'
    )
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase_of(status)), fields.encode(), body[:-1]


def render(
    proxy: str,
    status: int,
    reason: str,
    detail: str,
    request_id: bytes,
    *,
    retry_after: float | None = None,
    error: str | None = None,
    extra: bytes = b"",
    head_only: bool = False,
    close: bool = False,
) -> bytes:
    """The whole response. `extra` are complete header lines; `error` replaces the reason's usual RFC 9209 type.

    `proxy` is a token, `request_id` printable without quote and backslash. There are few different `detail`s.
    """
    status_line, fields, body = _template(proxy, status, reason, detail, error)
    if retry_after is None:
        body = b'%b, "request_id": "%b"}\n' % (body, request_id)
    else:
        seconds = retry_after_seconds(retry_after)
        body = b'%b, "retry_after": %d, "request_id": "%b"}\n' % (body, seconds, request_id)
        extra = b"Retry-After: %d\r\n%b" % (seconds, extra)
    return b"%b%b%bContent-Length: %d\r\nX-Request-ID: %b\r\n%b%b\r\n%b" % (
        status_line,
        date_line(),
        fields,
        len(body),
        request_id,
        extra,
        b"Connection: close\r\n" if close else b"",
        b"" if head_only else body,
    )
