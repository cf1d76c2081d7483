"""What the control plane may know about the journal and what is in it, and what it may order
(`gateway.views.idempotency`). No key is among it: the journal itself has none."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol


class JournalView(NamedTuple):
    """The journal as this worker last found it. `trouble` says in words what is wrong, empty while it works; it names
    no user and no password. `since` is when that last changed, in seconds since the epoch."""

    works: bool
    trouble: str
    since: float


class JournalAway(Exception):
    """The journal cannot be asked. `str()` says why."""


class IdempotencyCount(NamedTuple):
    """The records of one route in one state. `oldest` is the time of the oldest, in seconds since the epoch."""

    route: str
    state: Literal["running", "finished", "unknown"]
    records: int
    bytes: int
    oldest: float


class IdempotencyView(Protocol):
    """Idempotency keys. Every method raises `JournalAway`."""

    @property
    def max_records(self) -> int:
        """Records kept at most."""
        ...

    @property
    def max_bytes(self) -> int:
        """Bytes of answers kept at most."""
        ...

    async def counts(self) -> Sequence[IdempotencyCount]:
        """All records, by route and state."""
        ...

    async def clean(self) -> int:
        """Delete what is over now; how many records that were."""
        ...
