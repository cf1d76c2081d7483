"""Who a client is, and what the upstream is told about the way its request came.

The client is the peer, unless the peer is a trusted proxy: then it is the rightmost hop of `X-Forwarded-For` that is
not one itself. Where only `Forwarded` (RFC 7239) came, its `for` parameters are read in the same way. What an untrusted
peer says about its origin is discarded, so nobody chooses his own rate limit. IPv6 clients are taken by their /64,
because a single host has 2^64 addresses to rotate through. All addresses are read by `gateway.syntax.hosts`."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from gateway.syntax import hosts, quotes
from gateway.syntax.hosts import Network
from gateway.wire.message.fields import Fields

# An IPv6 address in brackets with a zone and a port is shorter; the table of addresses is not for anything else.
_LONGEST_HOP: Final = 80


class Origin:
    """Where requests of a connection come from.

    `client` is the identity for limits and logs, `exempt` says that no rate limit is for it. `host`, `port` and
    `prefix` are what a trusted proxy said, empty without one. `scheme` is `http` or `https`, as the client began.
    """

    __slots__ = ("_lines", "_via_name", "client", "exempt", "host", "port", "prefix", "scheme")

    def __init__(self, client: str, lines: bytes, scheme: str, *, exempt: bool = False, via_name: bytes = b"") -> None:
        """`lines` are the forwarding fields that do not depend on the request. `via_name` is the gateway's own; without
        it there is no `Via`."""
        self.client = client
        self.exempt = exempt
        self._lines = lines
        self._via_name = via_name
        self.scheme = scheme
        self.host = b""
        self.port = b""
        self.prefix = b""

    def lines(self, minor: int) -> bytes:
        """The forwarding fields for the upstream of a request that came in HTTP/1.`minor`, but for those that depend on
        its authority and path. `Via` has the version of the message that was received (RFC 9110 section 7.6.3)."""
        name = self._via_name
        return b"%bVia: 1.%d %b\r\n" % (self._lines, minor, name) if name else self._lines


class _Hop:
    """One address on the way, as it was read."""

    __slots__ = ("client", "exempt", "shown", "trusted")

    def __init__(self, address: hosts.Address, trusted: tuple[Network, ...], exempt: tuple[Network, ...]) -> None:
        self.shown = str(address).encode()
        self.client = hosts.key_of(address)
        self.trusted = hosts.is_within(address, trusted)
        self.exempt = hosts.is_within(address, exempt)


class Identification:
    """`trusted` are the proxies that are believed, `exempt` the clients that no rate limit is for. Answers about
    addresses seen before come from a table of the last few thousand."""

    def __init__(self, trusted: Sequence[Network], via_name: str, exempt: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        self._exempt = tuple(exempt)
        self._via_name = via_name.encode()
        self._via_name_lower = self._via_name.lower()
        self._hop = lru_cache(maxsize=16_384)(self._read_hop)

    def is_trusted(self, peer: str) -> bool:
        """Whether what this peer says about the origin of a request is believed."""
        if not self._trusted:
            return False
        hop = self._hop(peer.encode())
        return hop is not None and hop.trusted

    def is_exempt(self, client: str) -> bool:
        """Whether no rate limit is for the client with this address."""
        return hosts.is_within(hosts.address(client), self._exempt)

    def direct(self, peer: str, scheme: str) -> Origin:
        """The origin of everything on the connection of an untrusted peer."""
        shown = peer.encode()
        lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n%b" % (
            shown,
            scheme.encode(),
            b"X-Real-IP: %b\r\n" % shown if shown else b"",
        )
        return Origin(hosts.client_key(peer), lines, scheme, exempt=self.is_exempt(peer), via_name=self._via_name)

    def forwarded(self, peer: str, scheme: str, fields: Fields) -> Origin:
        """The origin of one request that a trusted proxy passed on."""
        chain = elements = lines = b""
        told: dict[bytes, bytes] = {}
        for name, value in fields.forwarded:
            low = name.lower()
            if low == b"x-forwarded-for":
                chain += value + b", " if value else b""
            elif low in _SET:
                told[low] = value
            else:
                lines += b"%b: %b\r\n" % (name, value)
                if low == b"forwarded":
                    elements += value + b","
        named = self._client(chain.split(b",") if chain else _named_by(elements))
        shown = peer.encode()
        hop = named or self._read_hop(shown)
        proto = told.get(b"x-forwarded-proto") or b""
        # Some proxies pass on what a client says: what they say themselves of the hops goes before.
        real = named.shown if named is not None else told.get(b"x-real-ip") or shown
        lines = b"".join(
            (
                lines,
                b"X-Forwarded-For: ",
                chain,
                shown,
                b"\r\nX-Forwarded-Proto: ",
                proto or scheme.encode(),
                b"\r\nX-Real-IP: ",
                real,
                b"\r\n",
            )
        )
        if proto:
            first = proto.partition(b",")[0].strip(b" \t").lower().decode("latin-1")
            scheme = first if first in hosts.DEFAULT_PORTS else scheme
        client, exempt = (hop.client, hop.exempt) if hop is not None else (hosts.client_key(peer), False)
        origin = Origin(client, lines, scheme, exempt=exempt, via_name=self._via_name)
        origin.host = told.get(b"x-forwarded-host", b"")
        origin.port = told.get(b"x-forwarded-port", b"")
        origin.prefix = told.get(b"x-forwarded-prefix", b"")
        return origin

    def is_loop(self, via: Sequence[bytes]) -> bool:
        """Whether our own name is among the intermediaries (RFC 9110 section 7.6.3)."""
        name = self._via_name_lower
        for value in via:
            for element in value.lower().split(b","):
                words = element.split()
                if len(words) > 1 and words[1] == name:
                    return True
        return False

    def _client(self, elements: Sequence[bytes]) -> _Hop | None:
        """The rightmost hop that is no trusted proxy, or the last one before something that is no address."""
        found = None
        for element in reversed(elements):
            text = element.strip(b" \t")
            if not text:
                continue
            hop = self._hop(text) if len(text) <= _LONGEST_HOP else None
            if hop is None:
                break
            found = hop
            if not hop.trusted:
                break
        return found

    def _read_hop(self, text: bytes) -> _Hop | None:
        """None when it is no address."""
        address = hosts.hop(text.decode("latin-1"))
        return None if address is None else _Hop(address, self._trusted, self._exempt)


# What the gateway writes itself, for one value of a trusted proxy.
_SET: Final = frozenset(
    (b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix", b"x-real-ip")
)


def _named_by(forwarded: bytes) -> list[bytes]:
    """The `for` of each element of `Forwarded`; `unknown` where an element has not exactly one."""
    return [element if element is not None else b"unknown" for element in _each_for(forwarded)]


def _each_for(forwarded: bytes) -> Iterator[bytes | None]:
    for element in _hidden_in_quotes(forwarded).split(b","):
        if not element.strip(b" \t"):
            continue
        pairs = [pair.strip(b" \t") for pair in element.split(b";")]
        found = [pair[4:] for pair in pairs if pair[:4].lower() == b"for="]
        yield found[0] if len(found) == 1 else None


def _hidden_in_quotes(forwarded: bytes) -> bytes:
    """`Forwarded` with NUL in place of the commas and semicolons within quoted strings, which separate nothing (RFC
    7239 section 4). Where a quote is left open, it is as it came: a client that opens one cannot hide what a proxy has
    appended behind it."""
    if b'"' not in forwarded or quotes.left_open(forwarded):
        return forwarded
    return quotes.inside(forwarded, lambda string: string.replace(b",", b"\0").replace(b";", b"\0"))
