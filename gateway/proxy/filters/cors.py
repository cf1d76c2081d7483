"""What lets the pages of another origin call a route, and read its refusals (the Fetch standard, section 3.2).

A route with `cors` answers preflights itself and marks what it answers to a page of an origin that is allowed. An
upstream that has an Access-Control-Allow-Origin of its own on an answer speaks for that answer: nothing is added to it.
A route without `cors` leaves preflights and answers to its upstream; then the gateway's own refusals may be read by the
pages of any origin, unless that is switched off. They hold nothing that is anybody's, and never go with credentials,
since `*` does not.
"""

import re
from typing import ClassVar, Final

from gateway.config.sections.cors.model import CorsConfig
from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.proxy.filter import Filter
from gateway.proxy.ticket import Ticket
from gateway.wire.message.request import Request
from gateway.wire.message.response import Response

# Of our own fields, what a script has a use for. Retry-After is not among the few that it may read unasked.
_OURS: Final = (
    *("Retry-After", "RateLimit", "RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining"),
    *("X-RateLimit-Reset", "X-Request-ID", "Proxy-Status", "Idempotent-Replayed"),
)
_VARY: Final = b"Vary: Origin\r\n"
_ASKED: Final = re.compile(rb"^access-control-request-(method|headers): *([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_NAMES: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z, \t]{1,2048}")
_PREFLIGHT_VARY: Final = b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"

PUBLIC_REFUSAL: Final = b"Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: %b\r\n%b" % (
    ", ".join(_OURS).encode(),
    _VARY,
)
"""The lines of a refusal to a page, on a route that says nothing of pages."""


class PublicRefusals(Filter):
    """The refusals of a route that says nothing of pages."""

    adds_to_refusals: ClassVar[bool] = True

    def fields(self, ticket: Ticket, response: Response | None) -> bytes:
        """HOT."""
        return b"" if ticket.request.fields.origin is None else PUBLIC_REFUSAL


class Cors(Filter):
    """The pages of one route. `methods` are the route's own, None for all."""

    adds_fields: ClassVar[bool] = True
    adds_to_refusals: ClassVar[bool] = True

    def __init__(self, config: CorsConfig, methods: frozenset[str] | None) -> None:
        self._config = config
        self._any = "*" in config.origins
        self._exact = frozenset(origin.encode() for origin in config.origins if "*" not in origin)
        self._patterns = tuple(
            (before.encode(), after.encode())
            for before, star, after in (origin.partition("*") for origin in config.origins)
            if star and before
        )
        allowed = config.methods or (tuple(sorted(methods)) if methods is not None else ())
        self._methods = ", ".join(allowed).encode()
        expose = dict.fromkeys((*_OURS, *config.expose))
        self._exposed = b"Access-Control-Expose-Headers: %b\r\n" % ", ".join(expose).encode()

    def fields(self, ticket: Ticket, response: Response | None) -> bytes:
        """Nothing where the upstream speaks for its answer itself."""
        if response is not None and response.fields.allows_origin:
            return b""
        return self.lines(ticket.request.fields.origin)

    def lines(self, origin: bytes | None) -> bytes:
        """Header lines for an answer to a page of `origin`, None where the request names none. Caches are told that the
        answer depends on it, also when it is allowed nothing."""
        if self._any:
            return b"" if origin is None else b"Access-Control-Allow-Origin: *\r\n%b%b" % (self._exposed, _VARY)
        if origin is None or not self._allows(origin):
            return _VARY
        return b"%b%b%b" % (self._allow(origin), self._exposed, _VARY)

    def preflight(self, request: Request) -> OwnAnswer | None:
        """The answer to a preflight; None to any other request."""
        origin = request.fields.origin
        if request.method != "OPTIONS" or origin is None:
            return None
        asked = {match[1].lower(): match[2].strip(b" \t") for match in _ASKED.finditer(request.fields.lines)}
        method = asked.get(b"method")
        if method is None:
            return None
        if not (self._any or self._allows(origin)):
            return OwnAnswer(204, _PREFLIGHT_VARY, ("cors", "refused"))
        wanted = asked.get(b"headers", b"")
        if self._config.headers:
            wanted = ", ".join(self._config.headers).encode()
        elif not _NAMES.fullmatch(wanted):
            wanted = b""
        allowed = self._methods or (method if _NAMES.fullmatch(method) else b"")
        fields = self._allow(origin)
        if allowed:
            fields += b"Access-Control-Allow-Methods: %b\r\n" % allowed
        if wanted:
            fields += b"Access-Control-Allow-Headers: %b\r\n" % wanted
        fields += b"Access-Control-Max-Age: %d\r\n%b" % (int(self._config.max_age), _PREFLIGHT_VARY)
        return OwnAnswer(204, fields, ("cors", "preflight"))

    def _allow(self, origin: bytes) -> bytes:
        if self._any:
            return b"Access-Control-Allow-Origin: *\r\n"
        credentials = b"Access-Control-Allow-Credentials: true\r\n" if self._config.credentials else b""
        return b"Access-Control-Allow-Origin: %b\r\n%b" % (origin, credentials)

    def _allows(self, origin: bytes) -> bool:
        """Browsers write an origin in one way (the URL standard's serialisation), so bytes are compared."""
        if origin in self._exact:
            return True
        for before, after in self._patterns:
            if not (origin.startswith(before) and origin.endswith(after)):
                continue
            start, stop = len(before), len(origin) - len(after)
            if start < stop and _SUBDOMAIN.fullmatch(origin, start, stop):
                return True
        return False


_SUBDOMAIN: Final = re.compile(rb"[a-z0-9-]+(?:\.[a-z0-9-]+)*")
