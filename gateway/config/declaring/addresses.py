"""Parsing of hosts, endpoints, URLs and paths, shared by the environment and the file.

Every function returns the parsed value or raises through `reject`, saying what is allowed. Host names are ASCII and
lower case; an IPv6 address is bare in `host` and bracketed wherever it is written beside a port.
"""

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NoReturn
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic_core import PydanticCustomError

from gateway.syntax import hosts
from gateway.syntax.hosts import DEFAULT_PORTS, Network

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOSTNAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}\.?", re.ASCII)
# RFC 3986 pchar, and slashes between the segments.
_PATH = re.compile(r"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*", re.ASCII)
_DOT_SEGMENT = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII)
_LOOPBACK: dict[int, IPv4Address | IPv6Address] = {4: IPv4Address("127.0.0.1"), 6: IPv6Address("::1")}

HOST_ALLOWED = "a host name, an IPv4 address or an IPv6 address"
URL_ALLOWED = (
    "http://host[:port][/path] or https://…, without user, query, fragment or dot segments; several, separated by "
    "commas, with the same scheme and path"
)
PATH_ALLOWED = "a path that begins with '/', without '//', query, fragment or dot segments"
ENDPOINT_ALLOWED = '"host:port", "http://host:port" (no path) or {host, port, weight}; IPv6 addresses in brackets'
ORIGIN_ALLOWED = "origins such as https://app.example or https://*.app.example, without path; or * alone"
WEBHOOK_URL_ALLOWED = "http://host[:port][/path][?query] or https://…, without user and fragment"
REDIS_URL_ALLOWED = "redis://[user:password@]host[:port][/db] or rediss://…; special characters percent-encoded"


def reject(allowed: str, suggestion: str | None = None) -> NoReturn:
    """Refuse the value being validated."""
    raise PydanticCustomError("rejected", "{allowed}", {"allowed": allowed, "suggestion": suggestion})


def host(text: str, allowed: str = HOST_ALLOWED) -> str:
    """A host without a port; brackets around an IPv6 address are taken off."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    literal = _ip(bare)
    if literal is not None and (bare == text or literal.version == 6):
        return str(literal)
    # A name whose last label is a number is a mistyped address (RFC 1123 section 2.1), and a resolver reads "127.1" as
    # one.
    numeric = text.rstrip(".").rpartition(".")[2].isdigit()
    if bare != text or numeric or len(text) > 253 or _HOSTNAME.fullmatch(text) is None:
        reject(allowed)
    return text.lower()


def route_host(text: str, allowed: str) -> str:
    """A host that requests are matched by, spelled as theirs will be (`gateway.syntax.hosts.host`)."""
    return hosts.host(host(text, allowed)) or reject(allowed)


def host_port(text: str, default_port: int | None, allowed: str) -> tuple[str, int]:
    """`host:port`, or `host` where there is a default port."""
    parts = _split(f"//{text}", allowed)
    if parts.path or parts.query or parts.fragment or parts.username is not None or parts.password is not None:
        reject(allowed)
    return _authority(parts, default_port, allowed)


def written(name: str, port: int, scheme: str) -> str:
    """The authority as it stands in a `Host` field: the scheme's own port is left out (RFC 9110 section 4.2.3)."""
    full = hosts.written(name, port)
    return full.rpartition(":")[0] if port == DEFAULT_PORTS[scheme] else full


def reaches(destination: str, listener: str) -> bool:
    """Whether a connection to `destination` is certain to end at `listener`, on the same machine and port.

    Both are hosts as `host` returns them; `listener` may be empty, which is every address. It is certain only where it
    holds on any machine: the two are the same, or the destination means the loopback address of the listener.
    `localhost` is both loopback addresses (RFC 6761 section 6.3); the unspecified address of either family connects to
    loopback. Which other addresses a machine has, and what other names mean there, is not asked.
    """
    if destination == listener:
        return True
    meant = _meant(destination)
    if not listener:
        return any(address.is_loopback for address in meant)
    own = _ip(listener)
    if own is not None and own.is_unspecified:
        return any(address.is_loopback and address.version == own.version for address in meant)
    return not meant.isdisjoint(_meant(listener))


def path(text: str, allowed: str) -> str:
    """An absolute path that means the same whether or not it is normalised."""
    if _PATH.fullmatch(text) is None or "//" in text or _DOT_SEGMENT.search(text):
        reject(allowed)
    return text


def origin(text: str) -> str:
    """An origin as browsers write it (RFC 6454 section 6.2): lower case, without the scheme's own port. `*.` in front
    of the host stands for any names before it; `*` is every origin."""
    if text == "*":
        return text
    scheme, found, rest = text.lower().partition("://")
    star = "*." if rest.startswith("*.") else ""
    if not found or _SCHEME.fullmatch(scheme) is None:
        reject(ORIGIN_ALLOWED)
    if rest.endswith("/") and rest.count("/") == 1:
        reject(ORIGIN_ALLOWED, text[:-1])
    name, port = host_port(rest.removeprefix(star), DEFAULT_PORTS.get(scheme, 0), ORIGIN_ALLOWED)
    if star and ":" in name:
        reject(ORIGIN_ALLOWED)
    shown = f"[{name}]" if ":" in name else name
    return f"{scheme}://{star}{shown}" + ("" if port == DEFAULT_PORTS.get(scheme, 0) else f":{port}")


def webhook_url(text: str) -> str:
    """An absolute URL to post to; its path and query stay as they are."""
    parts = _split(text, WEBHOOK_URL_ALLOWED)
    alien = not text.isascii() or not text.isprintable() or " " in text
    if parts.scheme not in DEFAULT_PORTS or parts.username is not None or parts.fragment or alien:
        reject(WEBHOOK_URL_ALLOWED)
    _authority(parts, DEFAULT_PORTS[parts.scheme], WEBHOOK_URL_ALLOWED)
    return text


def network(text: str) -> Network:
    """An IP address or a network in CIDR notation. Raises `ValueError` with what is allowed and, where the bits behind
    the prefix are not zero, with the network that was probably meant."""
    allowed = "IP addresses or networks in CIDR notation, such as 10.0.0.0/8, 192.0.2.7, ::1, fd00::/8"
    try:
        return hosts.network(text)
    except ValueError:
        pass
    try:
        suggestion = str(hosts.network(text, strict=False))
    except ValueError:
        suggestion = None
    reject(allowed, suggestion)


@dataclass(frozen=True, slots=True)
class Target:
    """What an upstream URL says: where to connect, and what to put in front of the path."""

    scheme: str
    addresses: tuple[tuple[str, int], ...]
    base_path: str

    @property
    def authority(self) -> str:
        """The first address as a `Host` field has it: without the port where it is the scheme's usual one."""
        return written(*self.addresses[0], self.scheme)


def target(text: str) -> Target:
    """Parse `UPSTREAM_URL`."""
    parsed = []
    for item in text.split(","):
        scheme, name, port, base_path = endpoint_url(item.strip(), URL_ALLOWED)
        parsed.append((scheme, (name, port), base_path))
    schemes = {scheme for scheme, _, _ in parsed}
    base_paths = {base_path for _, _, base_path in parsed}
    addresses = tuple(address for _, address, _ in parsed)
    if len(schemes) > 1 or len(base_paths) > 1 or len(set(addresses)) < len(addresses):
        reject(URL_ALLOWED)
    return Target(schemes.pop(), addresses, base_paths.pop())


def endpoint_url(text: str, allowed: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path (without a slash at its end) of an upstream URL."""
    parts = _split(text, allowed)
    if parts.scheme not in DEFAULT_PORTS or "@" in parts.netloc or "?" in text or "#" in text:
        reject(allowed)
    if parts.path:
        path(parts.path, allowed)
    name, port = _authority(parts, DEFAULT_PORTS[parts.scheme], allowed)
    return parts.scheme, name, port, parts.path.rstrip("/")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """The parts of a `REDIS_URL`; None where it says nothing."""

    host: str | None = None
    port: int | None = None
    db: int | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool | None = None


def redis_url(text: str) -> RedisUrl:
    """The parts of a `redis://` or `rediss://` URL; a part that is not written is None. Raises `ValueError` with what
    is allowed."""
    parts = _split(text, REDIS_URL_ALLOWED)
    db = parts.path.removeprefix("/")
    if parts.scheme not in {"redis", "rediss"} or "?" in text or "#" in text:
        reject(REDIS_URL_ALLOWED)
    if db and not (db.isascii() and db.isdigit() and len(db) <= 4):
        reject(REDIS_URL_ALLOWED)
    name, port = _authority(parts, 0, REDIS_URL_ALLOWED)
    return RedisUrl(
        host=name,
        port=port or None,
        db=int(db) if db else None,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=parts.scheme == "rediss",
    )


def _meant(name: str) -> frozenset[IPv4Address | IPv6Address]:
    """The addresses to connect to, as far as the name itself says."""
    if name.rstrip(".").rpartition(".")[2] == "localhost":
        return frozenset(_LOOPBACK.values())
    address = hosts.address(name)
    if address is None:
        return frozenset()
    return frozenset({_LOOPBACK[address.version] if address.is_unspecified else address})


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _split(text: str, allowed: str) -> SplitResult:
    # `urlsplit` drops tabs and newlines anywhere, and blanks at the ends, so they have to be found before it is called.
    if not text.isascii() or not text.isprintable() or " " in text:
        reject(allowed)
    try:
        return urlsplit(text)
    except ValueError:
        reject(allowed)


def _authority(parts: SplitResult, default_port: int | None, allowed: str) -> tuple[str, int]:
    location = parts.netloc.rpartition("@")[2]
    name, bracket, rest = location.partition("]") if location.startswith("[") else ("", "", "")
    if not bracket:
        name, colon, port = location.partition(":")
    else:
        name, colon, port = f"{name}]", rest[:1], rest[1:]
        if colon not in {"", ":"}:
            reject(allowed)
    if not colon and default_port is not None:
        return host(name, allowed), default_port
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        reject(allowed)
    return host(name, allowed), int(port)
