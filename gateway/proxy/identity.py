"""Who a client is, and what the upstream is told about the way its request came.

The client is the peer, unless the peer is a trusted proxy: then it is the rightmost hop of `X-Forwarded-For` that is
not one itself. What an untrusted peer says about its origin is discarded, so nobody chooses his own rate limit. IPv6
clients are taken by their /64, because a single host has 2^64 addresses to rotate through."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from gateway.wire.fields import Fields

Network = IPv4Network | IPv6Network


class Origin:
    """Where requests of a connection come from.

    `client` is the identity for limits and logs. `lines` are the forwarding fields for the upstream but for
    X-Forwarded-Host, which depends on the request; empty `host` leaves that to the request's own authority.
    """

    __slots__ = ("client", "host", "lines")

    def __init__(self, client: str, lines: bytes, host: bytes) -> None:
        self.client = client
        self.lines = lines
        self.host = host


class Identification:
    def __init__(self, trusted: Sequence[Network], via_name: str) -> None:
        self._trusted = tuple(trusted)
        self._via_line = f"Via: 1.1 {via_name}\r\n".encode()
        self._via_name = via_name.lower().encode()

    def is_trusted(self, peer: str) -> bool:
        return bool(self._trusted) and _in(peer, self._trusted)

    def direct(self, peer: str, scheme: str) -> Origin:
        """The origin of everything on the connection of an untrusted peer."""
        lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n%b" % (
            peer.encode(),
            scheme.encode(),
            self._via_line,
        )
        return Origin(client_key(peer), lines, b"")

    def forwarded(self, peer: str, scheme: str, fields: Fields) -> Origin:
        """The origin of one request that a trusted proxy passed on."""
        hops: list[bytes] = []
        proto = scheme.encode()
        host = b""
        lines = b""
        for name, value in fields.forwarded:
            if name == b"x-forwarded-for":
                hops += [hop.strip() for hop in value.split(b",") if hop.strip()]
            elif name == b"x-forwarded-proto":
                proto = value
            elif name == b"x-forwarded-host":
                host = value
            else:
                lines += b"Forwarded: %b\r\n" % value
        client = peer
        for hop in reversed(hops):
            address = _address(hop.decode("latin-1"))
            if address is None:
                break
            client = address
            if not _in(address, self._trusted):
                break
        hops.append(peer.encode())
        lines += b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n%b" % (b", ".join(hops), proto, self._via_line)
        return Origin(client_key(client), lines, host)

    def is_loop(self, via: Sequence[bytes]) -> bool:
        """Whether our own name is among the intermediaries (RFC 9110 section 7.6.3)."""
        name = self._via_name
        for value in via:
            for element in value.lower().split(b","):
                words = element.split()
                if len(words) > 1 and words[1] == name:
                    return True
        return False


@lru_cache(maxsize=16_384)
def _in(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


@lru_cache(maxsize=16_384)
def _address(hop: str) -> str | None:
    """The address of one X-Forwarded-For element: bare, with a port, or a bracketed IPv6 one."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        return str(ip_address(hop))
    except ValueError:
        return None


@lru_cache(maxsize=16_384)
def client_key(address: str) -> str:
    """The address for IPv4, the /64 network for IPv6, the text itself for what is neither."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address or "unknown"
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, 64), strict=False))
