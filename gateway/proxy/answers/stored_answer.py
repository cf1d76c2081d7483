"""Answers that are kept for the repetition of a request, and given again.

What belongs to the first exchange alone is not kept: cookies, the date, what was left of the rate limits, the ids. The
framing is that of the repetition.
"""

import re
from typing import Final

from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.wire.message.fields import parse_response_fields
from gateway.wire.message.response import MAX_FIELDS, Response

_OF_THEN: Final = re.compile(
    rb"^(?:set-cookie2?|date|age|x-request-id|x-correlation-id|traceparent|server-timing|proxy-status|via|x-gateway-debug"
    rb"|tracestate|(?:x-)?rate-?limit[a-z-]*|content-length|transfer-encoding|idempotent-replayed):[^\r\n]*\r\n",
    re.IGNORECASE | re.MULTILINE,
)
_REPLAYED: Final = b"Idempotent-Replayed: true\r\n"
# More than an upstream may send: the fields that the route has added are among them.
_MOST_FIELDS: Final = 4 * MAX_FIELDS
_BODYLESS: Final = (204, 304)
# After these answers nothing was done: the request may come again. A 401 says that the request was not applied for want
# of credentials (RFC 9110 section 15.5.2), which the client is to get and repeat it with; a 421 (section 15.5.20) that
# it came to the wrong server.
_NOT_DONE: Final = (401, 408, 421, 425, 429)


class StoredAnswer(OwnAnswer):
    """The answer of an earlier request; `fields` are complete header lines. Raises `FieldError` where they are not."""

    __slots__ = ()

    def __init__(self, status: int, fields: bytes, body: bytes) -> None:
        super().__init__(status, fields + _REPLAYED, ("idempotency", "replayed"), None if status in _BODYLESS else body)
        # It came from an upstream, so what it says of pages of other origins counts (gateway.proxy.filters.cors).
        self.response = Response(status, b"", 1, parse_response_fields(fields + b"\r\n", _MOST_FIELDS))


def kept_fields(response: Response) -> bytes:
    """The header lines of an answer that are kept."""
    return _OF_THEN.sub(b"", response.head.partition(b"\r\n")[2])


def is_kept(status: int) -> bool:
    """Whether an answer with this status is what a repetition gets."""
    return 200 <= status < 500 and status not in _NOT_DONE


def is_undone(status: int) -> bool:
    """Whether an answer with this status says that nothing was done."""
    return status in _NOT_DONE
