"""The answers of the API about what the journal keeps."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.control.models.shapes import Answer
from gateway.control.models.words import Count, Instant


class IdempotencyRecords(Answer):
    """The records of one route in one state."""

    route: str
    state: Annotated[
        Literal["running", "finished", "unknown"],
        Field(description="unknown: it may have been carried out, and there is no answer that says so"),
    ]
    records: Count
    bytes: Annotated[Count, Field(description="Of the answers that are kept")]
    oldest_time: Instant


class Idempotency(Answer):
    """The records of idempotency keys in the journal, of all gateways that share it. No key is among it."""

    records: Count
    bytes: Count
    max_records: Count
    max_bytes: Count
    routes: list[IdempotencyRecords]


class IdempotencyCleanup(Answer):
    """What a clean-up of idempotency keys has done."""

    removed: Annotated[Count, Field(description="Records whose time was over; those that run stay")]
