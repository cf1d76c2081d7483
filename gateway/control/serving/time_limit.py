"""More time for one request to the control plane than others have, where it waits for something that takes time."""

import asyncio
from typing import Protocol, cast

from aiohttp import web

SCOPE = web.RequestKey("scope", asyncio.Timeout)
"""Under which the time limit of a request is kept."""


def be_patient(request: web.Request, seconds: float) -> None:
    """Let this request take `seconds` from now. The connection as a whole has its own limit, which is longer."""
    request[SCOPE].reschedule(asyncio.get_running_loop().time() + seconds)


class Bounded(Protocol):
    """A connection of the control plane, whose life is bounded."""

    def stay(self) -> None:
        """Bound it no more."""
        ...


def stay(request: web.Request) -> None:
    """Let this request, and its connection, last until one of the two sides ends it: its answer is a stream."""
    request[SCOPE].reschedule(None)
    cast("Bounded", request.protocol).stay()
