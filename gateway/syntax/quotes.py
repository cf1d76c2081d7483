"""Quoted strings within the value of a field (RFC 9110 section 5.6.4).

Whoever sends the value chooses how many quotes are in it. So each byte is looked at once: an open quote is one match
that lasts to the end, and not a failure after which the next quote is tried.
"""

import re
from collections.abc import Callable
from typing import Final

_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.|\\\Z)*+("?)', re.DOTALL)


def left_open(value: bytes) -> bool:
    """Whether the last quote of the value is not closed."""
    return value.find(b'"') >= 0 and any(not found[1] for found in _STRING.finditer(value))


def inside(value: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The value with each quoted string, quotes included, replaced by what `change` makes of it. None may be left
    open."""
    return _STRING.sub(lambda found: change(found[0]), value)
