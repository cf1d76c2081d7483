"""What a request says about its body: media type, charset, and whether it is encoded.

A field may be meant for somebody who reads it as CGI does, so `Content_Type` counts as another Content-Type: what the
schema sees must be what the upstream sees.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

_FIELDS: Final = re.compile(rb"^content[^a-z0-9:\r\n](type|encoding)[ \t]*:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_WORD: Final = r"[!#$%&'*+.^_`|~0-9a-z-]+"
_MEDIA_TYPE: Final = re.compile(rf"\s*({_WORD}/{_WORD})\s*(?:;(.*))?", re.IGNORECASE | re.DOTALL | re.ASCII)
_CHARSET: Final = re.compile(r"(?:^|;)\s*charset\s*=\s*(?:\"([^\"]*)\"|([^\s;]*))", re.IGNORECASE | re.ASCII)
_UTF_8: Final = frozenset({"utf-8", "utf8", "us-ascii"})
_LONGEST: Final = 256


class Content(NamedTuple):
    """`media` is the media type in lower case without parameters. With `objection` the body cannot be understood, for
    this reason; `encoded`: because it has a Content-Encoding."""

    media: str
    objection: str = ""
    encoded: bool = False


_ENCODED: Final = Content("", "the body has a Content-Encoding, and is not decoded to be validated", encoded=True)
_SEVERAL: Final = Content("", "the request has more than one Content-Type")
_MISSING: Final = Content("", "the request has a body and no Content-Type")


def content_of(lines: bytes) -> Content:
    """What the header lines of a request say. HOT."""
    # Stripped here: an expression that did so would take a time that grows with the square of a long value.
    found = [(name, value.strip(b" \t")) for name, value in _FIELDS.findall(lines)]
    if len(found) == 1 and len(found[0][0]) == 4:
        return _parsed(found[0][1]) if len(found[0][1]) <= _LONGEST else Content("", "the Content-Type is too long")
    types = [value for name, value in found if name.lower() == b"type"]
    if any(value.lower() != b"identity" for name, value in found if name.lower() == b"encoding"):
        return _ENCODED
    if len(types) != 1:
        return _SEVERAL if types else _MISSING
    return _parsed(types[0][:_LONGEST])


@lru_cache(maxsize=256)
def _parsed(value: bytes) -> Content:
    """The same few come all the time."""
    match = _MEDIA_TYPE.fullmatch(value.decode("latin-1"))
    if match is None:
        return Content("", "the Content-Type is not a media type")
    charsets = {(each[0] or each[1]).lower() for each in _CHARSET.findall(match[2] or "")}
    if not charsets <= _UTF_8:
        return Content("", "the Content-Type has a charset that is not UTF-8")
    return Content(match[1].lower())


def is_json(media: str) -> bool:
    """Whether a media type in lower case is JSON."""
    return media == "application/json" or media.endswith("+json")
