"""The field with which a request may say that it matters less than others of its route (`PRIORITY_HEADER`)."""

import re

from gateway.policy.priority import PRIORITIES, class_of


class PriorityHeader:
    """Reads the field `name`, whose value is the name of a class, in any case. Anything else says nothing."""

    __slots__ = ("_line",)

    def __init__(self, name: str) -> None:
        words = "|".join(PRIORITIES)
        pattern = f"^{re.escape(name)}:[ \\t]*({words})[ \\t]*\\r\\n"
        self._line = re.compile(pattern.encode(), re.IGNORECASE | re.MULTILINE)

    def lowered(self, priority: int, lines: bytes) -> int:
        """The class of a request of `priority` with these field lines. Of several such fields the lowest counts; none
        makes it better than it was."""
        for found in self._line.findall(lines):
            priority = max(priority, class_of(found.decode().lower()))
        return priority
