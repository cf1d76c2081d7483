"""Who a client is, and what the upstream is told about the way its request came.

The client is the peer, unless the peer is a trusted proxy: then it is the rightmost hop of `X-Forwarded-For` that is
not one itself. What an untrusted peer says about its origin is discarded, so nobody chooses his own rate limit. IPv6
clients are taken by their /64, because a single host has 2^64 addresses to rotate through."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from gateway.wire.fields import Fields

# An IPv6 address in brackets with a zone and a port is shorter; the table of addresses is not for anything else.
_LONGEST_HOP = 80

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


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
    """Answers about addresses seen before come from a table of the last few thousand."""

    def __init__(self, trusted: Sequence[Network], via_name: str) -> None:
        self._trusted = tuple(trusted)
        self._via_line = f"Via: 1.1 {via_name}\r\n".encode()
        self._via_name = via_name.lower().encode()
        self._hop = lru_cache(maxsize=16_384)(self._read_hop)

    def is_trusted(self, peer: str) -> bool:
        if not self._trusted:
            return False
        hop = self._hop(peer.encode())
        return hop is not None and hop[1]

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
        chain = b""
        proto = scheme.encode()
        host = b""
        lines = b""
        for name, value in fields.forwarded:
            if name == b"x-forwarded-for":
                chain += value + b", " if value else b""
            elif name == b"x-forwarded-proto":
                proto = value
            elif name == b"x-forwarded-host":
                host = value
            else:
                lines += b"Forwarded: %b\r\n" % value
        client = ""
        for element in reversed(chain.split(b",")):
            hop = element.strip(b" \t")
            if not hop:
                continue
            known = self._hop(hop) if len(hop) <= _LONGEST_HOP else None
            if known is None:
                break
            client, trusted = known
            if not trusted:
                break
        lines += b"X-Forwarded-For: %b%b\r\nX-Forwarded-Proto: %b\r\n%b" % (
            chain,
            peer.encode(),
            proto,
            self._via_line,
        )
        return Origin(client or client_key(peer), lines, host)

    def is_loop(self, via: Sequence[bytes]) -> bool:
        """Whether our own name is among the intermediaries (RFC 9110 section 7.6.3)."""
        name = self._via_name
        for value in via:
            for element in value.lower().split(b","):
                words = element.split()
                if len(words) > 1 and words[1] == name:
                    return True
        return False

    def _read_hop(self, hop: bytes) -> tuple[str, bool] | None:
        """Of one X-Forwarded-For element (an address: bare, with a port, or IPv6 in brackets), the client that it is
        and whether it is a trusted proxy; None when it is no address."""
        text = hop.decode("latin-1")
        if text.startswith("["):
            text = text[1:].partition("]")[0]
        elif text.count(":") == 1:
            text = text.partition(":")[0]
        try:
            address = _unmapped(ip_address(text))
        except ValueError:
            return None
        return _key(address), any(address in network for network in self._trusted)


@lru_cache(maxsize=16_384)
def client_key(address: str) -> str:
    """The address for IPv4, the /64 network for IPv6, the text itself for what is neither."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address or "unknown"
    return _key(_unmapped(parsed))


def _unmapped(address: Address) -> Address:
    """IPv4 where it is written as IPv6."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _key(address: Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((int(address), 64), strict=False))
