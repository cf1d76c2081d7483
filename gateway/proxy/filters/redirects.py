"""Redirects that name the upstream's own address become the client's again.

An upstream makes absolute URLs of the `Host` that it got. That is its own authority, unless the route preserves the
client's, so a `Location` may point to where no client gets. Apache's ProxyPassReverse and nginx's proxy_redirect
translate such a URL back, and so does this, for Location, Content-Location and Refresh:

    http://10.0.0.5:8080/v2/login   →   https://shop.test/api/login      base_path /v2, prefix /api stripped

Translated is a URL whose host and port are those of one of the upstream's endpoints or of its authority, and whose path
is below `base_path`; nothing else has a place in the client's view. A path that leaves `base_path` by dot segments is
not below it: the client would resolve them and get to another route. Left alone are URLs of any other authority, those
that are the client's already, relative ones, and what stands in bodies and in cookies.
"""

import re
from collections.abc import Iterable
from typing import ClassVar, Final

from gateway.proxy.filter import Filter
from gateway.proxy.ticket import Ticket
from gateway.syntax import hosts
from gateway.wire.message.response import Response

_FIELD: Final = re.compile(rb"^((?:content-)?location|refresh)(: *)([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
# As browsers read it (HTML, "shared declarative refresh steps"): `url=` may be missing, and a comma separates too.
_REFRESH_URL: Final = re.compile(rb"([ \t]*[0-9.]+[;, \t]+(?:url[ \t]*=[ \t]*)?[\"']?)(.*)", re.IGNORECASE | re.DOTALL)
# One segment or more, and nothing that begins an authority or ends a path.
_OUTER_PREFIX: Final = re.compile(rb"(?:/[A-Za-z0-9\-._~!$&'()*+=:@%]+)+")
_URL: Final = re.compile(rb"(?:(https?):)?//([^/?#\\]*)(/[^?#]*)?((?:[?#].*)?)", re.IGNORECASE | re.DOTALL)


class Redirects(Filter):
    """How a route's redirects are translated. `authorities` are those of the upstream, `scheme` is the upstream's,
    `base_path` and `prefix` have no slash at their end; `prefix` is what the route strips."""

    changes_head: ClassVar[bool] = True

    def __init__(self, authorities: Iterable[str], scheme: str, base_path: bytes, prefix: bytes) -> None:
        self._scheme = scheme
        self._theirs = frozenset(hosts.with_port(authority, scheme) for authority in authorities) - {None}
        self._base_path = base_path
        self._prefix = prefix

    def head(self, ticket: Ticket, response: Response) -> Response:
        """HOT."""
        if not response.fields.redirects:
            return response
        origin = ticket.origin
        asked = origin.host.partition(b",")[0].strip(b" \t")
        if not asked or hosts.authority(asked.decode("latin-1")) is None:
            asked = ticket.request.authority
        outer = origin.prefix.rstrip(b"/")
        if not _OUTER_PREFIX.fullmatch(outer):
            outer = b""
        return response.with_head(self.translate(response.head, origin.scheme, asked, outer))

    def translate(self, head: bytes, scheme: str, authority: bytes, outer: bytes = b"") -> bytes:
        """The head of an answer with its redirects translated for a client that asked for `authority` by `scheme`. An
        empty authority (HTTP/1.0 without Host) makes them relative. `outer` is the prefix that a trusted proxy in front
        has stripped."""

        def translated(match: re.Match[bytes]) -> bytes:
            name, colon, value = match[1], match[2], match[3]
            start = b""
            if name.lower() == b"refresh":
                refresh = _REFRESH_URL.fullmatch(value)
                if refresh is None:
                    return match[0]
                start, value = refresh[1], refresh[2]
            return b"%b%b%b%b" % (name, colon, start, self._url(value, scheme, authority, outer))

        return _FIELD.sub(translated, head)

    def _url(self, url: bytes, scheme: str, authority: bytes, outer: bytes) -> bytes:
        match = _URL.fullmatch(url)
        if match is None:
            return url
        own_scheme = (match[1] or self._scheme.encode()).decode("ascii").lower()
        theirs = hosts.with_port(match[2].decode("latin-1"), own_scheme)
        if theirs not in self._theirs or theirs == hosts.with_port(authority.decode("latin-1"), scheme):
            return url
        path = match[3] or b"/"
        base = self._base_path
        if base:
            if path != base and not path.startswith(base + b"/"):
                return url
            path = path[len(base) :] or b"/"
        if _climbs(path):
            return url
        origin = b"%b://%b" % (scheme.encode(), authority) if authority else b""
        return b"%b%b%b%b%b" % (origin, outer, self._prefix, path, match[4])


def _climbs(path: bytes) -> bool:
    """Whether the dot segments of the path lead above where it begins, as a browser reads them."""
    if b".." not in (plain := path.lower().replace(b"%2e", b".")):
        return False
    depth = 0
    for segment in plain.replace(b"\\", b"/").split(b"/")[1:]:
        if segment == b"..":
            depth -= 1
            if depth < 0:
                return True
        elif segment != b".":
            depth += 1
    return False
