"""The keys that this replica knows: those of the file for ever, those of the store for a while.

    known(credential)     the caller, if it is known here and now; most requests end here
    look_up(credential)   asks the store, once for all that wait for the same key, and tells later

A record of the store is used for `FRESH` seconds. In the last of them it is read again, before anybody has to wait.
While the store is away what was read last goes on being used, and keys that were not read cannot be judged
(`UNAVAILABLE`). A revocation is in the list of changes, which the exchange with the fleet reads within its interval
(`refresh`): what is in it is not used any more before it was read again, so a revoked key ends long before its record
is old. That it was good is remembered until then (`recognises`), because such a key may always be looked up.

A wrong secret and an unknown id take the same way, so that the time does not tell which ids exist: of both the digest
is computed and compared, both ask the store once, and nothing is remembered of either. How often an address may ask the
store is the gate's business; the digest of one key is cheaper than to count that.
"""

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from math import inf
from typing import Final, Protocol

from gateway.config.sections.identity.model import ConsumerConfig
from gateway.identity.credentials import Presented
from gateway.identity.tenants import Caller, Directory
from gateway.store.keys import KeyRecord
from gateway.store.port import StoreUnavailable

FRESH: Final = 30.0
"""Seconds for which a record may be used without reading it again."""
_RENEW: Final = 5.0
_MOST_CACHED: Final = 20_000
_NO_DIGEST: Final = bytes(32)


class Unavailable:
    """The type of `UNAVAILABLE`."""

    __slots__ = ()


UNAVAILABLE: Final = Unavailable()
"""In place of a caller: nobody can say now whose credential it is."""

Found = Caller | Unavailable | None
Told = Callable[[Found], None]
"""Called once with the caller, with None for a credential that is not good, or with `UNAVAILABLE`."""


Record = KeyRecord | StoreUnavailable | None
Read = Callable[[Record, float], None]
"""Called once with what the store has of a key, and the instant at which it was asked."""


class KeySource(Protocol):
    """Reads records for the ring (`gateway.identity.lookups`)."""

    @property
    def up(self) -> bool:
        """Whether the store answers."""
        ...

    def read(self, key_id: str, told: Read) -> None:
        """Ask for a record, and tell: at once, or later from the event loop."""
        ...


class _Known:
    """One key. It is read again from the instant `renew_at` on, and not used from `until` on. `not_after` is an instant
    of the wall clock, infinity for ever. One that is `changed` is not used at all."""

    __slots__ = ("caller", "changed", "digest", "not_after", "renew_at", "until")

    def __init__(self, digest: bytes, caller: Caller, not_after: float | None, until: float) -> None:
        self.digest = digest
        self.caller = caller
        self.not_after = inf if not_after is None else not_after
        self.until = until
        self.renew_at = until - _RENEW
        self.changed = False


class KeyRing:
    """`source` None: there are no keys but those of the file. Made and used on one event loop."""

    def __init__(
        self,
        consumers: Iterable[ConsumerConfig],
        directory: Directory,
        source: KeySource | None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._source = source
        self._clock = clock
        self._wall = wall
        self._changed_at = -inf
        self._cached: OrderedDict[str, _Known] = OrderedDict()
        self._of_file: dict[str, _Known] = {}
        for each in consumers:
            caller = directory.caller(each.name, each.tenant or "", each.scopes)
            for key in each.keys:
                self._of_file[key.id] = _Known(bytes.fromhex(key.sha256), caller, key.not_after, inf)

    def __repr__(self) -> str:
        return f"<KeyRing {len(self._of_file)} of the file, {len(self._cached)} cached>"

    @property
    def asks(self) -> bool:
        """Whether there is a store to ask."""
        return self._source is not None

    @property
    def available(self) -> bool:
        """Whether a key that is not known here can be judged now."""
        return self._source is None or self._source.up

    def known(self, presented: Presented, now: float) -> Caller | None:
        """The caller with this key, if it is known here and good; None says nothing yet. HOT."""
        key_id = presented.key_id
        known = self._of_file.get(key_id) or self._cached.get(key_id)
        if known is not None and now >= known.renew_at and not self._usable(key_id, known, now):
            known = None
        # Compared also where there is nothing to compare with: see above.
        good = hmac.compare_digest(_NO_DIGEST if known is None else known.digest, presented.digest)
        if known is None or not good:
            return None
        return None if known.not_after < inf and self._wall() >= known.not_after else known.caller

    def recognises(self, presented: Presented) -> bool:
        """Whether this very key was good when it was last read, though it may have to be read again."""
        known = self._cached.get(presented.key_id)
        return hmac.compare_digest(_NO_DIGEST if known is None else known.digest, presented.digest)

    def look_up(self, presented: Presented, told: Told) -> None:
        """Ask the store whose key this is. Without a store nobody has it."""
        source = self._source
        if source is None:
            told(None)
            return
        source.read(presented.key_id, lambda record, asked_at: told(self._judged(presented, record, asked_at)))

    def forget(self, ids: Iterable[str]) -> None:
        """These keys were changed: read them again before they are used, also where a reading is under way."""
        self._changed_at = self._clock()
        for key_id in ids:
            known = self._cached.get(key_id)
            if known is not None:
                known.changed = True
                known.renew_at = -inf

    def forget_callers(self) -> None:
        """The callers are others from now on: every record of the store is read again before it is used."""
        self._cached.clear()

    def _judged(self, presented: Presented, record: Record, asked_at: float) -> Found:
        if isinstance(record, StoreUnavailable):
            return UNAVAILABLE
        digest = _NO_DIGEST if record is None else _digest(record.sha256)
        good = hmac.compare_digest(digest, presented.digest)
        if record is not None and not good:
            return None
        known = self._keep(presented.key_id, record, asked_at)
        return known.caller if known is not None and self._wall() < known.not_after else None

    def _usable(self, key_id: str, known: _Known, now: float) -> bool:
        """Whether a record that gets old may still be used. It is asked for once more before it is too old."""
        source = self._source
        if known.changed:
            return False
        if source is None or not source.up:
            return True
        if now >= known.until:
            return False
        known.renew_at = known.until
        source.read(key_id, lambda record, asked_at: self._renewed(key_id, record, asked_at))
        return True

    def _renewed(self, key_id: str, record: Record, asked_at: float) -> None:
        if not isinstance(record, StoreUnavailable):
            self._keep(key_id, record, asked_at)

    def _keep(self, key_id: str, record: KeyRecord | None, asked_at: float) -> _Known | None:
        if record is None:
            self._cached.pop(key_id, None)
            return None
        caller = self._directory.caller(record.consumer, record.tenant, frozenset(record.scopes))
        known = _Known(_digest(record.sha256), caller, record.not_after, self._clock() + FRESH)
        if asked_at > self._changed_at:
            self._cached[key_id] = known
            self._cached.move_to_end(key_id)
            if len(self._cached) > _MOST_CACHED:
                self._cached.popitem(last=False)
        return known


def _digest(text: str) -> bytes:
    """What is stored of a key. `_NO_DIGEST`, which no key has, where that is not understood."""
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        return _NO_DIGEST
    return digest if len(digest) == len(_NO_DIGEST) else _NO_DIGEST
