"""Errors of the control plane: RFC 9457 in the shape of every other refusal of the gateway.

One JSON object and a final newline with `type`, `title`, `status`, `detail`, `reason`, `retry_after` (where there is
one) and `request_id`, then whatever the error adds. A `detail` is written for whoever called; causes go to the log.
No `Proxy-Status` (RFC 9209): for these paths the gateway is the origin and not an intermediary.
"""

import math
from collections.abc import Mapping

import orjson
from aiohttp import web

from gateway.control.serving.response import response_bytes, title_of

REQUEST_ID = web.RequestKey("request_id", str)
"""Under which a request carries its id."""

_REASONS = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "conflict",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "too_many_requests",
    500: "internal_error",
    501: "not_implemented",
    503: "unavailable",
}

_DETAILS = {
    404: "There is nothing at this path of the control plane.",
    405: "This method is not allowed here.",
    408: "The request took too long to arrive.",
    413: "The body is larger than the control plane accepts.",
    501: "This method means nothing to the control plane.",
    500: "The control plane could not answer. The log has the cause under this request id.",
}


class RefusalError(Exception):
    """Raise it to refuse a request. It becomes a `problem`."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        reason: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.reason = reason
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        self.members = dict(members or {})


def problem(refused: RefusalError, request_id: str) -> web.Response:
    """The response that says why."""
    reason = refused.reason or reason_of(refused.status)
    body: dict[str, object] = {
        "type": f"urn:problem:gateway:{reason}",
        "title": title_of(refused.status),
        "status": refused.status,
        "detail": refused.detail,
        "reason": reason,
    }
    headers = dict(refused.headers)
    if refused.retry_after is not None:
        seconds = max(1, math.ceil(refused.retry_after))
        body["retry_after"] = seconds
        headers["Retry-After"] = str(seconds)
    body["request_id"] = request_id
    return web.Response(
        status=refused.status,
        body=orjson.dumps({**body, **refused.members}, option=orjson.OPT_APPEND_NEWLINE),
        content_type="application/problem+json",
        headers=headers,
    )


def rendered(refused: RefusalError, request_id: str) -> bytes:
    """A `problem` as the bytes of a whole response, after which the connection closes."""
    response = problem(refused, request_id)
    assert isinstance(response.body, bytes)  # noqa: S101 - as `problem` makes it
    return response_bytes(response.status, response.headers, response.body, request_id)


def plain(status: int, headers: Mapping[str, str] | None = None) -> RefusalError:
    """A refusal that only its status explains."""
    return RefusalError(status, _DETAILS.get(status, title_of(status)), headers=headers)


def reason_of(status: int) -> str:
    """The reason of an error that has no better one, by its status."""
    return _REASONS.get(status, "bad_request" if status < 500 else "internal_error")
