"""Idempotency keys: the settings of routes, and of the records in the journal."""

from typing import Annotated, Literal

from annotated_types import Interval, Len
from pydantic import Field

from gateway.config.idempotency_model import IdempotencyConfig, IdempotencyLimits
from gateway.config.schema import Allowed, Bytes, Env, Hours, Seconds, Section

SQLITE_RECORDS = 10_000
POSTGRESQL_RECORDS = 1_000_000
_METHODS = "a list of POST, PATCH, PUT, DELETE"
_HOUR = 3600.0

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


def idempotency_config(section: Idempotency) -> IdempotencyConfig | None:
    """The domain type of a route, None where keys mean nothing."""
    if section.mode == "off":
        return None
    return IdempotencyConfig(
        required=section.mode == "required",
        methods=frozenset(section.methods),
        ttl=section.ttl * _HOUR,
        wait=section.wait,
        max_response_bytes=section.max_response_bytes,
        on_unknown=section.on_unknown,
        scope=section.scope,
        on_store_failure=section.on_store_failure,
    )


def limits_config(section: IdempotencyRecords, *, sqlite: bool) -> IdempotencyLimits:
    """The domain type; what is not set depends on where the journal is."""
    usual = SQLITE_RECORDS if sqlite else POSTGRESQL_RECORDS
    return IdempotencyLimits(
        usual if section.max_records is None else section.max_records,
        section.max_bytes,
        section.cleanup_interval * _HOUR,
    )
