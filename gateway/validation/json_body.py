"""A body as JSON (RFC 8259), read so that whoever reads it next finds the same in it.

What parsers do not agree about is refused: members with the same name (section 4), invalid UTF-8 and lone surrogates
(section 8), a byte order mark (section 8.1), NaN and Infinity, numbers beyond a double (section 6), and nesting beyond
64 levels (section 9 leaves the depth open).

A whole number beyond 64 bits is a double here: schemas see its magnitude, and the upstream gets the digits as they
came, because it gets the bytes of the client.
"""

import json
from typing import Any, Final

import orjson

from gateway.validation.faults import Malformed

MOST_DEPTH: Final = 64
# An escape that may be a colon, in whichever case.
_COLON_ESCAPE: Final = b"\\u003"
_BOM: Final = b"\xef\xbb\xbf"


def parse(raw: bytes) -> Any:
    """The value. Raises `Malformed`. HOT."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Malformed(_reason(raw, error)) from None
    # With at most as many brackets as levels nothing can be too deep.
    if raw.count(b"{") + raw.count(b"[") > MOST_DEPTH and _too_deep(value):
        raise Malformed(f"the JSON is nested more than {MOST_DEPTH} levels deep")
    if _repeats(raw, value):
        raise Malformed("an object has two members with the same name")
    return value


def _repeats(raw: bytes, value: Any) -> bool:
    """Whether the parser has dropped a member because another one has its name.

    Each colon of the value, written again, comes from a colon of the text, unless it was an escape. A member that was
    dropped takes its colon with it. So equal counts mean that none was, and whoever escapes is looked at closely. HOT.
    """
    if _COLON_ESCAPE not in raw:
        return raw.count(b":") != orjson.dumps(value).count(b":")
    try:
        json.loads(raw, object_pairs_hook=_unique)
    except _RepeatedError:
        return True
    return False


class _RepeatedError(Exception):
    pass


def _unique(members: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in members}) != len(members):
        raise _RepeatedError


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for each in level
            for inner in (each.values() if type(each) is dict else each)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True


def _reason(raw: bytes, error: orjson.JSONDecodeError) -> str:
    """What is wrong, and where. The parser's own words may hold a part of the body, so they are not passed on."""
    if not raw.strip():
        return "the body is empty, and JSON was expected"
    if raw.startswith(_BOM):
        return "the body begins with a byte order mark"
    try:
        raw.decode()
    except UnicodeDecodeError as wrong:
        return f"the body is not UTF-8: byte {wrong.start}"
    where = f"line {error.lineno}, column {error.colno}"
    if "infinity" in error.msg:
        return f"the body has a number that is too large: {where}"
    if "depth" in error.msg:
        return f"the JSON is nested more than {MOST_DEPTH} levels deep"
    return f"the body is not JSON: {where}"
