"""What the control plane sees of tenants and keys, and what it may order about them (gateway.control.ports.callers)."""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from gateway.control.ports.callers import KeysUnavailable, KeyView, NewKeyView, TenantView
from gateway.fleet.link import Link
from gateway.identity.tenants import Directory
from gateway.identity.usage import Usage
from gateway.store.keys import KeyRecord, KeyStore
from gateway.store.port import StoreUnavailable

_NO_REDIS = "There is no Redis for keys: put them into the YAML file (gateway keys create --yaml)."
_AWAY = "Redis is away, so keys can be neither read nor changed."
_T = TypeVar("_T")


class LiveCallers:
    """`store` None: keys are those of the file alone."""

    def __init__(
        self,
        directory: Directory,
        usage: Usage,
        store: KeyStore | None,
        link: Link,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._usage = usage
        self._store = store
        self._link = link
        self._wall = wall

    @property
    def day(self) -> str:
        """The present day of UTC."""
        return self._usage.day

    @property
    def tenants(self) -> Iterator[TenantView]:
        """Every tenant that this replica knows."""
        for account in self._directory.accounts:
            yield TenantView(
                account.tenant,
                account.tier,
                account.used,
                account.quota,
                account.in_flight,
                account.host_concurrency,
                account.requests,
                dict(account.refused),
            )

    async def keys(self) -> Sequence[KeyView]:
        """Every key in Redis. Raises `KeysUnavailable`."""
        now = self._wall()
        return [
            KeyView(
                record.id,
                record.consumer,
                record.tenant,
                record.scopes,
                record.created_at,
                record.not_after,
                record.not_after is None or record.not_after > now,
            )
            for record in await self._asked(self._keys().list_keys())
        ]

    async def add_key(self, key: NewKeyView) -> bool:
        """See `CallersView.add_key`."""
        record = KeyRecord(key.id, key.sha256, key.consumer, key.tenant, key.scopes, key.not_after, self._wall())
        return await self._asked(self._keys().add_key(record))

    async def expire_key(self, key_id: str, not_after: float) -> bool:
        """See `CallersView.expire_key`."""
        return await self._asked(self._keys().expire_key(key_id, not_after))

    async def revoke_key(self, key_id: str) -> bool:
        """See `CallersView.revoke_key`."""
        return await self._asked(self._keys().revoke_key(key_id))

    def _keys(self) -> KeyStore:
        if self._store is None:
            raise KeysUnavailable(_NO_REDIS)
        return self._store

    async def _asked(self, call: Awaitable[_T]) -> _T:
        try:
            return await call
        except StoreUnavailable as error:
            self._link.lost(error)
            raise KeysUnavailable(_AWAY) from error
