"""Paths with dot segments, in every spelling in which some upstream understands them.

Routing, methods, limits and `base_path` are judged by the path's bytes as they are. An upstream that takes `..` for the
segment above (RFC 3986 section 5.2.4) would answer for another path than the one that was judged. What such upstreams
have been seen to take for a dot segment:

    /../  /./  /..           plain, also at the end
    /%2e%2e/  /%252e./       percent-encoded, once or more often, in any mix
    /..%2f  /..%5c  /..\\     with a separator that shows only after decoding, or that Windows has
    /..;/  /..;x=1/  /.%3b/  with path parameters, which servlet containers take off
    /%c0%ae%c0%ae/           in overlong UTF-8, which is never valid
    /..%00  /..%23  /..%3f   cut off by what follows

A NUL byte anywhere belongs to the same kind: it ends the path for upstreams written in C. Three dots and more are a
name, and so are dots beside anything else. The query is not looked at.
"""

import re

_PERCENT = rb"%(?:25)*"
_SEPARATOR = rb"[/\\]|" + _PERCENT + rb"(?:2f|5c|c0%(?:25)*af|c1%(?:25)*9c)|\xc0\xaf|\xc1\x9c"
_DOT = rb"(?:\.|" + _PERCENT + rb"(?:2e|c0%(?:25)*ae|e0%(?:25)*80%(?:25)*ae)|\xc0\xae|\xe0\x80\xae)"
_END = rb"\Z|;|" + _SEPARATOR + rb"|" + _PERCENT + rb"(?:3b|3f|23|00)"
_DOT_SEGMENT = re.compile(
    rb"(?:" + _SEPARATOR + rb")" + _DOT + rb"{1,2}(?=" + _END + rb")|" + _PERCENT + rb"00", re.IGNORECASE
)


def has_dot_segment(target: bytes) -> bool:
    """`target` is in origin-form, its query included."""
    path = target.partition(b"?")[0]
    if b"/." not in path and b"%" not in path and b"\\" not in path and path.isascii():
        return False
    return _DOT_SEGMENT.search(path) is not None
