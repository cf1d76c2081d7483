"""`Server-Timing`: how long an answer took, and how much of that was the upstream.

    Server-Timing: total;dur=31.204, upstream;dur=30.871, gateway;dur=0.333

See https://www.w3.org/TR/server-timing/. Milliseconds, from the head of the request to the head of the answer.
`upstream` is the time of all attempts, waiting for a connection included; `gateway` is the rest, pauses between
attempts included.
"""

import time
from typing import ClassVar

from gateway.proxy.filter import Filter
from gateway.proxy.ticket import Ticket
from gateway.wire.message.response import Response


class ServerTiming(Filter):
    """Only where it is configured: it tells everybody how busy an upstream is."""

    adds_to_refusals: ClassVar[bool] = True
    changes_head: ClassVar[bool] = True

    def head(self, ticket: Ticket, response: Response) -> Response:
        """HOT."""
        return response.with_head(response.head + _line(ticket))

    def fields(self, ticket: Ticket, response: Response | None) -> bytes:
        """HOT."""
        return _line(ticket)


def _line(ticket: Ticket) -> bytes:
    now = time.monotonic()
    total = (now - ticket.started) * 1000.0
    trace = ticket.trace
    upstream = 0.0 if trace is None else trace.seconds(now) * 1000.0
    return b"Server-Timing: total;dur=%.3f, upstream;dur=%.3f, gateway;dur=%.3f\r\n" % (
        total,
        upstream,
        max(0.0, total - upstream),
    )
