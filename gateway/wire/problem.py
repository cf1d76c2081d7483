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


_BODY_END = b'"}'


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
def _template(
    proxy: str, status: int, reason: str, detail: str, error: str | None, seconds: int | None, close: bool
) -> tuple[bytes, bytes, bytes, int]:
    """What all answers of a kind share: status line; fields; the body up to the request id; its length without it."""
    title, usual = _REASONS[reason]
    problem: dict[str, object] = {"type": f"urn:problem:gateway:{reason}", "title": title, "status": status}
    problem |= {"detail": detail, "reason": reason}
    fields = (
        "Content-Type: application/problem+json\r\n"
        f'Proxy-Status: {proxy}; error={error or usual}; details="{reason}"\r\n'
    )
    if seconds is not None:
        problem["retry_after"] = seconds
        fields += f"Retry-After: {seconds}\r\n"
    if close:
        fields += "Connection: close\r\n"
    body = json.dumps({**problem, "request_id": ""}).encode()[: -len(_BODY_END)]
    line = b"HTTP/1.1 %d %b\r\n" % (status, phrase_of(status))
    return line, fields.encode(), body, len(body) + len(_BODY_END) + 1


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
    seconds = None if retry_after is None else retry_after_seconds(retry_after)
    line, fields, body, length = _template(proxy, status, reason, detail, error, seconds, close)
    length += len(request_id)
    head = b"%b%b%bContent-Length: %d\r\nX-Request-ID: %b\r\n%b\r\n" % (
        line,
        date_line(),
        fields,
        length,
        request_id,
        extra,
    )
    return head if head_only else b"%b%b%b%b\n" % (head, body, request_id, _BODY_END)
