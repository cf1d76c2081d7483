"""Who may change something through the control plane.

    a token is configured    `Authorization: Bearer <token>`, from anywhere
    none is                  a peer on loopback that came through no proxy, by a name of loopback, and no web page

The second rule trusts the machine and nobody who can merely make it send a request: a reverse proxy in front shows by
the fields that proxies add; a page on a name that resolves to 127.0.0.1 (DNS rebinding) by its `Host`; a page of
another site by `Origin` and `Sec-Fetch-Site` (W3C Fetch Metadata), which browsers set and scripts cannot.

Each failure costs its peer one of `BURST` tries, which come back one in `TRY_EVERY` seconds; without any left even the
right token is refused, so that guessing gets no answer. The table of peers is bounded: those failing least recently
are forgotten first.

Left out: roles, and protection of what only reads. What must not be read by everybody belongs on ADMIN_PORT.
"""

import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.control.problem import RefusalError, reason_of

_log = logging.getLogger("gateway.audit")

BURST = 10
TRY_EVERY = 6.0
MAX_PEERS = 4096

_BY_PROXIES = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="gateway control plane"'}


class Actor(NamedTuple):
    """Who acts: `by` is how they proved it (`token` or `loopback`), `peer` the address they came from."""

    by: str
    peer: str


class Access:
    """Decides about one request at a time, without awaiting."""

    def __init__(self, token: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = token.encode() if token is not None else None
        self._clock = clock
        # Tries left, and as of when.
        self._tries: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def needs_token(self) -> bool:
        return self._token is not None

    def admit(self, peer: str, headers: Mapping[str, str], request_id: str = "") -> Actor:
        """Raises `RefusalError`: 401, 403, or 429 to a peer that failed too often."""
        key = _key(peer)
        now = self._clock()
        tries = self._tries_left(key, now)
        if tries < 1.0:
            raise RefusalError(
                429,
                "Too many failed attempts to authenticate from this address.",
                reason="too_many_attempts",
                retry_after=(1.0 - tries) * TRY_EVERY,
            )
        try:
            return self._by_token(peer, headers) if self._token is not None else _by_place(peer, headers)
        except RefusalError as refused:
            self._failed(key, tries - 1.0, now)
            _log.warning(
                "Refused a change from %s: %s%s",
                peer or "an unknown peer",
                refused.detail,
                "" if tries >= 2.0 else " Further attempts are not logged until it may try again.",
                extra={
                    "event": "admin_refused",
                    "peer": peer,
                    "status": refused.status,
                    "reason": refused.reason or reason_of(refused.status),
                    "request_id": request_id,
                },
            )
            raise

    def _by_token(self, peer: str, headers: Mapping[str, str]) -> Actor:
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            raise RefusalError(
                401, "This needs the header Authorization: Bearer with the ADMIN_TOKEN.", headers=_CHALLENGE
            )
        assert self._token is not None  # noqa: S101 - the only caller asks before
        if not hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token):
            raise RefusalError(
                401,
                "The token is wrong.",
                reason="invalid_token",
                headers={"WWW-Authenticate": _CHALLENGE["WWW-Authenticate"] + ', error="invalid_token"'},
            )
        return Actor("token", peer)

    def _tries_left(self, key: str, now: float) -> float:
        known = self._tries.get(key)
        if known is None:
            return float(BURST)
        tries, since = known
        return min(float(BURST), tries + (now - since) / TRY_EVERY)

    def _failed(self, key: str, tries: float, now: float) -> None:
        self._tries[key] = tries, now
        self._tries.move_to_end(key)
        if len(self._tries) > MAX_PEERS:
            self._tries.popitem(last=False)


def peer_of(remote: str | None) -> str:
    """The peer's address; on a socket of both families an IPv4 one is not to look like IPv6. Empty: unknown."""
    address = remote or ""
    return address[7:] if address.startswith("::ffff:") and "." in address else address


def _by_place(peer: str, headers: Mapping[str, str]) -> Actor:
    if not _is_loopback(peer):
        raise _forbidden("Without an ADMIN_TOKEN only requests from the gateway's own machine may change anything.")
    for name in _BY_PROXIES:
        if name in headers:
            raise _forbidden(f"The request came through a proxy ({name}): set an ADMIN_TOKEN for that.")
    host = headers.get("Host", "")
    if not _is_loopback_name(host):
        raise _forbidden("The Host is no name of loopback: call localhost or 127.0.0.1, or set an ADMIN_TOKEN.")
    site = headers.get("Sec-Fetch-Site")
    origin = headers.get("Origin")
    if site not in {None, "same-origin", "none"} or (origin is not None and not _same_origin(origin, host)):
        raise _forbidden("The request was made by a page of another site.")
    return Actor("loopback", peer)


def _forbidden(detail: str) -> RefusalError:
    return RefusalError(403, detail)


def _same_origin(origin: str, host: str) -> bool:
    return origin.lower() in {f"http://{host.lower()}", f"https://{host.lower()}"}


def _is_loopback_name(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or _is_loopback(name)


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped.is_loopback
    return parsed.is_loopback


def _key(peer: str) -> str:
    """One host has 2^64 addresses of IPv6 to try from."""
    try:
        parsed = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(ip_network((parsed, 64), strict=False))
    return str(parsed)
