"""What Python hooks have made of one request (`gateway.proxy.hooks`)."""

from gateway.hooks import RequestHead
from gateway.proxy.field_edits import FieldEdits


class Hooked:
    """What the hooks of the route have made of one request. `head` is what the next one is shown; `path` has the query.
    Nothing is `changed` as long as none of them wanted it, and neither is its answer (`answer_changed`)."""

    __slots__ = ("_edits", "answer_changed", "changed", "head", "path")

    def __init__(self, head: RequestHead, path: bytes) -> None:
        self.head = head
        self.path = path
        self.changed = False
        self.answer_changed = False
        self._edits: list[FieldEdits] = []

    def applied(self, lines: bytes) -> bytes:
        """Field lines with the changes."""
        for each in self._edits:
            lines = each.applied(lines)
        return lines

    @property
    def added(self) -> bytes:
        """All field lines that they have set or appended."""
        return b"".join([each.added for each in self._edits])

    def change(self, edits: FieldEdits | None, path: bytes | None) -> None:
        """Another hook wants to have something changed. `head` is to be replaced then."""
        self.changed = True
        if edits is not None:
            self._edits.append(edits)
        if path is not None:
            self.path = path
