"""What the control plane may know about tenants and their keys, and what it may order (`gateway.views.identity`)."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol


class TenantView(NamedTuple):
    """One tenant. `used` is its requests of the day in the fleet; `in_flight` are those of now, of `concurrency` that
    may be. Since the start `requests` were let through, and `refused` were not, by reason. None is unlimited."""

    tenant: str
    tier: str
    used: int
    quota: int | None
    in_flight: int
    concurrency: int | None
    requests: int
    refused: dict[str, int]


class KeyView(NamedTuple):
    """One API key as it is listed. Nothing here lets anybody make the key itself. Instants are seconds since the
    epoch."""

    id: str
    consumer: str
    tenant: str
    scopes: tuple[str, ...]
    created_at: float
    not_after: float | None
    good: bool


class NewKeyView(NamedTuple):
    """A key that is to be. `sha256` in hexadecimal digits is all that is told of the key itself."""

    id: str
    sha256: str
    consumer: str
    tenant: str
    scopes: tuple[str, ...]
    not_after: float | None


class KeysUnavailable(Exception):
    """Redis is away, or there is none. `str()` says which."""


class CallersView(Protocol):
    """Tenants and keys. What is about keys raises `KeysUnavailable`."""

    @property
    def day(self) -> str:
        """The present day of UTC, as 2027-01-31."""
        ...

    @property
    def tenants(self) -> Iterable[TenantView]:
        """Every tenant that is known here."""
        ...

    async def keys(self) -> Sequence[KeyView]:
        """Every key in Redis."""
        ...

    async def add_key(self, key: NewKeyView) -> bool:
        """Add a key. False: the consumer has two already, or the id is taken."""
        ...

    async def expire_key(self, key_id: str, not_after: float) -> bool:
        """Let a key end at an instant. False: there is no such key."""
        ...

    async def revoke_key(self, key_id: str) -> bool:
        """End a key now. False: there is no such key."""
        ...
