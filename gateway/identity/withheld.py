"""What of a client's fields does not reach the upstream: the gateway's own credentials, and fields that say who asks.

A field that the gateway makes from claims is taken out of every request, on every route: an upstream that several
routes lead to must not learn from a client what another route has proved. It is found in any spelling that an upstream
behind CGI could take for it (RFC 3875 section 4.1.18): without case, and with `_` or the like in place of `-`.
"""

import re
from collections.abc import Iterable


class Withheld:
    """Made once for each route."""

    __slots__ = ("_lines",)

    def __init__(self, patterns: Iterable[bytes]) -> None:
        """`patterns` are of field lines without their end."""
        self._lines = re.compile(rb"^(?:%b)\r\n" % b"|".join(patterns), re.IGNORECASE | re.MULTILINE)

    def without(self, lines: bytes) -> bytes:
        """Field lines without those that are withheld."""
        return self._lines.sub(b"", lines)


def withheld(
    header: str,
    methods: Iterable[str],
    mapped: Iterable[str] = (),
    *,
    forward_token: bool = True,
    in_query: bool = False,
) -> Withheld | None:
    """What a route withholds whose requests prove in `methods` who sends them, None for nothing. `header` is the field
    that API keys may come in. `mapped` are the fields that are made from claims. Without `forward_token` bearer tokens
    are withheld, too. `in_query` says that keys may be in URLs: then a `Referer` with one is withheld."""
    methods = frozenset(methods)
    patterns = [spelt(name) + rb":[^\r]*" for name in mapped]
    name = spelt(header)
    if methods:
        # Without the end of a key, so that an unfinished one does not go on either.
        patterns.append(rb"authorization:[ \t]*bearer[ \t]+gw_[^\r]*")
        patterns.append(name + (rb":[^\r]*" if "api_key" in methods else rb":[ \t]*gw_[^\r]*"))
        if in_query:
            # What a page loads names the URL of the page.
            patterns.append(rb"referer:[^\r]*gw_[^\r]*")
    if "jwt" in methods and not forward_token:
        patterns.append(rb"authorization:[ \t]*bearer(?:[ \t][^\r]*)?")
    return Withheld(patterns) if patterns else None


def spelt(name: str) -> bytes:
    """The pattern of a field's name in every spelling that an upstream behind CGI could take for it."""
    return "".join(each if each.isalnum() else r"[^A-Za-z0-9:\r\n]" for each in name).encode()
