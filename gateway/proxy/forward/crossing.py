"""The 408 of a server that ends an idle connection, when it crosses with a request on its way."""

from typing import Final

from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.message.response import Response

# The longest time on the way, there and back, in which what an idle connection ends with may cross with a request.
_CROSSING_TIME: Final = 1.0


def ended_idle_connection(response: Response, connection: UpstreamConnection, seconds: float) -> bool:
    """Whether a 408 that came `seconds` after a whole request was sent answers no request.

    Some servers end an idle connection with a 408. It had left before the request came, so it follows the sending at
    once. A server that has waited in vain for the rest of a request says 408 later, or while the request is not
    complete."""
    return connection.reused and not response.keep_alive and seconds < _CROSSING_TIME
