"""`${NAME}` in a value of `.env` or of the YAML file.

    ${NAME}            what the environment says, else what `.env` says; a problem when neither does
    ${NAME:-default}   the default when NAME is not set or empty
    $${                a literal `${`

There is no other syntax. A `$` without a brace behind it is an ordinary character, so passwords may have it. References
inside a default are not replaced. Values in single quotes in `.env` are left as they are, as shells and Compose do.
"""

import re
from collections.abc import Callable

_REFERENCE = re.compile(r"\$(\$?)\{([^{}]*)(\}?)")
_INSIDE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.ASCII | re.DOTALL)

MOST_CHARACTERS = 65_536
"""Of a value with its references replaced: each may lead to a value with several, and so on."""

ALLOWED = "${NAME} or ${NAME:-default}; $${ for a literal ${"

Lookup = Callable[[str], str | None]


class ReferenceProblem(Exception):
    """`what` says what is wrong with a reference, and `allowed` what is allowed. Neither contains a value."""

    def __init__(self, what: str, allowed: str) -> None:
        super().__init__(what)
        self.what = what
        self.allowed = allowed


def named(text: str) -> set[str]:
    """The names that `text` refers to."""
    found = set()
    for escaped, inside, _ in _REFERENCE.findall(text):
        understood = _INSIDE.fullmatch(inside)
        if not escaped and understood:
            found.add(understood[1])
    return found


def expanded(text: str, lookup: Lookup) -> str:
    """`text` with every reference replaced. Raises `ReferenceProblem`."""

    length = len(text)

    def value(found: re.Match[str]) -> str:
        nonlocal length
        replaced = meant(found)
        length += len(replaced) - len(found[0])
        if length > MOST_CHARACTERS:
            raise ReferenceProblem(
                "references that make a very long value", f"at most {MOST_CHARACTERS} characters in all"
            )
        return replaced

    def meant(found: re.Match[str]) -> str:
        if found[1]:
            return found[0][1:]
        inside = _INSIDE.fullmatch(found[2])
        if inside is None or not found[3]:
            raise ReferenceProblem("a ${ that is not understood", ALLOWED)
        name, default = inside[1], inside[2]
        known = lookup(name)
        if known:
            return known
        if default is None:
            raise ReferenceProblem(
                f"${{{name}}} is not set", f"a variable that the environment or .env sets, or ${{{name}:-default}}"
            )
        return default

    return _REFERENCE.sub(value, text) if "${" in text else text
