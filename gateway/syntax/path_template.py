"""Paths by template: which paths are meant, and what they become.

    /users/{id}/files/{rest*}   →   /v2/files/{id}/{rest}

A template has whole segments: literal ones, `{name}` for one segment that is not empty, and, as the last one, `{name*}`
for all that is left, which may be empty. Paths are compared and put together byte for byte, so nothing is decoded. A
name stands for whole segments in the new path, too: what it stands for cannot join with anything to `..` or to a query.
"""

import re
from collections.abc import Iterable
from typing import Final

_LITERAL: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%-]+")
_NAME: Final = re.compile(r"\{([a-z][a-z0-9_]{0,31})(\*?)\}")
_DOTS: Final = frozenset({".", ".."})

ALLOWED: Final = "/, literal segments, {name} for one segment, and {name*} at the end for all that is left"


class TemplateError(ValueError):
    """A template that cannot be used; the message says what is allowed."""


class PathRewrite:
    """Raises `TemplateError` for templates that cannot be used."""

    __slots__ = ("_matched", "_parts")

    def __init__(self, path: str, to: str) -> None:
        pattern, names = "", []
        segments = _segments(path)
        for place, segment in enumerate(segments):
            found = _NAME.fullmatch(segment)
            if found is None:
                pattern += "/" + re.escape(segment)
                continue
            name, star = found[1], bool(found[2])
            if star and place < len(segments) - 1:
                raise TemplateError(f"{{{name}*}} at the end alone")
            if name in names:
                raise TemplateError(f"the name {name} once")
            names.append(name)
            pattern += "/(.*)" if star else "/([^/]+)"
        self._matched = re.compile(pattern.encode(), re.DOTALL)
        self._parts = [_part(segment, names) for segment in _segments(to)]

    def apply(self, path: bytes) -> bytes | None:
        """The new path for one without a query; None for one that is not meant."""
        match = self._matched.fullmatch(path)
        if match is None:
            return None
        return b"".join([b"/" + (match[part] if isinstance(part, int) else part) for part in self._parts])


def rewritten(path: bytes, rewrites: Iterable[PathRewrite]) -> bytes | None:
    """The path and query that the first of `rewrites` makes which means them; None where none does."""
    bare, question, query = path.partition(b"?")
    for rewrite in rewrites:
        made = rewrite.apply(bare)
        if made is not None:
            return made + question + query
    return None


def _segments(template: str) -> list[str]:
    if not template.startswith("/"):
        raise TemplateError(ALLOWED)
    segments = template[1:].split("/")
    for place, segment in enumerate(segments):
        empty_end = not segment and place == len(segments) - 1
        literal = _LITERAL.fullmatch(segment) is not None and segment not in _DOTS
        if not (empty_end or literal or _NAME.fullmatch(segment)):
            raise TemplateError(ALLOWED)
    return segments


def _part(segment: str, names: list[str]) -> int | bytes:
    """The number of the group that a name stands for, or a literal segment."""
    found = _NAME.fullmatch(segment)
    if found is None:
        return segment.encode()
    if found[2] or found[1] not in names:
        known = ", ".join(f"{{{name}}}" for name in names) or "no names, because the path has none"
        raise TemplateError(known)
    return 1 + names.index(found[1])
