"""More time for one request to the control plane than others have, where it waits for something that takes time."""

import asyncio

from aiohttp import web

SCOPE = web.RequestKey("scope", asyncio.Timeout)
"""Under which the time limit of a request is kept."""


def be_patient(request: web.Request, seconds: float) -> None:
    """Let this request take `seconds` from now. The connection as a whole has its own limit, which is longer."""
    request[SCOPE].reschedule(asyncio.get_running_loop().time() + seconds)
