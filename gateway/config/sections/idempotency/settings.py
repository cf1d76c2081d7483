"""Idempotency keys: the settings of routes, and of the records in the journal."""

from typing import Annotated, Literal

from annotated_types import Interval, Len
from pydantic import Field

from gateway.config.declaring.section import Allowed, Bytes, Env, Hours, Seconds, Section

SQLITE_RECORDS = 10_000
POSTGRESQL_RECORDS = 1_000_000
_METHODS = "a list of POST, PATCH, PUT, DELETE"

KeyMethod = Literal["POST", "PATCH", "PUT", "DELETE"]


def _usual_methods() -> list[KeyMethod]:
    return ["POST", "PATCH"]


class Idempotency(Section):
    """Idempotency keys of a route"""

    mode: Annotated[
        Literal["off", "optional", "required"],
        Env("IDEMPOTENCY_MODE", "Whether Idempotency-Key means something, and whether it must be there"),
    ] = "off"
    methods: Annotated[
        list[KeyMethod],
        Len(1, 4),
        Allowed(_METHODS),
        Env("IDEMPOTENCY_METHODS", "Methods for which it does"),
    ] = Field(default_factory=_usual_methods)
    ttl: Annotated[
        Hours,
        Interval(ge=0.01, le=8760),
        Env("IDEMPOTENCY_DEFAULT_TTL_HOURS", "How long a key is known after its first request"),
    ] = 24.0
    wait: Annotated[
        Seconds,
        Interval(ge=0, le=60),
        Env("IDEMPOTENCY_WAIT_SECONDS", "How long a repetition waits for the first request, before it gets 409"),
    ] = 0.0
    max_response_bytes: Annotated[
        Bytes,
        Interval(ge=0, le=16_777_216),
        Env("IDEMPOTENCY_MAX_RESPONSE_BYTES", "Largest answer that is repeated; of larger ones the status is kept"),
    ] = 65_536
    on_unknown: Annotated[
        Literal["block", "retry"],
        Env("IDEMPOTENCY_ON_UNKNOWN", "A key whose request may have been carried out: 409, or let it be tried again"),
    ] = "block"
    scope: Annotated[
        Literal["client", "tenant"],
        Env("IDEMPOTENCY_SCOPE", "Whose keys they are: the consumer's, else the address's; or those of its tenant"),
    ] = "client"
    on_store_failure: Annotated[
        Literal["closed", "open"],
        Env("IDEMPOTENCY_ON_STORE_FAILURE", "Without the journal: refuse, or pass without the promise"),
    ] = "closed"


class IdempotencyRecords(Section):
    """Idempotency keys: the records in the journal"""

    max_records: Annotated[
        int | None,
        Interval(ge=1, le=1_000_000_000),
        Env(
            "IDEMPOTENCY_MAX_RECORDS",
            "Records kept; beyond it the oldest finished ones go",
            f"{SQLITE_RECORDS} in SQLite, {POSTGRESQL_RECORDS} in PostgreSQL",
        ),
    ] = None
    max_bytes: Annotated[
        Bytes,
        Interval(ge=65_536, le=1_099_511_627_776),
        Env("IDEMPOTENCY_MAX_BYTES", "Bytes of answers kept; beyond it the oldest finished records go"),
    ] = 268_435_456
    cleanup_interval: Annotated[
        Hours,
        Interval(ge=0.001, le=168),
        Env("IDEMPOTENCY_CLEANUP_INTERVAL_HOURS", "How often what is over is deleted"),
    ] = 1.0
