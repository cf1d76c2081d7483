"""What the control plane sees of the outbox, and what it may order about it (gateway.control.ports.outbox)."""

from collections.abc import Sequence
from typing import Final, Literal

from gateway.config.sections.deliver.model import OutboxLimits
from gateway.control.ports.outbox import MessageCount, MessageView
from gateway.journal import outbox
from gateway.journal.cleaning import BATCH
from gateway.journal.outbox import Shown, State
from gateway.journal.outbox_backlog import counts
from gateway.journal.port import Journal
from gateway.views.journal import available

# Of one command: it is answered within the patience of whoever has asked.
_MOST_REPLAYED: Final = 10_000


class LiveOutbox:
    """The messages in the journal. `routed` are the routes that deliver: messages for others wait."""

    def __init__(self, journal: Journal, limits: OutboxLimits, routed: frozenset[str]) -> None:
        self.max_pending = limits.max_pending
        self.max_bytes = limits.max_bytes
        self._journal = journal
        self._routed = routed

    async def counts(self) -> Sequence[MessageCount]:
        """All messages, by target and state. Raises JournalAway."""
        found = await available(self._journal.read(counts()))
        return [MessageCount(*each, self._is_orphaned(each.target, each.state)) for each in found]

    async def messages(self, state: str, target: str, before: str, most: int) -> Sequence[MessageView]:
        """Up to `most` messages, the newest first. Raises JournalAway."""
        found = await available(self._journal.read(outbox.listed(state, target, before, most)))
        return [self._view(each) for each in found]

    async def message(self, message_id: str) -> MessageView | None:
        """One message. Raises JournalAway."""
        found = await available(self._journal.read(outbox.show(message_id)))
        return None if found is None else self._view(found)

    async def replay(self, message_id: str) -> bool:
        """Deliver one again; False where there is none, or it is being sent. Raises JournalAway."""
        return await available(self._journal.transact(outbox.replay(message_id)))

    async def replay_range(self, state: Literal["delivered", "dead"], target: str, since: float, until: float) -> int:
        """Deliver up to 10,000 of those again that came in this time, in small batches, the oldest first; how many.
        Raises JournalAway."""
        total, after = 0, (since, "")
        while total < _MOST_REPLAYED:
            done = await available(self._journal.transact(outbox.replay_range(state, target, after, until, BATCH)))
            total += done.messages
            if done.messages < BATCH or done.last is None:
                break
            after = done.last
        return total

    def _view(self, message: Shown) -> MessageView:
        return MessageView(*message, self._is_orphaned(message.target, message.state))

    def _is_orphaned(self, target: str, state: State) -> bool:
        return state in {"queued", "sending"} and target not in self._routed
