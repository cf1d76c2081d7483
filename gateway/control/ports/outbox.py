"""What the control plane may know about the outbox, and what it may order (`gateway.views.outbox`).

No message's head or body is among it. Instants are in seconds since the epoch.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

MessageState = Literal["queued", "sending", "delivered", "dead", "damaged"]


class MessageView(NamedTuple):
    """One message. `status` is that of the last answer, 0 for none; `error` says what was wrong with it. `due_in` in
    seconds, None when nothing more is to be done. `orphaned`: it waits, and no route of this gateway delivers it."""

    id: str
    target: str
    state: MessageState
    attempts: int
    status: int
    error: str
    size: int
    correlation_id: str
    created_at: float
    ended_at: float | None
    due_in: float | None
    orphaned: bool


class MessageCount(NamedTuple):
    """The messages of one target in one state. `oldest` is the age of the oldest one in seconds, and `bytes` is
    the size of all of them together. `orphaned` means the same as for one message."""

    target: str
    state: MessageState
    messages: int
    oldest: float
    bytes: int
    orphaned: bool


class OutboxView(Protocol):
    """The messages in the journal, whichever gateway has taken them. Every method raises `JournalAway`
    (gateway.control.ports.journal)."""

    @property
    def max_pending(self) -> int:
        """Messages that may wait at most."""
        ...

    @property
    def max_bytes(self) -> int:
        """Bytes of messages that may wait at most."""
        ...

    async def counts(self) -> Sequence[MessageCount]:
        """All messages, by target and state."""
        ...

    async def messages(self, state: str, target: str, before: str, most: int) -> Sequence[MessageView]:
        """Up to `most` messages, the newest first; '' for every state, every target, from the newest on."""
        ...

    async def message(self, message_id: str) -> MessageView | None:
        """One message, None where there is none."""
        ...

    async def replay(self, message_id: str) -> bool:
        """Deliver one again; False where there is none, or it is being sent."""
        ...

    async def replay_range(self, state: Literal["delivered", "dead"], target: str, since: float, until: float) -> int:
        """Deliver those again that came in this time; how many."""
        ...
