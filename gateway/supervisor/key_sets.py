"""The key sets of issuers as workers have fetched them last, for the workers that come after them.

A worker that begins says which sources it has, and gets what was fetched last from each of them. After that it tells of
each key set that it fetches itself. Without this, a worker that begins while an issuer is away would have no keys.

A source is a text that means nothing here: workers choose it, so that another address is another source. Of two fetches
of a source the one that was begun later counts. Its instant is of the monotonic clock, which all processes of a machine
share, so that a key set grows older while it is handed on.

The sources of workers that are gone are kept until the next worker begins, because it may be the successor of the last
one. Those that no worker has are forgotten then. So there are at most the issuers of each configuration that is in use.
The size of a key set is bounded by whoever fetches it (`gateway.identity.key_sources`).
"""

from collections.abc import Iterable
from typing import Any

from gateway.supervisor.totals import Worker

KeySet = tuple[float, str]
"""When its fetch began, and the text as it came."""


class KeySets:
    """Key sets are public keys: nothing here is secret."""

    def __init__(self) -> None:
        self._sources: dict[Worker, frozenset[str]] = {}
        self._kept: dict[str, KeySet] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def begun(self, worker: Worker, sources: Iterable[str]) -> dict[str, KeySet]:
        """A worker begins, and has these sources. Returns what is known of them."""
        own = self._sources[worker] = frozenset(sources)
        used = frozenset().union(*self._sources.values())
        self._kept = {source: key_set for source, key_set in self._kept.items() if source in used}
        return {source: key_set for source, key_set in self._kept.items() if source in own}

    def fetched(self, worker: Worker, source: str, begun_at: float, text: str) -> None:
        """A worker has fetched a key set from one of its sources."""
        if source not in self._sources.get(worker, ()):
            return
        kept = self._kept.get(source)
        if kept is None or kept[0] < begun_at:
            self._kept[source] = begun_at, text

    def ended(self, worker: Worker) -> None:
        """A worker is gone."""
        self._sources.pop(worker, None)

    def dump(self) -> dict[str, Any]:
        """Everything, as plain data."""
        sources = [[*worker, sorted(own)] for worker, own in self._sources.items()]
        return {"sources": sources, "kept": self._kept}

    @classmethod
    def restored(cls, dumped: dict[str, Any]) -> "KeySets":
        """From what `dump` gave."""
        key_sets = cls()
        key_sets._sources = {(slot, pid): frozenset(own) for slot, pid, own in dumped["sources"]}
        key_sets._kept = {source: (begun_at, text) for source, (begun_at, text) in dumped["kept"].items()}
        return key_sets
