"""The part of the store port that is about API keys: what replicas and operators share about them.

A key has a record of its own. An index says which keys there are and whose, so that nobody has more than `MOST_LIVE`
that are good at once. A list of changes says which records a replica must not go on using from its memory; a change
also raises the version of the circuits (`SyncAnswer.version`), so that replicas look at it within one interval.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

MOST_LIVE = 2
"""The keys of one consumer that are good at once: the one in use, and the one that takes its place."""

CHANGES_KEPT = 120.0
"""Seconds for which a change is told: longer than any replica uses a record without reading it again."""


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""Of a consumer or a tenant."""


class KeyRecord(NamedTuple):
    """What is kept of one key: never the key, but its SHA-256 in hexadecimal digits. `tenant` may be empty. Instants
    are seconds since the epoch; `not_after` None is for ever."""

    id: str
    sha256: str
    consumer: str
    tenant: str = ""
    scopes: tuple[str, ...] = ()
    not_after: float | None = None
    created_at: float = 0.0


class KeyStore(Protocol):
    """API keys. Every method raises `StoreUnavailable`, and nothing else."""

    async def read_keys(self, ids: Sequence[str]) -> Sequence[KeyRecord | None]:
        """The records of keys, in the order of the ids; None for a key that is not there."""
        ...

    async def add_key(self, record: KeyRecord) -> bool:
        """Add a key. False: the consumer has `MOST_LIVE` that are good already, or the id is taken."""
        ...

    async def expire_key(self, key_id: str, not_after: float) -> bool:
        """Let a key be good until the instant `not_after` at most. False: there is no such key."""
        ...

    async def revoke_key(self, key_id: str) -> bool:
        """Remove a key. False: there is none."""
        ...

    async def list_keys(self) -> Sequence[KeyRecord]:
        """Every key, by consumer and then in the order of creation."""
        ...

    async def changed_keys(self) -> Mapping[str, float]:
        """The ids of the keys that were changed within the last `CHANGES_KEPT` seconds, each with a number that grows
        with each of its changes."""
        ...
