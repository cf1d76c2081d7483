"""The outbox: what a route with `deliver` says, and the limits of all of them."""

from typing import Annotated

from annotated_types import Interval, Len
from pydantic import Field

from gateway.config.declaring.field_types import FieldName, FileName
from gateway.config.declaring.section import Bytes, Env, Hours, Meaning, Seconds, Section
from gateway.config.sections.deliver.model import DeliverConfig

Pause = Annotated[Seconds, Interval(ge=0.1, le=604_800)]


def _usual_schedule() -> list[float]:
    return list(DeliverConfig().schedule)


class Deliver(Section):
    """How the requests of a route are delivered later."""

    enabled: Annotated[bool, Meaning("Answer 202 once the request is in the journal, and deliver it then")] = False
    schedule: Annotated[list[Pause], Len(0, 50), Meaning("Pauses after the first attempt and each further one")] = (
        Field(default_factory=_usual_schedule)
    )
    jitter: Annotated[float, Interval(ge=0, le=1), Meaning("By up to so much of itself a pause is longer")] = 0.2
    timeout: Annotated[Seconds, Interval(ge=0.1, le=300), Meaning("Bounds one attempt")] = 15.0
    concurrency: Annotated[int, Interval(ge=1, le=100), Meaning("Attempts at once, of each worker")] = 4
    order_by: Annotated[
        FieldName | None,
        Meaning("A field of the request: of messages with one value of it one is under way, in order", "none"),
    ] = None
    secret_file: Annotated[
        FileName | None,
        Meaning("Secrets that sign the messages (Standard Webhooks), `whsec_…`, one a line", "not signed"),
    ] = None
    max_message_bytes: Annotated[Bytes, Interval(ge=0, le=16_777_216), Meaning("Largest body; beyond it 413")] = 65_536


class Outbox(Section):
    """The outbox, for routes with `deliver`"""

    max_pending: Annotated[
        int,
        Interval(ge=1, le=10_000_000),
        Env("OUTBOX_MAX_PENDING", "Messages that wait to be delivered; beyond it requests get 503"),
    ] = 100_000
    max_bytes: Annotated[
        Bytes,
        Interval(ge=1024, le=1_099_511_627_776),
        Env("OUTBOX_MAX_BYTES", "Bytes of messages that wait, heads and bodies; beyond it requests get 503"),
    ] = 1_073_741_824
    delivered_retention: Annotated[
        Hours,
        Interval(ge=0, le=8760),
        Env("OUTBOX_DELIVERED_RETENTION_HOURS", "How long a message is kept after it was delivered"),
    ] = 24.0
    dead_retention: Annotated[
        Hours,
        Interval(ge=0.01, le=87_600),
        Env("OUTBOX_DEAD_RETENTION_HOURS", "How long a message is kept after its last attempt has failed"),
    ] = 720.0
