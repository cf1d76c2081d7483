"""Connecting to one of several addresses: the way in which requests, health checks and verification dials do it.

RFC 8305 section 5: the addresses are tried in the order given, the next one is started when one has failed, or when
`delay` seconds have passed without an answer; whatever connects first wins, and the others are closed. With TLS an
attempt includes the handshake, so that an address whose TLS hangs does not win. The addresses come interleaved by
family, and those that failed lately come last (gateway/wire/client/resolver.py).

If none connects, the error that is raised is the one that says most: that this host lacks something (then nothing is
known about the upstream), else that of the address that got furthest. `localhost` is often ::1 as well, on a host
that does not have it.
"""

import asyncio
import errno
import socket
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from gateway.wire.client.fault import LACKS, Fault, fault_of

ATTEMPT_DELAY: Final = 0.25
"""Seconds from the start of one attempt to that of the next (RFC 8305 section 8)."""

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
Note = Callable[[SocketAddress, bool], None]
"""Called with an address and whether it connected. An address that was overtaken counts as one that did not."""

P = TypeVar("P", bound=asyncio.Protocol)


def attempt_delay(addresses: int, within: float) -> float:
    """The delay with which all of so many addresses have begun within `within` seconds, ATTEMPT_DELAY at most."""
    return min(ATTEMPT_DELAY, within / (addresses + 1))


async def connect(
    addresses: Sequence[SocketAddress],
    factory: Callable[[SocketAddress], P],
    *,
    delay: float = ATTEMPT_DELAY,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    note: Note | None = None,
) -> P:
    """The protocol, made by `factory`, of the connection that came first. Raises OSError. The time limit is the
    caller's: being cancelled closes everything."""
    loop = asyncio.get_running_loop()

    async def attempt(address: SocketAddress) -> tuple[asyncio.Transport, P]:
        try:
            transport, protocol = await loop.create_connection(
                lambda: factory(address), address[0], address[1], ssl=tls, server_hostname=server_name
            )
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL and not _has_family(address):
                raise OSError(errno.EAFNOSUPPORT, "this host does not have the address family") from error
            raise
        return transport, protocol

    if len(addresses) == 1:
        return (await attempt(addresses[0]))[1]
    return await _race(addresses, attempt, delay, note)


async def _race(
    addresses: Sequence[SocketAddress],
    attempt: Callable[[SocketAddress], Coroutine[Any, Any, tuple[asyncio.Transport, P]]],
    delay: float,
    note: Note | None,
) -> P:
    waiting = deque(addresses)
    running: dict[asyncio.Task[tuple[asyncio.Transport, P]], SocketAddress] = {}
    winner: tuple[asyncio.Transport, P] | None = None
    worst: OSError | None = None
    try:
        while winner is None and (waiting or running):
            if waiting:
                address = waiting.popleft()
                running[asyncio.create_task(attempt(address))] = address
            done, _ = await asyncio.wait(
                running, timeout=delay if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    if winner is None:
                        winner = task.result()
                        address = running.pop(task)
                        if note is not None:
                            note(address, True)
                    continue
                address = running.pop(task)
                if not isinstance(error, OSError):
                    raise error
                if note is not None and fault_of(error) is not Fault.LOCAL:
                    note(address, False)
                if worst is None or _tells(error) >= _tells(worst):
                    worst = error
    finally:
        await _call_off(running, note)
    if winner is None:
        raise worst or OSError("the name has no address")
    return winner[1]


async def _call_off(running: dict[asyncio.Task[tuple[asyncio.Transport, P]], SocketAddress], note: Note | None) -> None:
    """Close what came second, or too late."""
    for task, address in running.items():
        if not task.done():
            task.cancel()
            if note is not None:
                note(address, False)
    for outcome in await asyncio.gather(*running, return_exceptions=True):
        if not isinstance(outcome, BaseException):
            outcome[0].abort()


def _tells(error: OSError) -> int:
    """How much a failure says. A lack of this host comes first, because it leaves open what would have happened."""
    if isinstance(error, ssl.SSLError):
        return 3
    if error.errno in LACKS:
        return 4
    if isinstance(error, ConnectionRefusedError):
        return 2
    if isinstance(error, ConnectionError):
        return 3
    return 0 if fault_of(error) is Fault.LOCAL else 1


def _has_family(address: SocketAddress) -> bool:
    """Whether this host has an address of the family at all; asked only after EADDRNOTAVAIL."""
    family, loopback = (socket.AF_INET6, "::1") if len(address) == 4 else (socket.AF_INET, "127.0.0.1")
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((loopback, 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True
