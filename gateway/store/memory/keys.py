"""API keys in this process: the reference for `lua/keys.lua`, which does the same."""

from collections.abc import Callable, Mapping, Sequence
from math import inf, nextafter

from gateway.store.keys import CHANGES_KEPT, MOST_LIVE, KeyRecord


class KeyTable:
    """The keys that several replicas of one process share. `clock` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._records: dict[str, KeyRecord] = {}
        self._changes: dict[str, float] = {}

    def read(self, ids: Sequence[str]) -> Sequence[KeyRecord | None]:
        """See `KeyStore.read_keys`."""
        return [self._records.get(each) for each in ids]

    def add(self, record: KeyRecord) -> bool:
        """See `KeyStore.add_key`."""
        now = self._clock()
        live = [
            each
            for each in self._records.values()
            if each.consumer == record.consumer and (each.not_after is None or each.not_after > now)
        ]
        if record.id in self._records or len(live) >= MOST_LIVE:
            return False
        self._records[record.id] = record
        self._change(record.id)
        return True

    def expire(self, key_id: str, not_after: float) -> bool:
        """See `KeyStore.expire_key`."""
        record = self._records.get(key_id)
        self._change(key_id)
        if record is None:
            return False
        if record.not_after is None or not_after < record.not_after:
            self._records[key_id] = record._replace(not_after=not_after)
        return True

    def revoke(self, key_id: str) -> bool:
        """See `KeyStore.revoke_key`."""
        self._change(key_id)
        return self._records.pop(key_id, None) is not None

    def listed(self) -> Sequence[KeyRecord]:
        """See `KeyStore.list_keys`."""
        return sorted(self._records.values(), key=lambda record: (record.consumer, record.created_at, record.id))

    def changed(self) -> Mapping[str, float]:
        """See `KeyStore.changed_keys`."""
        now = self._clock()
        return {key_id: at for key_id, at in self._changes.items() if at >= now - CHANGES_KEPT}

    def _change(self, key_id: str) -> None:
        # Two changes within one tick of the clock are two.
        self._changes[key_id] = max(self._clock(), nextafter(self._changes.get(key_id, 0.0), inf))
