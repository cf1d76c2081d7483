"""What an answer says of a fallback: that it comes from another upstream than the route's, and why.

    Proxy-Status: gateway; next-hop="ollama"; received-status=200; details="fallback: timeout"        (RFC 9209)

It stands behind the upstream's own `Proxy-Status`, because a list has the nearest to the origin first.
"""

from typing import ClassVar

from gateway.proxy.filter import Filter
from gateway.proxy.ticket import Ticket
from gateway.wire.message.response import Response


class FallbackStatus(Filter):
    """For routes whose fallback has upstreams. `via_name` is the gateway's own."""

    changes_head: ClassVar[bool] = True

    def __init__(self, via_name: str) -> None:
        self._via_name = via_name

    def head(self, ticket: Ticket, response: Response) -> Response:
        """HOT."""
        fallback = ticket.fallback
        if fallback is None:
            return response
        upstream, cause = fallback
        line = (
            f'Proxy-Status: {self._via_name}; next-hop="{upstream}"; received-status={response.status};'
            f' details="fallback: {cause}"\r\n'
        )
        return response.with_head(response.head + line.encode())
