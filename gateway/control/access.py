"""Who may change something through the control plane.

    a token is configured    `Authorization: Bearer <token>`, from anywhere
    none is                  in production nobody; elsewhere a peer on loopback that came through no proxy that shows,
                             by a name of loopback, and no web page

The second rule trusts the people and programs of this machine. It does not trust somebody who can only make the machine
send a request. A reverse proxy in front is recognised by the fields that proxies add, or by HTTP/1.0, which nginx
speaks to its upstreams by default. A page on a name that resolves to 127.0.0.1 (DNS rebinding) is recognised by its
`Host`. A page of another site is recognised by `Origin` and `Sec-Fetch-Site` (W3C Fetch Metadata), which browsers set
and scripts cannot set. A proxy on this machine that speaks HTTP/1.1, rewrites `Host` and adds no field cannot be told
from a person here. That is why production needs a token.

The right token is always accepted. If it were limited, whoever shares an address with the operator could lock the
operator out. Each failure costs its peer one of `BURST` tries, and one try comes back every `TRY_EVERY` seconds. A peer
without tries gets 429 for a wrong token, and no line is logged. This keeps the log readable. It does not keep a token
from being guessed; the length of the token does. A refusal because of the peer's address is not limited, since there is
nothing to guess, but it is logged as rarely. The table of peers is bounded: the peer whose last failure is oldest is
forgotten first.

With `CONSOLE_AUTH=token` the operations that only read need access, too. Left out: roles.
"""

import hmac
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway.control.serving.problem import RefusalError, reason_of
from gateway.syntax import hosts

_log = logging.getLogger("gateway.audit")

BURST = 10
TRY_EVERY = 6.0
MAX_PEERS = 4096

_BY_PROXIES = frozenset(
    {"forwarded", "via", "cdn-loop", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "client-ip"}
    | {"cf-connecting-ip", "fastly-client-ip", "front-end-https", "x-original-host", "x-envoy-external-address"}
)
_PROXY_PREFIX = "x-forwarded"
# Whatever stands in place of the hyphen, a program further on may take the name for the proxy's (RFC 3875 section
# 4.1.18).
_ODD = re.compile(r"[^a-z0-9-]")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="gateway control plane"'}


class Actor(NamedTuple):
    """Who acts: `by` is how they proved it (`token` or `loopback`), `peer` the address they came from."""

    by: str
    peer: str


class Access:
    """Decides about one request at a time, without awaiting. In `production` nothing works without a token."""

    def __init__(
        self,
        token: str | None,
        clock: Callable[[], float] = time.monotonic,
        *,
        production: bool = False,
        guards_reading: bool = False,
    ) -> None:
        self.guards_reading = guards_reading
        """Whether operations that only read need access, too (`CONSOLE_AUTH=token`)."""
        self._token = token.encode() if token is not None else None
        self._production = production
        self._clock = clock
        # The tries that are left, and the instant for which that is right.
        self._tries: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def needs_token(self) -> bool:
        """Whether a token is configured. Without one nobody may command in production, and elsewhere only a client of
        this host."""
        return self._token is not None

    @property
    def is_closed(self) -> bool:
        """Whether nobody may command: in production without a token."""
        return self._token is None and self._production

    def admit(
        self,
        peer: str,
        headers: Mapping[str, str],
        request_id: str = "",
        *,
        version: tuple[int, int] = (1, 1),
        target: str = "/",
    ) -> Actor:
        """`version` is that of HTTP, `target` that of the request line. Raises `RefusalError`: 401, 403, or 429 to a
        peer that failed too often."""
        try:
            if self._token is not None:
                return self._by_token(peer, headers)
            if self._production:
                raise _forbidden("With ENVIRONMENT=production nothing can be changed without an ADMIN_TOKEN: set one.")
            return _by_place(peer, headers, version, target)
        except RefusalError as refused:
            key = hosts.client_key(peer)
            now = self._clock()
            tries = self._tries_left(key, now)
            if tries >= 1.0:
                self._failed(key, tries - 1.0, now)
                _log_refused(refused, peer, request_id, last=tries < 2.0)
            elif self._token is not None:
                raise RefusalError(
                    429,
                    "Too many failed attempts to authenticate from this address.",
                    reason="too_many_attempts",
                    retry_after=(1.0 - tries) * TRY_EVERY,
                ) from None
            raise

    def is_operator(self, authorization: str) -> bool:
        """Whether the value of an `Authorization` carries the token. Decides nothing and counts nothing."""
        given = _bearer(authorization)
        return self._token is not None and given != b"" and hmac.compare_digest(given, self._token)

    def _by_token(self, peer: str, headers: Mapping[str, str]) -> Actor:
        authorization = headers.get("Authorization", "")
        if _is_repeated("authorization", headers):
            raise RefusalError(
                401,
                "Authorization is there more than once: what is in front of the gateway may have judged another one.",
                headers={"WWW-Authenticate": _CHALLENGE["WWW-Authenticate"] + ', error="invalid_request"'},
            )
        if self.is_operator(authorization):
            return Actor("token", peer)
        if not _bearer(authorization):
            raise RefusalError(
                401, "This needs the header Authorization: Bearer with the ADMIN_TOKEN.", headers=_CHALLENGE
            )
        raise RefusalError(
            401,
            "The token is wrong.",
            reason="invalid_token",
            headers={"WWW-Authenticate": _CHALLENGE["WWW-Authenticate"] + ', error="invalid_token"'},
        )

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
    """The peer's address in its one spelling. Empty: unknown."""
    return hosts.peer(remote or "")


def _log_refused(refused: RefusalError, peer: str, request_id: str, *, last: bool) -> None:
    _log.warning(
        "Refused a change from %s: %s%s",
        peer or "an unknown peer",
        refused.detail,
        " Further attempts are not logged until it may try again." if last else "",
        extra={
            "event": "admin_refused",
            "peer": peer,
            "status": refused.status,
            "reason": refused.reason or reason_of(refused.status),
            "request_id": request_id,
        },
    )


def _by_place(peer: str, headers: Mapping[str, str], version: tuple[int, int], target: str) -> Actor:
    if not hosts.is_loopback(peer):
        raise _forbidden("Without an ADMIN_TOKEN only requests from the gateway's own machine may change anything.")
    for name in headers:
        plain = _ODD.sub("-", name.lower())
        if plain in _BY_PROXIES or plain.startswith(_PROXY_PREFIX):
            raise _forbidden(f"The request came through a proxy ({name}): set an ADMIN_TOKEN for that.")
    if version < (1, 1):
        raise _forbidden("The request is HTTP/1.0, as if through a proxy: use HTTP/1.1, or set an ADMIN_TOKEN.")
    if not target.startswith("/"):
        # Its authority counts in place of Host (RFC 9112 section 3.2.2), and only proxies are asked like that.
        raise _forbidden("The request names its host in the request line, as to a proxy: set an ADMIN_TOKEN for that.")
    host = headers.get("Host", "")
    if not _is_loopback_name(host):
        raise _forbidden("The Host is no name of loopback: call localhost or 127.0.0.1, or set an ADMIN_TOKEN.")
    if _is_repeated("host", headers) or _is_repeated("origin", headers) or _is_repeated("sec-fetch-site", headers):
        raise _forbidden("Host, Origin or Sec-Fetch-Site is there more than once, which no browser sends.")
    site = headers.get("Sec-Fetch-Site")
    origin = headers.get("Origin")
    if site not in {None, "same-origin", "none"} or (origin is not None and not _same_origin(origin, host)):
        raise _forbidden("The request was made by a page of another site.")
    return Actor("loopback", peer)


def _is_repeated(name: str, headers: Mapping[str, str]) -> bool:
    """Whether there is more than one field of this name, which is in lower case. A mapping that can have several has
    each among its items, and not among its keys."""
    return sum(each.lower() == name for each, _ in headers.items()) > 1


def _bearer(authorization: str) -> bytes:
    """The token that the value of an `Authorization` carries; empty when it carries none."""
    scheme, _, given = authorization.partition(" ")
    return given.strip().encode("utf-8", "surrogateescape") if scheme.lower() == "bearer" else b""


def _forbidden(detail: str) -> RefusalError:
    return RefusalError(403, detail)


def _same_origin(origin: str, host: str) -> bool:
    scheme, found, authority = origin.lower().partition("://")
    return bool(found) and scheme in hosts.DEFAULT_PORTS and hosts.same_authority(authority, host, scheme)


def _is_loopback_name(host: str) -> bool:
    name = hosts.host(host) or ""
    return name == "localhost" or hosts.is_loopback(name)
