"""Files that somebody may replace while the process runs, such as certificates.

A change counts when two looks in a row have found the files the same, so that a file which is just being written is not
taken for the new one. What is looked at is the file that a name leads to, so that a swap of symbolic links, as
Kubernetes does for a mounted secret, counts as a change.
"""

import contextlib
import os
from collections.abc import Sequence
from typing import Final

INTERVAL: Final = 1.0
"""Seconds between two looks, for those who look."""

_Seen = tuple[tuple[int, int, int, int], ...] | None


class WatchedFiles:
    """`files` as they are when this is made count as known. Every method blocks for as long as the file system does."""

    def __init__(self, files: Sequence[str]) -> None:
        self._files = tuple(files)
        self._known = self._seen = self._look()

    def changed(self) -> bool:
        """One look. Whether the files are others than those that are known; they are known from then on."""
        found = self._look()
        if found != self._seen:
            self._seen = found
            return False
        if found == self._known:
            return False
        self._known = found
        return True

    def know(self) -> None:
        """The files as they are now are known."""
        self._known = self._seen = self._look()

    def _look(self) -> _Seen:
        """What tells one version of the files from another. None: one of them is not there."""
        with contextlib.suppress(OSError):
            found = [os.stat(name) for name in self._files]  # noqa: PTH116 - follows links, every second
            return tuple((each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in found)
        return None
