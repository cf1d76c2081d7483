"""What kinds of values a schema takes: it decides how the text of a parameter or a form field becomes a value."""

import re
from typing import Any, Final

from gateway.validation.openapi.node import Node

_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_MOST_LEVELS: Final = 20
_LONGEST_NUMBER: Final = 300


def kinds_of(schema: Node, levels: int = _MOST_LEVELS) -> frozenset[str]:
    """The types that a schema names, behind references and alternatives; none where it names none."""
    schema = schema.resolved()
    value = schema.value
    if not isinstance(value, dict) or levels == 0:
        return frozenset()
    kind = value.get("type")
    if isinstance(kind, str):
        return frozenset({kind})
    if isinstance(kind, list):
        return frozenset(each for each in kind if isinstance(each, str))
    found: frozenset[str] = frozenset()
    for name in ("allOf", "anyOf", "oneOf"):
        for each in schema.plain(name).items():
            found |= kinds_of(each, levels - 1)
    return found


def properties_of(schema: Node, levels: int = _MOST_LEVELS) -> dict[str, Node]:
    """The members that an object schema names, those of its alternatives included."""
    schema = schema.resolved()
    if not isinstance(schema.value, dict) or levels == 0:
        return {}
    properties = schema.plain("properties")
    found = {name: properties.plain(name) for name in properties.value or () if isinstance(properties.value, dict)}
    for name in ("allOf", "anyOf", "oneOf"):
        for each in schema.plain(name).items():
            found = properties_of(each, levels - 1) | found
    return found


def value_of(text: str, kinds: frozenset[str]) -> Any:
    """The text as a value of one of these kinds; the text itself where it is of none of them, so that the schema says
    what is wrong. Without kinds it stays a text."""
    if kinds & {"integer", "number"} and len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text):
        number = float(text)
        if text.lstrip("-").isdigit() and abs(number) < 2.0**63:
            return int(text)
        return number if number not in {float("inf"), float("-inf")} else text
    if "boolean" in kinds and text in {"true", "false"}:
        return text == "true"
    if "null" in kinds and "string" not in kinds and not text:
        return None
    return text
