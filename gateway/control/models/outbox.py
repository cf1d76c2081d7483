"""The answers and inputs of the API about the outbox."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.control.models.shapes import Answer, Input, only_of
from gateway.control.models.words import Count, Instant, Seconds
from gateway.control.ports.outbox import MessageState

MESSAGE_ID = r"^msg_[0-9a-z]{26}$"
_EPOCH_END = 253_402_300_799.0

State = Annotated[
    MessageState,
    Field(
        description="queued: it waits for its first or next attempt; dead: its last attempt has failed; damaged: the"
        " journal has another word"
    ),
]
Orphaned = Annotated[bool, Field(description="It waits to be delivered, and no route of this gateway delivers it")]
Target = Annotated[str | None, only_of("route")]


class OutboxMessage(Answer):
    """A message. Its head and body are told nowhere."""

    id: str
    target: Annotated[str, Field(description="The route that has taken it")]
    state: State
    attempts: Annotated[Count, Field(description="That were made")]
    last_status: Annotated[int | None, Field(description="Of the last answer; null: there was none")]
    last_error: Annotated[str | None, Field(description="What was wrong with the last attempt; null: nothing")]
    size: Annotated[Count, Field(description="Bytes of its body")]
    correlation_id: str
    created_time: Instant
    ended_time: Annotated[Instant | None, Field(description="When it was delivered or given up; null: not yet")]
    next_attempt_in: Annotated[float | None, Field(ge=0, description="Seconds; null: there is none")]
    orphaned: Orphaned


class OutboxCount(Answer):
    """The messages of one target in one state."""

    target: str
    state: State
    messages: Count
    oldest_seconds: Annotated[Seconds, Field(description="The age of the oldest, in seconds")]
    bytes: Annotated[Count, Field(description="Of their heads and bodies")]
    orphaned: Orphaned


class OutboxMessages(Answer):
    """The outbox of all gateways that share the journal: counted, and a page of messages, the newest first."""

    pending: Annotated[Count, Field(description="queued or sending")]
    dead: Count
    max_pending: Count
    pending_bytes: Annotated[Count, Field(description="Of the heads and bodies of those that are pending")]
    max_bytes: Count
    targets: list[OutboxCount]
    messages: list[OutboxMessage]
    next_page: Annotated[
        str | None, Field(description="The value of `before` for the next page; null: this is the last")
    ]


class ReplayRange(Input):
    """Which messages are delivered again: those that came in a time."""

    state: Annotated[Literal["delivered", "dead"], Field(description="Those in this state")] = "dead"
    target: Target = None
    since: Annotated[float, Field(ge=0, le=_EPOCH_END, description="From then on, in seconds since the epoch")]
    until: Annotated[float, Field(ge=0, le=_EPOCH_END, description="Before then, in seconds since the epoch")]


class Replayed(Answer):
    """How many messages are delivered again. There are more where it is 10000."""

    replayed: Count
