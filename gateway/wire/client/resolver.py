"""Names to addresses, with a cache that outlives the name server.

An answer is fresh for `ttl` seconds. After that it is asked for again, and the old answer serves whenever the new one
fails or takes longer than `PATIENCE`, for as long as `stale` says (serve-stale, RFC 8767): a name server that is down
must not take down upstreams that are up. "There is no such name" is an answer, though, and ends the use of the old one
`GONE_TTLS` times `ttl` after it was given: addresses that somebody has given up may become somebody else's. A platform
that has no address of a service for a moment says the same, which is why it does not end it at once.

One lookup per name at a time, however many wait for it, and a waiter that is cancelled leaves the lookup running. A
failure is remembered for at most one second.

Addresses of the two families alternate, beginning with the family the system put first (RFC 8305 section 4, RFC 6724).
Within each family every answer begins one address further on, because the system sorts what the name server shuffled,
and all connections would go to the same first address. An address that failed lately (`note`) is tried last, for
`DEAD_TIME` seconds and twice as long each time it fails again, up to `DEAD_TIME_AT_MOST`.

Left out on purpose: the record's own TTL (getaddrinfo does not tell it), and SRV records. The cache is not bounded:
names come from the configuration, never from a request.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import chain, zip_longest
from typing import Any, Final, NamedTuple, Protocol

from gateway.wire.client.connect import SocketAddress

log = logging.getLogger("gateway.resolver")

PATIENCE: Final = 0.1
TTL: Final = 5.0
STALE: Final = 86_400.0
GONE_TTLS: Final = 10
DEAD_TIME: Final = 10.0
DEAD_TIME_AT_MOST: Final = 60.0
_MAX_NEGATIVE_TTL: Final = 1.0
_NO_SUCH_NAME: Final = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class ResolveError(socket.gaierror):
    """The name has no usable address. Chained to what the system said, if this is the first to hear of it."""


class GetAddrInfo(Protocol):
    """`loop.getaddrinfo`."""

    def __call__(self, host: str, port: int, *, type: int) -> Awaitable[Sequence[tuple[Any, ...]]]: ...  # noqa: A002


class NameState(NamedTuple):
    """One name that requests use. `stale_for` is the seconds for which its addresses have been used although they are
    no longer fresh, because the name server does not answer; otherwise 0. `answered` and `failed` count the lookups."""

    host: str
    stale_for: float
    answered: int
    failed: int


class _Entry:
    __slots__ = (
        "answered", "answered_at", "begun", "error", "failed", "families", "fresh_until", "lookup", "retry_at",
        "stale", "ttl", "turn", "usable_until",
    )  # fmt: skip

    def __init__(self, ttl: float, stale: float) -> None:
        self.ttl = ttl
        self.stale = stale
        self.answered = self.failed = 0
        self.answered_at = float("-inf")
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
    """The addresses of names, kept for a time. One for all pools."""

    def __init__(
        self,
        ttl: float = TTL,
        clock: Callable[[], float] = time.monotonic,
        getaddrinfo: GetAddrInfo | None = None,
        stale: float = STALE,
    ) -> None:
        """`getaddrinfo` None: the running loop's. `ttl` and `stale` are those of names of which `expect` says nothing
        else. With `ttl` 0 every `resolve` asks; with `stale` 0 nothing old is used."""
        self._ttl = ttl
        self._stale = stale
        self._clock = clock
        self._getaddrinfo = getaddrinfo
        self._entries: dict[tuple[str, int], _Entry] = {}
        # When each address that failed lately is worth trying early again, and for how long it was put last.
        self._dead: dict[SocketAddress, tuple[float, float]] = {}

    def expect(self, host: str, port: int, ttl: float, stale: float) -> None:
        """How long this name's addresses are believed. Of two who use one name, the stricter decides."""
        known = (host, port) in self._entries
        entry = self._entry(host, port)
        entry.ttl = min(entry.ttl, ttl) if known else ttl
        entry.stale = min(entry.stale, stale) if known else stale

    def is_fresh(self, host: str, port: int) -> bool:
        """Whether `resolve` would answer at once, without asking. An IP literal is always known."""
        return self._clock() < self._entry(host, port).fresh_until

    async def resolve(self, host: str, port: int) -> tuple[SocketAddress, ...]:
        """One address or more, in the order in which to try them. Raises ResolveError.

        Waits no longer than PATIENCE when there is an old answer to fall back on; otherwise the time limit is the
        caller's.
        """
        return self._ordered(await self._usable(host, port))

    async def hosts(self, host: str, port: int) -> frozenset[str]:
        """As `resolve`, for whoever connects to none of them: without ports, in no order, and nobody's turn is over."""
        entry = await self._usable(host, port)
        return frozenset(address[0] for family in entry.families for address in family)

    def note(self, address: SocketAddress, connected: bool) -> None:
        """What came of trying one of several addresses (`gateway.wire.client.connect.Note`)."""
        dead = self._dead
        if connected:
            dead.pop(address, None)
            return
        now = self._clock()
        until, lasted = dead.get(address, (0.0, 0.0))
        if now >= until:
            # Not while it is put last anyway: then it was tried for want of a better one.
            lasted = min(DEAD_TIME_AT_MOST, lasted * 2.0) if lasted else DEAD_TIME
            dead[address] = now + lasted, lasted
        for old in [each for each, (until, lasted) in dead.items() if now >= until + lasted]:
            del dead[old]

    def names(self) -> Iterator[NameState]:
        """Of every name that is looked up; IP literals are none. For observers."""
        found: dict[str, NameState] = {}
        now = self._clock()
        for (host, _), entry in self._entries.items():
            if entry.fresh_until == float("inf"):
                continue
            unanswered = entry.error is not None or (entry.lookup is not None and now - entry.begun > PATIENCE)
            using_old = unanswered and bool(entry.families) and now < entry.usable_until
            stale_for = max(0.0, now - entry.fresh_until) if using_old else 0.0
            before = found.get(host, NameState(host, 0.0, 0, 0))
            found[host] = NameState(
                host,
                max(before.stale_for, stale_for),
                before.answered + entry.answered,
                before.failed + entry.failed,
            )
        return iter(found.values())

    def _entry(self, host: str, port: int) -> _Entry:
        entry = self._entries.get((host, port))
        if entry is None:
            entry = self._entries[host, port] = _literal(host, port) or _Entry(self._ttl, self._stale)
        return entry

    async def _usable(self, host: str, port: int) -> _Entry:
        """What is known of the name, after asking if it is time. Raises ResolveError when nothing is."""
        entry = self._entry(host, port)
        now = self._clock()
        if now < entry.fresh_until:
            return entry
        usable = now < entry.usable_until
        if entry.lookup is None and now >= entry.retry_at:
            entry.begun = now
            entry.lookup = asyncio.create_task(self._look_up(entry, host, port))
        lookup = entry.lookup
        if lookup is not None:
            patience = max(0.0, entry.begun + PATIENCE - now) if usable else None
            await asyncio.wait({lookup}, timeout=patience)
            if lookup.done() and lookup.result():
                return entry
        if self._clock() < entry.usable_until:
            return entry
        raise ResolveError(socket.EAI_NONAME, f"{host}: {entry.error}") from entry.error

    def _ordered(self, entry: _Entry) -> tuple[SocketAddress, ...]:
        answer = entry.answer()
        dead = self._dead
        if not dead or len(answer) == 1:
            return answer
        now = self._clock()
        last = {address for address in answer if address in dead and now < dead[address][0]}
        if not last:
            return answer
        return (*(each for each in answer if each not in last), *(each for each in answer if each in last))

    async def _look_up(self, entry: _Entry, host: str, port: int) -> bool:
        """Whether there is a new answer. A failure is left in `entry`: whoever waited for it may be gone."""
        getaddrinfo = self._getaddrinfo or asyncio.get_running_loop().getaddrinfo
        try:
            found = await getaddrinfo(host, port, type=socket.SOCK_STREAM)
            families = _by_family(found)
            if not families:
                raise ResolveError(socket.EAI_NONAME, "no address")
        except (OSError, ValueError) as error:  # ValueError: not encodable as a host name
            self._failed(entry, host, error)
            return False
        else:
            now = self._clock()
            if entry.error is not None and entry.answered:
                log.info("%s can be looked up again", host)
            entry.answered += 1
            entry.answered_at = now
            entry.families = families
            entry.fresh_until = now + entry.ttl
            entry.usable_until = now + max(entry.ttl, entry.stale)
            entry.error = None
            return True
        finally:
            entry.lookup = None

    def _failed(self, entry: _Entry, host: str, error: Exception) -> None:
        now = self._clock()
        if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
            entry.usable_until = min(entry.usable_until, entry.answered_at + entry.ttl * (1 + GONE_TTLS))
        if entry.error is None and now < entry.usable_until:
            log.warning(
                "%s cannot be looked up (%s); its last addresses go on being used for up to %.0f s",
                host,
                error,
                entry.usable_until - now,
            )
        entry.failed += 1
        entry.error = error
        entry.retry_at = now + min(entry.ttl, _MAX_NEGATIVE_TTL)


def _literal(host: str, port: int) -> _Entry | None:
    address: SocketAddress
    if _is_address(socket.AF_INET, host):
        address = (host, port)
    elif _is_address(socket.AF_INET6, host):
        address = (host, port, 0, 0)
    else:
        return None
    entry = _Entry(float("inf"), float("inf"))
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
