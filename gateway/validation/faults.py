"""What is wrong with a request, in words that hold no value of it.

Where it is, is a JSON pointer in the form of a URI fragment (RFC 6901 section 6), as the examples of RFC 9457 have it,
or the place and the name of a parameter. The names of members are the client's own, so they are cut.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

MOST_FAULTS: Final = 20
"""So many are told, however many there are."""

_LONGEST_NAME: Final = 64
_LONGEST_POINTER: Final = 256
# What RFC 3986 section 3.5 allows in a fragment as it is.
_FRAGMENT: Final = "!$&'()*+,;=:@/?-._~"


class Fault(NamedTuple):
    """`detail` in words. `pointer` is where in the body; for a parameter `place` (path, query, header, cookie) and
    `name` say which one it is."""

    detail: str
    pointer: str = "#"
    place: str = ""
    name: str = ""

    def member(self) -> dict[str, str]:
        """As it stands in `errors` of the problem."""
        if self.place:
            return {"detail": self.detail, "in": self.place, "parameter": self.name}
        return {"detail": self.detail, "pointer": self.pointer}

    @property
    def where(self) -> str:
        """For log lines."""
        return f"{self.place} {self.name}" if self.place else self.pointer


class Malformed(Exception):
    """The body is not JSON that everybody reads alike. The message says why, and holds nothing of the body."""


def pointer(path: Iterable[str | int]) -> str:
    """The pointer to a place in a JSON value."""
    written = "#"
    for step in path:
        name = str(step)
        if len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]}…"
        written += "/" + quote(name.replace("~", "~0").replace("/", "~1"), safe=_FRAGMENT)
        if len(written) > _LONGEST_POINTER:
            return f"{written[:_LONGEST_POINTER]}…"
    return written


def listed(faults: Sequence[Fault]) -> dict[str, Any]:
    """The member `errors` of a problem."""
    return {"errors": [fault.member() for fault in faults[:MOST_FAULTS]]}
