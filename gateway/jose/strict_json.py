"""JSON as a security decision may rely on it: one meaning for each text.

Refused besides what is no JSON: a member that is there twice (parsers differ in which one counts), NaN and Infinity,
text that is not UTF-8, and nesting that exhausts the stack. Numbers may still be anything; who reads one checks it.
"""

import json
from typing import Any, Final, NoReturn

import orjson


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_decode: Final = json.JSONDecoder(parse_constant=_no_constant).decode
_decode_slowly: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant).decode
# An escape that may be a colon, in whichever case.
_COLON_ESCAPE: Final = "\\u003"


def _complete(text: str, found: Any) -> bool:
    """Whether every member of the text is in what was found. False says that it is not known.

    Each colon of the value, written again, comes from a colon of the text, unless it was an escape. A member that was
    dropped, because another one has its name, takes its colon with it. So equal counts mean that none was. This takes a
    fraction of the time of a look at each object.
    """
    if _COLON_ESCAPE in text:
        return False
    try:
        return text.count(":") == orjson.dumps(found).count(b":")
    except TypeError:
        # A number beyond 64 bits, half of a surrogate pair, or deep nesting.
        return False


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`. Raises `ValueError`, whose message may quote the text."""
    try:
        text = data.decode("utf-8")
        found = _decode(text)
        if not _complete(text, found):
            found = _decode_slowly(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        # The caller treats all that is wrong with the text alike.
        raise ValueError("it is not an object")  # noqa: TRY004
    return found
