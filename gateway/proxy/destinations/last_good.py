"""The last good answers of a route, for the time when its upstream has none (`stale-if-error`, RFC 5861 section 4).

    GET, 200, whole ──▶ may it be kept? ──▶ kept for `seconds`, in `most` bytes ──▶ given to a request that it answers

It is no cache: while the upstream answers, every request goes to it. What is kept may be given to another client, so
the rules are those for shared caches (RFC 9111 section 3), and stricter where a mistake would show one client what is
another's. Not kept is an answer

- with `no-store`, `private`, or a directive that forbids to use it stale: `no-cache`, `must-revalidate`,
  `proxy-revalidate`, `s-maxage` (section 4.2.4); or with `no-store` in its request,
- with `Set-Cookie`, with `Vary: *` or a field that the gateway makes (`X-Forwarded-For`), or encoded without a `Vary`
  that says so,
- to a request with credentials (`Authorization`, a cookie, any field that may be a secret by its name, such as
  `X-API-Key`, a caller that the gateway knows), unless it is `public`,
- to a request with a body or for a range,
- which a Python hook has changed: it may have done so for this client.

A request gets only what was kept for its scheme, host and target, for its values of the fields that `Vary` names, and
for what hooks have made of it; with credentials it gets only what is `public`, with `no-cache` nothing.
"""

import re
import time
from typing import Final, NamedTuple

from gateway.proxy.answers.own_answer import SECRET_NAMES, OwnAnswer
from gateway.proxy.ticket import Ticket
from gateway.syntax import quotes
from gateway.wire.message.date import date_line
from gateway.wire.message.request import Request
from gateway.wire.message.response import Response, phrase_of

# What an entry takes beside its bytes: objects, the entry in the table.
_OVERHEAD: Final = 800
# Of all: a few large answers must not push out everything else.
_LARGEST_SHARE: Final = 8
_MOST_VARIANTS: Final = 8
# Each is looked for among the fields of the request, and an upstream may name thousands.
_MOST_VARY: Final = 32

_SAYS: Final = re.compile(
    rb"^(cache-control|pragma|vary|set-cookie2?|content-encoding|age):[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE
)
_OF_REQUEST: Final = re.compile(
    rb"^(cache-control|pragma|range|[^:\r\n]*(?:%b)[^:\r\n]*):[ \t]*([^\r\n]*)" % SECRET_NAMES,
    re.IGNORECASE | re.MULTILINE,
)
_DIRECTIVE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9a-z-]+)(?:=(\"(?:[^\"\\]|\\.)*\"|[^\s,]*))?", re.IGNORECASE)
_PLAIN_DIRECTIVE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9a-z-]+)(?:=([^\s,]*))?", re.IGNORECASE)
_NOT_KEPT: Final = frozenset(
    {b"no-store", b"private", b"no-cache", b"must-revalidate", b"proxy-revalidate", b"s-maxage"}
)
# Fields that the gateway makes of what it knows of a client: they are not among the request's.
_MADE: Final = (b"forwarded", b"x-forwarded", b"x-real-ip", b"x-consumer", b"x-tenant", b"via", b"traceparent")
# Of a caller that the gateway knows more may be said to the upstream than is seen here.
_SAID_BY_CLIENTS: Final = frozenset({b"accept", b"accept-encoding", b"accept-language", b"origin"})
# What is made anew each time: the length, the age, and what this gateway said then, a debug answer among it.
_OF_THEN: Final = re.compile(
    rb"^(?:content-length|age|proxy-status|server-timing|x-gateway-debug):[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE
)


class _Asked(NamedTuple):
    """What a request says that matters here. `known`: the gateway knows its caller. `lines` are its fields."""

    directives: frozenset[bytes]
    credentials: bool
    known: bool
    usable: bool
    lines: bytes


class Kept:
    """One answer. `lines` are its field lines, `varies` the names and values of the request's fields that it depends
    on. `at` is when it came, an instant of the monotonic clock, `age` its seconds by then, `until` the end of its
    use."""

    __slots__ = ("age", "at", "body", "lines", "public", "response", "size", "until", "varies")

    def __init__(
        self,
        response: Response,
        lines: bytes,
        body: bytes,
        varies: tuple[tuple[bytes, bytes], ...],
        at: float,
        age: int,
        until: float,
        *,
        public: bool,
    ) -> None:
        self.response = response
        self.lines = lines
        self.body = body
        self.varies = varies
        self.at = at
        self.age = age
        self.until = until
        self.public = public
        self.size = len(lines) + len(body) + len(response.head) + len(response.fields.lines) + _OVERHEAD


class LastAnswer(OwnAnswer):
    """A kept answer that is given again. It has the `Date` of then, and so says itself how old it is."""

    __slots__ = ()

    def __init__(self, kept: Kept, age: int, told: str) -> None:
        super().__init__(200, kept.lines + f"Age: {age}\r\n{told}".encode(), ("response", "stale"), kept.body)
        self.response = kept.response

    def render(self, request_id: bytes, extra: bytes, wall: float) -> bytes:
        return b"HTTP/1.1 200 %b\r\n%bX-Request-ID: %b\r\n%b\r\n%b" % (
            phrase_of(200),
            self._lines,
            request_id,
            extra,
            self.body,
        )


class LastGood:
    """Of one route, in one process. Answers are used for at most `seconds`, and take at most `most` bytes together; the
    one that came first makes room. `size` is what they take now, `entries` how many they are. Bodies that are still on
    their way take as much again at most: what finds no room is not kept. `gathered` is what they take now."""

    __slots__ = ("_kept", "_most", "_seconds", "entries", "gathered", "largest", "size")

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self.largest = most // _LARGEST_SHARE
        """The largest body that is kept."""
        self.size = 0
        self.entries = 0
        self.gathered = 0
        # By key, in the order in which the latest of each came.
        self._kept: dict[bytes, list[Kept]] = {}

    def wants(self, request: Request) -> bool:
        """Whether answers to such requests may be kept at all. HOT."""
        return request.method == "GET" and not request.has_body

    def may_keep(self, ticket: Ticket, response: Response) -> bool:
        """Whether `keep` would keep an answer with this head, if its body is not too large."""
        return response.length <= self.largest and _terms(ticket, response) is not None

    def gather(self, size: int) -> bool:
        """Take so many bytes for a body that is on its way. False: there is no room. `let_go` gives them back."""
        if self.gathered + size > self._most:
            return False
        self.gathered += size
        return True

    def let_go(self, size: int) -> None:
        """Give back what `gather` has taken."""
        self.gathered -= size

    def keep(self, ticket: Ticket, response: Response, head: bytes, body: bytes, now: float) -> None:
        """Keep the answer if that is allowed. `head` is how it went out. Of its upstream it must be the good answer:
        whole, and 200."""
        terms = _terms(ticket, response)
        if terms is None or len(body) > self.largest:
            return
        varies, public = terms
        age, until = 0, now + self._seconds
        for match in _SAYS.finditer(response.fields.lines):
            if match[1].lower() == b"age" and match[2].isdigit():
                age = int(match[2][:9])
        for name, value in _directives(response.fields.lines, _SAYS):
            if name == b"stale-if-error" and value.isdigit():
                until = min(until, now + float(value))
        lines = _OF_THEN.sub(b"", head.partition(b"\r\n")[2])
        if not response.fields.dated:
            lines += date_line(time.time())
        self._put(_key(ticket), Kept(response, lines, body, varies, now, age, until, public=public), now)

    def find(self, ticket: Ticket, now: float) -> Kept | None:
        """What was kept for such a request, None where there is nothing that may be used."""
        if not self.wants(ticket.request):
            return None
        variants = self._kept.get(_key(ticket))
        if variants is None:
            return None
        asked = _asked(ticket)
        if not asked.usable or b"no-cache" in asked.directives:
            return None
        for kept in variants:
            fits = kept.until > now and (kept.public or not asked.credentials)
            if fits and all(_value(asked.lines, name) == value for name, value in kept.varies):
                return kept
        return None

    def _put(self, key: bytes, kept: Kept, now: float) -> None:
        variants = self._kept.pop(key, [])
        for each in list(variants):
            if each.varies == kept.varies or each.until <= now:
                self._forget(variants, each)
        while len(variants) >= _MOST_VARIANTS:
            self._forget(variants, variants[0])
        variants.append(kept)
        self._kept[key] = variants
        self.size += kept.size
        self.entries += 1
        self._make_room(now)

    def _make_room(self, now: float) -> None:
        """Forget what is over, and the first ones beyond the most."""
        while self._kept:
            key = next(iter(self._kept))
            variants = self._kept[key]
            if self.size <= self._most and variants[-1].until > now:
                return
            del self._kept[key]
            for each in list(variants):
                self._forget(variants, each)

    def _forget(self, variants: list[Kept], kept: Kept) -> None:
        variants.remove(kept)
        self.size -= kept.size
        self.entries -= 1


def _key(ticket: Ticket) -> bytes:
    request, origin = ticket.request, ticket.origin
    key = b"%b %b %b" % (origin.scheme.encode(), origin.host or request.authority or b"", request.target)
    hooked = ticket.hooked
    return key if hooked is None else b"%b %b\r\n%b" % (key, hooked.path, hooked.added)


def _asked(ticket: Ticket) -> _Asked:
    lines = ticket.request.fields.lines
    if ticket.hooked is not None:
        lines = ticket.hooked.applied(lines)
    known = ticket.caller is not None
    usable, credentials = True, known
    for match in _OF_REQUEST.finditer(lines):
        name = match[1].lower()
        if name == b"range":
            usable = False
        elif name not in {b"cache-control", b"pragma"}:
            credentials = True
    directives = frozenset([name for name, _ in _directives(lines, _OF_REQUEST)])
    return _Asked(directives, credentials, known, usable, lines)


def _directives(lines: bytes, pattern: re.Pattern[bytes]) -> list[tuple[bytes, bytes]]:
    """Of Cache-Control, and the one of Pragma, in lower case."""
    found: list[tuple[bytes, bytes]] = []
    for match in pattern.finditer(lines):
        if match[1].lower() in {b"cache-control", b"pragma"}:
            # Each quote that is left open would be looked for to the end.
            one = _PLAIN_DIRECTIVE if quotes.left_open(match[2]) else _DIRECTIVE
            found += [(each[1].lower(), each[2] or b"") for each in one.finditer(match[2])]
    return found


def _terms(ticket: Ticket, response: Response) -> tuple[tuple[tuple[bytes, bytes], ...], bool] | None:
    """What `_varies` says, and whether the answer is `public`; None for an answer that must not be kept."""
    hooked = ticket.hooked
    if hooked is not None and hooked.answer_changed:
        return None
    asked = _asked(ticket)
    varies = _varies(response, asked)
    if varies is None:
        return None
    public = any(name == b"public" for name, _ in _directives(response.fields.lines, _SAYS))
    return None if asked.credentials and not public else (varies, public)


def _varies(response: Response, asked: _Asked) -> tuple[tuple[bytes, bytes], ...] | None:
    """The request's values of the fields that the answer depends on; None for an answer that must not be kept."""
    lines = response.fields.lines
    if not asked.usable or b"no-store" in asked.directives:
        return None
    if any(name in _NOT_KEPT for name, _ in _directives(lines, _SAYS)):
        return None
    names: set[bytes] = set()
    encoded = False
    for match in _SAYS.finditer(lines):
        field = match[1].lower()
        if field.startswith(b"set-cookie"):
            return None
        if field == b"content-encoding":
            encoded = encoded or match[2].strip().lower() not in {b"", b"identity"}
        elif field == b"vary":
            names |= {name.strip().lower() for name in match[2].split(b",")} - {b""}
    if len(names) > _MOST_VARY or b"*" in names or (encoded and b"accept-encoding" not in names):
        return None
    if any(name.startswith(_MADE) for name in names) or (asked.known and not names <= _SAID_BY_CLIENTS):
        return None
    return tuple([(name, _value(asked.lines, name)) for name in sorted(names)])


def _value(lines: bytes, name: bytes) -> bytes:
    """The values of a field, as one list."""
    found = re.findall(rb"^%b:([^\r\n]*)" % re.escape(name), lines, re.IGNORECASE | re.MULTILINE)
    return b",".join([value.strip(b" \t") for value in found])
