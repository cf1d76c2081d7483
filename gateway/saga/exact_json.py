"""JSON whose numbers are passed on as they were written.

A run hands on what clients and upstreams have said, and must not change it: 12345678901234567890123 is the number of an
order and not 1.2345678901234568e+22. So a number that a float or a 64-bit integer cannot hold is kept as its text
(`Number`). One that is beyond every float, such as 1e400, is no JSON here.
"""

import json
import re
from typing import Any, Final

import orjson

# More digits than every float keeps, or an exponent that may be too large for one. It may be found in a string, too.
_MAY_BE_LOST: Final = re.compile(rb"[0-9.]{17}|[0-9][eE][+-]?[0-9]{2}")
# So many digits fit in 64 bits in any case; so many characters are no more than 15 digits.
_SURE_INTEGER: Final = 18
_SURE_FRACTION: Final = 16


class Number:
    """A number as JSON text."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text: Final = text

    def __repr__(self) -> str:
        return f"<Number {self.text}>"


def read(text: bytes) -> Any:
    """The value of a JSON text. Raises ValueError for anything else."""
    value = orjson.loads(text)
    if _MAY_BE_LOST.search(text) is None:
        return value
    try:
        return json.loads(text, parse_int=_integer, parse_float=_fraction)
    except RecursionError:
        # It is nested far deeper than can be written again, so nobody gets its numbers.
        return value


def write(value: Any) -> bytes:
    """The JSON text of a value. Raises TypeError for one that is nested deeper than 254 levels."""
    return orjson.dumps(value, default=_fragment)


def _integer(text: str) -> Any:
    return int(text) if len(text) <= _SURE_INTEGER else Number(text)


def _fraction(text: str) -> Any:
    exponent = "e" in text or "E" in text
    return float(text) if len(text) <= _SURE_FRACTION and not exponent else Number(text)


def _fragment(value: Any) -> Any:
    if isinstance(value, Number):
        return orjson.Fragment(value.text)
    raise TypeError(f"{type(value).__name__} is not JSON")
