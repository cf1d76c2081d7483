"""Names to addresses, with a cache that outlives the name server.

An answer is fresh for `ttl` seconds. After that it is asked for again, and the old answer serves whenever the new one
fails or takes longer than `PATIENCE`, until it is `STALE_TTLS` times `ttl` old (serve-stale, RFC 8767): a name server
that is down must not take down upstreams that are up. One lookup per name at a time, however many wait for it, and a
waiter that is cancelled leaves the lookup running. A failure is remembered for at most one second.

Addresses of the two families alternate, beginning with the family the system put first (RFC 8305 section 4, RFC 6724).
Within each family every answer begins one address further on, because the system sorts what the name server shuffled,
and all connections would go to the same first address.

Left out on purpose: the record's own TTL (getaddrinfo does not tell it), SRV records, and the search for whichever
address connects first. The cache is not bounded: names come from the configuration, never from a request.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, zip_longest
from typing import Any, Final, Protocol

PATIENCE: Final = 0.1
STALE_TTLS: Final = 10
_MAX_NEGATIVE_TTL: Final = 1.0

SocketAddress = tuple[str, int] | tuple[str, int, int, int]


class ResolveError(socket.gaierror):
    """The name has no usable address. Chained to what the system said, if this is the first to hear of it."""


class GetAddrInfo(Protocol):
    """`loop.getaddrinfo`."""

    def __call__(self, host: str, port: int, *, type: int) -> Awaitable[Sequence[tuple[Any, ...]]]: ...  # noqa: A002


class _Entry:
    __slots__ = ("begun", "error", "families", "fresh_until", "lookup", "retry_at", "turn", "usable_until")

    def __init__(self) -> None:
        self.families: tuple[tuple[SocketAddress, ...], ...] = ()  # none is empty; the preferred one first
        self.fresh_until = float("-inf")
        self.usable_until = float("-inf")
        self.lookup: asyncio.Task[bool] | None = None
        self.begun = float("-inf")
        self.error: Exception | None = None
        self.retry_at = float("-inf")
        self.turn = 0

    def answer(self) -> tuple[SocketAddress, ...]:
        families = self.families
        if len(families) == 1 and len(families[0]) == 1:
            return families[0]
        turn = self.turn
        self.turn = turn + 1
        turned = [family[turn % len(family) :] + family[: turn % len(family)] for family in families]
        return tuple(address for address in chain.from_iterable(zip_longest(*turned)) if address is not None)


class Resolver:
    def __init__(
        self, ttl: float, clock: Callable[[], float] = time.monotonic, getaddrinfo: GetAddrInfo | None = None
    ) -> None:
        """`getaddrinfo` None: the running loop's. With `ttl` 0 every `resolve` asks, and nothing stale is used."""
        self._ttl = ttl
        self._clock = clock
        self._getaddrinfo = getaddrinfo
        self._entries: dict[tuple[str, int], _Entry] = {}

    def cached(self, host: str, port: int) -> tuple[SocketAddress, ...] | None:
        """The addresses if known and fresh, else None (then `resolve`). An IP literal is always known. HOT."""
        entry = self._entries.get((host, port))
        if entry is None:
            entry = self._entries[host, port] = _literal(host, port) or _Entry()
        return entry.answer() if self._clock() < entry.fresh_until else None

    async def resolve(self, host: str, port: int) -> tuple[SocketAddress, ...]:
        """One address or more, in the order in which to try them. Raises ResolveError.

        Waits no longer than PATIENCE when there is an old answer to fall back on; otherwise the time limit is the
        caller's.
        """
        fresh = self.cached(host, port)
        if fresh is not None:
            return fresh
        entry = self._entries[host, port]
        now = self._clock()
        usable = now < entry.usable_until
        if entry.lookup is None and now >= entry.retry_at:
            entry.begun = now
            entry.lookup = asyncio.create_task(self._look_up(entry, host, port))
        lookup = entry.lookup
        if lookup is not None:
            patience = max(0.0, entry.begun + PATIENCE - now) if usable else None
            await asyncio.wait({lookup}, timeout=patience)
            if lookup.done() and lookup.result():
                return entry.answer()
        if usable:
            return entry.answer()
        raise ResolveError(socket.EAI_NONAME, f"{host}: {entry.error}") from entry.error

    async def _look_up(self, entry: _Entry, host: str, port: int) -> bool:
        """Whether there is a new answer. A failure is left in `entry`: whoever waited for it may be gone."""
        getaddrinfo = self._getaddrinfo or asyncio.get_running_loop().getaddrinfo
        try:
            found = await getaddrinfo(host, port, type=socket.SOCK_STREAM)
            families = _by_family(found)
            if not families:
                raise ResolveError(socket.EAI_NONAME, "no address")
        except (OSError, ValueError) as error:  # ValueError: not encodable as a host name
            entry.error = error
            entry.retry_at = self._clock() + min(self._ttl, _MAX_NEGATIVE_TTL)
            return False
        else:
            now = self._clock()
            entry.families = families
            entry.fresh_until = now + self._ttl
            entry.usable_until = now + self._ttl * STALE_TTLS
            entry.error = None
            return True
        finally:
            entry.lookup = None


def _literal(host: str, port: int) -> _Entry | None:
    address: SocketAddress
    if _is_address(socket.AF_INET, host):
        address = (host, port)
    elif _is_address(socket.AF_INET6, host):
        address = (host, port, 0, 0)
    else:
        return None
    entry = _Entry()
    entry.families = ((address,),)
    entry.fresh_until = float("inf")
    return entry


def _is_address(family: socket.AddressFamily, host: str) -> bool:
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return False
    return True


def _by_family(found: Sequence[tuple[Any, ...]]) -> tuple[tuple[SocketAddress, ...], ...]:
    families: dict[int, dict[SocketAddress, None]] = {}
    for family, _, _, _, address in found:
        if family in (socket.AF_INET, socket.AF_INET6):
            families.setdefault(family, {})[address] = None
    return tuple(tuple(addresses) for addresses in families.values())
