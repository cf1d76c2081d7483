"""The files that a configuration is read from, read once: what was read can be read again after the files have changed.

A gateway has several processes. All of one generation must have the same configuration, also one that is started a week
later in place of another, while somebody edits the files. So the first one reads the files, and what it has read is
given to the others.
"""

from collections.abc import Mapping
from pathlib import Path


class Texts:
    """Reads text files in UTF-8. `known` has texts by path, and None for a file that was not there: with it nothing is
    read from the disk, and a file that it does not have does not exist."""

    def __init__(self, known: Mapping[str, str | None] | None = None) -> None:
        self._known = known
        self.seen: dict[str, str | None] = {}
        """What was read so far, in the form of `known`."""

    def read(self, path: Path) -> str:
        """The text without a byte order mark. Raises as `Path.read_text` does."""
        name = str(path)
        if self._known is not None:
            text = self._known.get(name)
            if text is None:
                raise FileNotFoundError(2, "No such file or directory", name)
        else:
            try:
                text = path.read_text(encoding="utf-8-sig")
            except FileNotFoundError:
                self.seen[name] = None
                raise
        self.seen[name] = text
        return text
