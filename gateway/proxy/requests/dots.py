"""Paths with dot segments, in every spelling in which some upstream understands them.

Routing, methods, limits and `base_path` are judged by the path's bytes as they are. An upstream that takes `..` for the
segment above (RFC 3986 section 5.2.4) would answer for another path than the one that was judged. What such upstreams
have been seen to take for a dot segment:

    /../  /./  /..           plain, also at the end
    /%2e%2e/  /%252e./       percent-encoded, once or more often, in any mix: `%%32%65` is `%2e` after one decoding
    /%u002e%u002e/           in the form that IIS reads
    /..%2f  /..%5c  /..\\     with a separator that shows only after decoding, or that Windows has
    /..;/  /..;x=1/  /.%3b/  with path parameters, which servlet containers take off
    /%c0%ae%c0%ae/           in overlong UTF-8 of any length, which is never valid; `%c0.` for sloppy decoders
    /%ef%bc%8e%ef%bc%8e/     in characters that become dots and slashes when compatible ones are made equal (NFKC, and
    /%uff0e%uff0e%u2215      the best fit of Windows): fullwidth, small, leaders, fraction and division slashes
    /..%00  /..%23  /..%3f   cut off by what follows

So the path is decoded until nothing is left to decode, and looked at each time. A NUL byte anywhere belongs to the same
kind: it ends the path for upstreams written in C. Three dots and more are a name, and so are dots beside anything else.
The query is not looked at.
"""

import re
from functools import lru_cache
from typing import Final

# Overlong UTF-8 of two to six bytes: leading bytes, and what the last two carry.
_OVERLONG = rb"(?:\xe0|\xf0\x80|\xf8\x80\x80|\xfc\x80\x80\x80)"
# What NFKC or the best fit of Windows makes a dot, two dots, a slash or a backslash of.
_LIKE_DOT = "\uff0e|\ufe52|\u2024".encode()
_LIKE_TWO_DOTS = "\u2025".encode()
_LIKE_SEPARATOR = "\uff0f|\uff3c|\ufe68|\u2044|\u2215|\u2216".encode()
_SEPARATOR = rb"(?:\xc0?[/\\]|\xc0\xaf|\xc1\x9c|" + _OVERLONG + rb"(?:\x80\xaf|\x81\x9c)|" + _LIKE_SEPARATOR + rb")"
_DOT = rb"(?:\xc0?\.|\xc0\xae|" + _OVERLONG + rb"\x80\xae|" + _LIKE_DOT + rb")"
_DOTS = rb"(?:" + _DOT + rb"{1,2}|" + _LIKE_TWO_DOTS + rb")"
# `?` and `#` come out of decoding only: plain ones are no part of a path.
_DOT_SEGMENT: Final = re.compile(_SEPARATOR + _DOTS + rb"(?=\Z|[;?#]|" + _SEPARATOR + rb")|\x00")
# The same for paths without a byte above 127, and five times as fast: a path is looked at before any limit is asked.
_PLAIN_DOT_SEGMENT: Final = re.compile(rb"[/\\]\.{1,2}(?=\Z|[;?#/\\])|\x00")
# `%252525…` in one step, for it would need a decoding for each pair of digits; and `%u` before four digits is IIS's.
_ENCODED: Final = re.compile(rb"(%(?:25)*(?:u[0-9a-f]{4}|[0-9a-f]{2}))", re.IGNORECASE)
_KEPT: Final = 1024
_MOST_LAYERS: Final = 4
_PERCENT: Final = 0x25
_BACKSLASH: Final = 0x5C


def has_dot_segment(target: bytes) -> bool:
    """`target` is in origin-form, its query included. What needs more than four decodings is refused likewise."""
    path = target.partition(b"?")[0]
    # Single bytes, as numbers: to find one is twenty times as fast as to find a part of one byte.
    if _PERCENT not in path and _BACKSLASH not in path and path.isascii() and path.find(b"/.") < 0:
        return False
    for _ in range(_MOST_LAYERS):
        if (_PLAIN_DOT_SEGMENT if path.isascii() else _DOT_SEGMENT).search(path) is not None:
            return True
        if _PERCENT not in path:
            return False
        # Every second part is encoded.
        parts = _ENCODED.split(path)
        if len(parts) == 1:
            return False
        parts[1::2] = map(_octets, parts[1::2])
        path = b"".join(parts)
    return True


@lru_cache(_KEPT)
def _octets(encoded: bytes) -> bytes:
    if encoded[-5:-4] in (b"u", b"U"):
        return chr(int(encoded[-4:], 16)).encode("utf-8", "surrogatepass")
    return bytes((int(encoded[-2:], 16),))
