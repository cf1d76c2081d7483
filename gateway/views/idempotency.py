"""What the control plane sees of idempotency keys, and what it may order about them (gateway.control.ports.journal)."""

from collections.abc import Sequence

from gateway.config.sections.idempotency.model import IdempotencyLimits
from gateway.control.ports.journal import IdempotencyCount
from gateway.idempotency.capacity import Capacity
from gateway.journal import idempotency as records
from gateway.journal.cleaning import Cleaner
from gateway.journal.port import Journal
from gateway.views.journal import available


class LiveIdempotency:
    """The records in the journal, whichever gateway has made them."""

    def __init__(self, journal: Journal, limits: IdempotencyLimits, cleaner: Cleaner, capacity: Capacity) -> None:
        self.max_records = limits.max_records
        self.max_bytes = limits.max_bytes
        self._journal = journal
        self._cleaner = cleaner
        self._capacity = capacity

    async def counts(self) -> Sequence[IdempotencyCount]:
        """All records, by route and state. Raises JournalAway."""
        return [IdempotencyCount(*each) for each in await available(self._journal.read(records.counts()))]

    async def clean(self) -> int:
        """Delete what is over now, and count what is left. Raises JournalAway."""
        deleted = await available(self._cleaner.clean())
        await available(self._capacity.look())
        return deleted
