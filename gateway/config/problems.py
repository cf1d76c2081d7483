"""What is wrong with a configuration, one line each, and never a secret in it.

A line reads `SOURCE: VALUE; allowed: WHAT; did you mean NAME?`. The source is a variable (`environment PORT`,
`.env:3 PORT`) or a place in the file (`gateway.yaml:12 routes[2].upstream`). Values are cut, escaped to one line, and
stripped of whatever stands before an `@` or behind a `?`; what is inside a mapping or a list is not shown at all.
"""

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

MISSING = "missing"
UNKNOWN = "unknown name"
MASK = "***"

_LINE = re.compile(r"(.*?):([0-9]+)(?::? |$)", re.DOTALL)
_LONGEST_VALUE = 80
# An API key of ours, where somebody writes it in place of its hash or its id: the id is public.
_API_KEY = re.compile(r"(gw_[a-z0-9]+_)[A-Za-z0-9_-]+")
_URL_CREDENTIALS = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*:(?://)?)?.*@", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason not to start. `value` is already fit to be printed."""

    source: str
    value: str
    allowed: str
    suggestion: str | None = None

    def __str__(self) -> str:
        hint = f"; did you mean {self.suggestion}?" if self.suggestion else ""
        return f"{self.source}: {self.value}; allowed: {self.allowed}{hint}"


@dataclass(frozen=True, slots=True)
class Notice:
    """A reason to look again, and none not to start."""

    source: str
    text: str

    def __str__(self) -> str:
        return f"{self.source}: {self.text}"


class ConfigError(Exception):
    """Everything that is wrong, not only the first thing; `str()` is one line per problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


_Found = TypeVar("_Found", Problem, Notice)


def in_order(found: Iterable[_Found]) -> list[_Found]:
    """Each problem once. Those without a line come first, then those of each file from top to bottom; the files are in
    the order in which they first occur."""
    files: dict[str, int] = {}

    def place(one: _Found) -> tuple[int, int]:
        at = _LINE.match(one.source)
        return (files.setdefault(at[1], len(files) + 1), int(at[2])) if at else (0, 0)

    return sorted(dict.fromkeys(found), key=place)


def nearest(name: object, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that `name` was probably meant to be, ignoring case, or None. `cutoff` is difflib's."""
    if not isinstance(name, str):
        return None
    by_fold = {candidate.casefold(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.casefold(), by_fold, n=1, cutoff=cutoff)
    return by_fold[matches[0]] if matches else None


def shown(value: object, *, secret: bool = False) -> str:
    """The value as it may appear in a message."""
    if secret:
        return MASK
    match value:
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str():
            value = _API_KEY.sub(rf"\1{MASK}", value)
            text = _URL_CREDENTIALS.sub(lambda found: f"{found[1] or ''}{MASK}@", value)
            head, query, _ = text.partition("?")
            text = f"{head}?{MASK}" if query else head
            if len(text) > _LONGEST_VALUE:
                text = text[: _LONGEST_VALUE - 1] + "…"
            return json.dumps(text, ensure_ascii=False)
        case bool() | None:
            return json.dumps(value)
        case float():
            return number(value)
    return str(value)


def number(value: float) -> str:
    """A number as a user would write it: without `.0` where it is whole."""
    return str(int(value)) if float(value).is_integer() else str(value)
