"""Header fields that a route or an upstream sets, appends or removes."""

import re

from gateway.config.sections.headers.model import FieldChanges
from gateway.identity.withheld import spelt


class FieldEdits:
    """Made once for each route or upstream.

    What is set or removed goes in every spelling that an upstream behind CGI could take for it, so that a client cannot
    send a field of the same meaning (`gateway.identity.withheld`).
    """

    __slots__ = ("_removed", "added")

    def __init__(self, changes: FieldChanges) -> None:
        names = [*changes.remove, *(name for name, _ in changes.set)]
        patterns = [spelt(name) for name in names]
        self._removed: re.Pattern[bytes] | None = None
        if patterns:
            self._removed = re.compile(rb"^(?:%b):[^\r\n]*\r\n" % b"|".join(patterns), re.IGNORECASE | re.MULTILINE)
        self.added = "".join(f"{name}: {value}\r\n" for name, value in (*changes.set, *changes.append)).encode()

    def applied(self, lines: bytes) -> bytes:
        """Complete field lines, or a head that begins with its first line, with these changes."""
        if self._removed is not None:
            lines = self._removed.sub(b"", lines)
        return lines + self.added


def edits_of(changes: FieldChanges | None) -> FieldEdits | None:
    """None where nothing is changed."""
    return None if changes is None else FieldEdits(changes)
