"""Whether this replica can connect to an upstream, asked when another one says that it cannot.

Every address of every endpoint is tried at once, TCP only; the first connection is the answer, and is closed. The
addresses are those that requests use, old ones of a name server that is down among them. Within `DIAL_TIME` seconds,
because a trip is to be acted on everywhere within 250 ms, 60 of which may pass until the question arrives. An upstream
that takes longer to reach, or to resolve, counts as out of reach: the replica that asks had no connection either, with
far more patience.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.config.model import EndpointConfig

DIAL_TIME = 0.1

Resolve = Callable[[str, int], Awaitable[Sequence[tuple[Any, ...]]]]
"""Host and port to the socket addresses to try. Raises OSError."""


async def reachable(resolve: Resolve, endpoints: Sequence[EndpointConfig], within: float = DIAL_TIME) -> bool:
    """Whether a connection to any of them comes about. Raises nothing."""
    tries = [asyncio.create_task(_connects(resolve, endpoint.host, endpoint.port)) for endpoint in endpoints]
    try:
        async with asyncio.timeout(within):
            return await _any(tries)
    except TimeoutError:
        return False


async def _any(tries: Sequence[asyncio.Task[bool]]) -> bool:
    try:
        for each in asyncio.as_completed(tries):
            if await each:
                return True
        return False
    finally:
        for task in tries:
            task.cancel()
        await asyncio.gather(*tries, return_exceptions=True)


async def _connects(resolve: Resolve, host: str, port: int) -> bool:
    try:
        addresses = await resolve(host, port)
    except OSError:
        return False
    return await _any([asyncio.create_task(_connects_to(address[0], address[1])) for address in addresses])


async def _connects_to(host: str, port: int) -> bool:
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, host, port)
    except OSError:
        return False
    transport.abort()
    return True
