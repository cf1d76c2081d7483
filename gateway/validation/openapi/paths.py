"""Which path template a request path matches (OpenAPI 3.1 section 4.8.8): concrete segments go before templated ones.

Segments are compared decoded, so that `/p%65ts` is `/pets` here as it is for the upstream. Whole segments count: an
empty one, as in `/pets/`, is one, and matches no parameter.
"""

import re
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

_PARAMETER: Final = re.compile(r"\{([^{}]+)\}")


class _Level:
    """What may follow: segments as they are, and those with parameters, the longest first: `{name}.json` goes before
    `{name}`. `found` belongs to the path that ends here, with the names of its parameters."""

    __slots__ = ("concrete", "found", "templated")

    def __init__(self) -> None:
        self.concrete: dict[str, _Level] = {}
        self.templated: list[tuple[str, list[str], _Level]] = []
        self.found: tuple[Any, tuple[str, ...]] | None = None


class Paths:
    """Templates, each with whatever belongs to it."""

    def __init__(self) -> None:
        self._root = _Level()

    def add(self, template: str, found: Any) -> bool:
        """False: another template is the same but for the names of its parameters."""
        level = self._root
        for segment in template.split("/")[1:]:
            level = _next(level, segment)
        if level.found is not None:
            return False
        level.found = found, tuple(_PARAMETER.findall(template))
        return True

    def find(self, path: bytes) -> tuple[Any, dict[str, str]] | None:
        """What belongs to the template of a path, and the values of its parameters, still encoded. HOT."""
        try:
            raw = path.decode("ascii").split("/")[1:]
            segments = [unquote_to_bytes(each).decode() if "%" in each else each for each in raw]
        except UnicodeDecodeError:
            return None
        values: list[str] = []
        level = _descend(self._root, raw, segments, 0, values)
        if level is None or level.found is None:
            return None
        found, names = level.found
        return found, dict(zip(names, values, strict=True))


def _next(level: _Level, segment: str) -> _Level:
    if _PARAMETER.search(segment) is None:
        return level.concrete.setdefault(segment, _Level())
    shape = _PARAMETER.sub("{}", segment)
    for known, _, following in level.templated:
        if known == shape:
            return following
    following = _Level()
    level.templated.append((shape, shape.split("{}"), following))
    level.templated.sort(key=lambda each: -len(each[0]))
    return following


def _descend(level: _Level, raw: list[str], segments: list[str], at: int, values: list[str]) -> _Level | None:
    """The level at which the path ends; the values of the parameters on the way to it are added to `values`."""
    if at == len(segments):
        return level if level.found is not None else None
    segment = segments[at]
    following = level.concrete.get(segment)
    if following is not None:
        found = _descend(following, raw, segments, at + 1, values)
        if found is not None:
            return found
    before = len(values)
    for shape, literals, following in level.templated if segment else ():
        if shape == "{}":
            values.append(raw[at])
        else:
            texts = _between(segment, literals)
            if texts is None:
                continue
            values += [quote(each, safe="") for each in texts]
        found = _descend(following, raw, segments, at + 1, values)
        if found is not None:
            return found
        del values[before:]
    return None


def _between(text: str, literals: list[str]) -> list[str] | None:
    """What stands between these texts, at least one character each; None where they are not there in this order.

    The leftmost place of each is tried and no other one: it leaves the most for what follows, so where it leads to
    nothing the others do not either. A regular expression would try them all."""
    first, *middle, last = literals
    at, end = len(first), len(text) - len(last)
    if not text.startswith(first) or not text.endswith(last):
        return None
    found = []
    for literal in middle:
        there = text.find(literal, at + 1, end)
        if there < 0:
            return None
        found.append(text[at:there])
        at = there + len(literal)
    return [*found, text[at:end]] if at < end else None
