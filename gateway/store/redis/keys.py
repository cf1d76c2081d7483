"""API keys in Redis (`lua/keys.lua`): the hash `{prefix}:key:{id}` for each, and what keeps them together.

`{prefix}:keys` is the index, `{prefix}:key-changes` are the ids of those that were changed lately.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.store.keys import CHANGES_KEPT, MOST_LIVE, NAME, KeyRecord
from gateway.store.port import StoreUnavailable
from gateway.store.redis.client import Arg, RedisClient, script
from gateway.syntax import units

_FIELDS = 6
_KEPT_MS = round(CHANGES_KEPT * 1000)


class RedisKeys:
    """The key part of the store port. Raises only `StoreUnavailable`."""

    def __init__(self, client: RedisClient, prefix: str) -> None:
        self._client = client
        self._record = f"{prefix}:key:"
        self._index = f"{prefix}:keys"
        self._changes = f"{prefix}:key-changes"
        self._script = script("keys")

    async def read(self, ids: Sequence[str]) -> Sequence[KeyRecord | None]:
        """See `KeyStore.read_keys`."""
        calls: list[tuple[Sequence[str], Sequence[Arg]]] = [((self._record + each,), ("read",)) for each in ids]
        answers = await self._client.run_many(self._script, calls)
        return [_record(key_id, answer) for key_id, answer in zip(ids, answers, strict=True)]

    async def add(self, record: KeyRecord) -> bool:
        """See `KeyStore.add_key`. The place in the index comes first: if the rest is lost, there is no key."""
        until = _instant(record.not_after)
        if not await self._run(self._index, "reserve", record.id, record.consumer, until, MOST_LIVE):
            return False
        fields = {"sha256": record.sha256, "consumer": record.consumer, "tenant": record.tenant}
        fields |= {"scopes": " ".join(record.scopes), "not_after": until, "created_at": _instant(record.created_at)}
        await self._run(self._record + record.id, "write", *(part for pair in fields.items() for part in pair))
        await self._changed(record.id)
        return True

    async def expire(self, key_id: str, not_after: float) -> bool:
        """See `KeyStore.expire_key`."""
        found = await self._run(self._record + key_id, "expire", _instant(not_after))
        await self._run(self._index, "shorten", key_id, _instant(not_after))
        await self._changed(key_id)
        return bool(found)

    async def revoke(self, key_id: str) -> bool:
        """See `KeyStore.revoke_key`. The record goes first: the rest only tidies up."""
        found = await self._run(self._record + key_id, "drop")
        await self._changed(key_id)
        return bool(await self._run(self._index, "release", key_id)) or bool(found)

    async def listed(self) -> Sequence[KeyRecord]:
        """See `KeyStore.list_keys`."""
        entries = await self._run(self._index, "all")
        ids = [_text(entry) for entry in entries[::2]]
        records = await self.read(ids) if ids else []
        there = [record for record in records if record is not None]
        return sorted(there, key=lambda record: (record.consumer, record.created_at, record.id))

    async def changed(self) -> Mapping[str, float]:
        """See `KeyStore.changed_keys`."""
        found = await self._run(self._changes, "changes", _KEPT_MS)
        return {_text(found[at]): float(found[at + 1]) for at in range(0, len(found), 2)}

    async def _changed(self, key_id: str) -> None:
        await self._run(self._changes, "changed", key_id, _KEPT_MS)

    async def _run(self, key: str, *arguments: Arg) -> Any:
        return await self._client.run(self._script, (key,), arguments)


def _record(key_id: str, answer: Any) -> KeyRecord | None:
    if not isinstance(answer, list) or len(answer) != _FIELDS:
        raise StoreUnavailable("Redis answered something else than asked")
    sha256, consumer, tenant, scopes, not_after, created_at = ("" if each is None else _text(each) for each in answer)
    # Names become header lines and parts of other keys, whoever has written them.
    if not (sha256 and NAME.fullmatch(consumer) and (not tenant or NAME.fullmatch(tenant))):
        return None
    until = _number(not_after)
    # What is not understood is no key that is good for ever.
    if until is None:
        return None
    return KeyRecord(key_id, sha256, consumer, tenant, tuple(scopes.split()), until or None, _number(created_at) or 0.0)


def _instant(value: float | None) -> str:
    return f"{value or 0.0:.3f}".rstrip("0").rstrip(".")


def _number(text: str) -> float | None:
    return units.number(text or "0")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
