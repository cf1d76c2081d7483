"""How fast a client takes a response that does not go out as fast as it comes.

The send buffer of the process may stand still for long while a slow reader empties the kernel's, which may hold
megabytes. So what counts is what the client's kernel has confirmed.
"""

import asyncio

from gateway.wire.kernel import acknowledged
from gateway.wire.server.body_rate import BodyRate


class Taking:
    """The taking of one response, from the moment on that its client was first behind."""

    __slots__ = ("_acknowledged", "_rate", "_transport")

    def __init__(self, rate: BodyRate, transport: asyncio.Transport) -> None:
        self._rate = rate
        self._transport = transport
        self._acknowledged = acknowledged(transport)

    def deadline(self) -> float:
        """When to look at it, if nothing is taken until then; an instant of the monotonic clock."""
        return self._rate.deadline()

    def look(self, now: float) -> str | None:
        """What is wrong with how the client takes it, in words; None while it may go on."""
        rate = self._rate
        taken = acknowledged(self._transport)
        if taken != self._acknowledged:
            rate.moved = taken - self._acknowledged
            rate.last = now
            self._acknowledged = taken
        return rate.look(now)
