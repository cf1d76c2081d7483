"""One identity, one spelling: the only reading of addresses and of hosts in the program.

Configuration and requests go through the same functions, so that what is configured in one spelling matches what comes
in another. They are pure and import nothing of ours.

    ::ffff:192.0.2.1        192.0.2.1     IPv4 on a socket of both families (RFC 4291 section 2.5.5.2)
    64:ff9b::192.0.2.1      192.0.2.1     IPv4 behind a translator (RFC 6052), where the prefix may carry it
    fe80::1%eth0            fe80::1       a zone means something on one machine only (RFC 4007)
    SHOP.test.:8080         shop.test     names have no case (RFC 4343), and a dot at the end names the root
    [0:0:0:0:0:0:0:1]       ::1           RFC 5952

The translator's prefix 64:ff9b::/96 never carries addresses that are not public (RFC 6052 section 3.1). One that claims
to, such as 64:ff9b::127.0.0.1, stays IPv6: otherwise it could pass for loopback or for a trusted proxy. Left out on
purpose: 6to4 and Teredo, which are tunnels of IPv6 and no spellings of an IPv4 address, and are given up (RFC 7526).
"""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")
_TRANSLATED = IPv6Network("64:ff9b::/96")
# RFC 8215. Where the IPv4 address stands in it is the operator's choice, but each one is one host of IPv4.
_TRANSLATED_LOCALLY = IPv6Network("64:ff9b:1::/48")
_NOT_PUBLIC = tuple(
    IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "224.0.0.0/3"),
    )
)
_FOUR_BYTES = 0xFFFF_FFFF

# RFC 3986 section 3.2.2, without percent-encoding: no client sends it in a name, and who decodes it would read another
# name than we do. IP literals are checked further.
# 255 characters and a port.
LONGEST_AUTHORITY = 255 + 6
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9\-._~!$&'()*+,;=]{0,255})(?::([0-9]{0,5}))?")
DEFAULT_PORTS = {"http": 80, "https": 443}


def address(text: str) -> Address | None:
    """The address that `text` is one spelling of, without zone; None when it is none."""
    try:
        parsed = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, IPv4Address):
        return parsed
    if parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    if parsed in _TRANSLATED:
        carried = IPv4Address(int(parsed) & _FOUR_BYTES)
        if not any(carried in network for network in _NOT_PUBLIC):
            return carried
    return parsed


def network(text: str, *, strict: bool = True) -> Network:
    """A network in CIDR notation or a single address, in the family in which `address` gives its members. With `strict`
    the bits of hosts must be zero. Raises ValueError."""
    parsed = ip_network(text.partition("%")[0] if "/" not in text else text, strict=strict)
    if isinstance(parsed, IPv6Network):
        if parsed.subnet_of(_MAPPED):
            return IPv4Network((int(parsed.network_address) & _FOUR_BYTES, parsed.prefixlen - 96))
        if parsed.prefixlen == 128:
            single = address(str(parsed.network_address))
            return ip_network(single) if single is not None else parsed
        if parsed.subnet_of(_TRANSLATED):
            carried = IPv4Network((int(parsed.network_address) & _FOUR_BYTES, parsed.prefixlen - 96))
            if not any(carried.overlaps(each) for each in _NOT_PUBLIC):
                return carried
    return parsed


def is_within(found: Address | None, networks: tuple[Network, ...]) -> bool:
    """Whether the address is in one of the networks. False for None."""
    return found is not None and any(found in each for each in networks)


def is_loopback(text: str) -> bool:
    """Whether the text is a loopback address. False for what is no address."""
    found = address(text)
    return found is not None and found.is_loopback


def peer(text: str) -> str:
    """The address of a peer as it is logged and forwarded: IPv4 looks like IPv4, and there is no zone. What is no
    address (a socket without one) stays as it is."""
    if ":" not in text:
        return text
    found = address(text)
    return text if found is None else str(found)


@lru_cache(maxsize=16_384)
def client_key(text: str) -> str:
    """Who a client is to limits and logs: the address for IPv4, the /64 for IPv6, the text itself for what is neither.

    A single host of IPv6 has a whole /64 to choose from. Not so behind a translator, where all of IPv4 shares one:
    there it is the whole address."""
    found = address(text)
    return text or "unknown" if found is None else key_of(found)


def key_of(found: Address) -> str:
    """What an address counts as for limits: of IPv6 the /64, of IPv4 and of translated IPv4 (RFC 6052, RFC 8215) the
    whole address."""
    if isinstance(found, IPv4Address) or found in _TRANSLATED or found in _TRANSLATED_LOCALLY:
        return str(found)
    return str(ip_network((int(found), 64), strict=False))


def hop(text: str) -> Address | None:
    """The address of one element of `X-Forwarded-For`, or of a `for` in `Forwarded` (RFC 7239 section 6): bare, with a
    port, in brackets, in quotes, with a zone. None for `unknown`, obfuscated names and anything else."""
    text = text.strip(' \t"')
    if text.startswith("["):
        text, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return address(text)


def authority(text: str) -> tuple[str, int | None] | None:
    """Host and port of an authority without user information, such as a `Host` field; the port is None where there is
    none, or an empty one. The host is as `host` gives it, and empty in an empty authority. None: not valid."""
    # Before the table: whoever sends heads chooses what is in it.
    return _authority(text) if len(text) <= LONGEST_AUTHORITY else None


@lru_cache(maxsize=4096)
def _authority(text: str) -> tuple[str, int | None] | None:
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    name = match[1]
    port = int(match[2]) if match[2] else None
    if port is not None and port > 65_535:
        return None
    if name.startswith("["):
        found = address(name[1:-1])
        return None if found is None else (str(found), port)
    return _name(name), port


def host(text: str) -> str | None:
    """A host in its one spelling, from an authority or a bare host: lower case, without port and root dot, an IPv6
    address bare. None when it is not valid."""
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    parsed = authority(text)
    return None if parsed is None else parsed[0]


def written(name: str, port: int) -> str:
    """The authority of a host as `host` spells it, and a port."""
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def same_authority(one: str, other: str, scheme: str) -> bool:
    """Whether two authorities name the same host and port; a port that is left out is the scheme's."""
    return (found := with_port(one, scheme)) is not None and found == with_port(other, scheme)


def with_port(text: str, scheme: str) -> tuple[str, int] | None:
    """Host and port of an authority of a URL of this scheme; None when it is not valid or has no host."""
    parsed = authority(text)
    if parsed is None or not parsed[0]:
        return None
    return parsed[0], DEFAULT_PORTS.get(scheme, 0) if parsed[1] is None else parsed[1]


def _name(text: str) -> str:
    name = text.lower()
    return name[:-1] if len(name) > 1 and name[-1] == "." and name[-2] != "." else name
