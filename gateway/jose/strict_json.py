"""JSON as a security decision may rely on it: one meaning for each text.

Refused besides what is no JSON: a member that is there twice (parsers differ in which one counts), NaN and Infinity,
text that is not UTF-8, and nesting that exhausts the stack. Numbers may still be anything; who reads one checks it.
"""

import json
from typing import Any, Final, NoReturn


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_decode: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant).decode


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`. Raises `ValueError`, whose message may quote the text."""
    try:
        found = _decode(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        # The caller treats all that is wrong with the text alike.
        raise ValueError("it is not an object")  # noqa: TRY004
    return found
