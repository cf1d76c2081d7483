"""Whether this replica can connect to an upstream, asked when another one says that it cannot.

Every address of every endpoint is tried at once, TCP only; the first connection is the answer, and is closed. The
addresses are those that requests use, old ones of a name server that is down among them. Within `DIAL_TIME` seconds,
because a trip is to be acted on everywhere within 250 ms, 60 of which may pass until the question arrives. An upstream
that takes longer to reach, or to resolve, counts as out of reach: the replica that asks had no connection either, with
far more patience.

A replica that lacks files, ports or memory for the try says nothing. It must not count as a second one without a
connection.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, cast

from gateway.alarm import Within
from gateway.wire.client.connect import SocketAddress, connect
from gateway.wire.client.fault import Fault, fault_of

DIAL_TIME: Final = 0.1

Resolve = Callable[[str, int], Awaitable[Sequence[SocketAddress]]]
"""Host and port to the socket addresses to try. Raises OSError."""


class Endpoint(Protocol):
    """Where to connect to."""

    @property
    def host(self) -> str:
        """A name or an IP address."""
        ...

    @property
    def port(self) -> int:
        """The TCP port."""
        ...


async def reachable(resolve: Resolve, endpoints: Sequence[Endpoint], within: float = DIAL_TIME) -> bool | None:
    """Whether a connection to any of them comes about; None when this host could not try. Raises nothing."""
    tries = [asyncio.create_task(_connects(resolve, endpoint.host, endpoint.port)) for endpoint in endpoints]
    unable = False
    try:
        async with Within(within):
            for each in asyncio.as_completed(tries):
                answer = await each
                if answer:
                    return True
                unable = unable or answer is None
    except TimeoutError:
        return None if unable else False
    finally:
        for task in tries:
            task.cancel()
        await asyncio.gather(*tries, return_exceptions=True)
    return None if unable else False


async def _connects(resolve: Resolve, host: str, port: int) -> bool | None:
    try:
        caller = await connect(await resolve(host, port), _made, delay=0.0)
    except (OSError, MemoryError) as error:
        return None if fault_of(error) is Fault.LOCAL else False
    caller.hang_up()
    return True


class _Caller(asyncio.Protocol):
    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def hang_up(self) -> None:
        self._transport.abort()


def _made(_address: SocketAddress) -> _Caller:
    return _Caller()
