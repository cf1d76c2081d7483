"""The answers and inputs of the API that are about faults on demand."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from gateway.control.models.shapes import Answer, Input
from gateway.control.models.words import REASON, Count, Instant, Seconds
from gateway.control.ports.faults import Kind

FAULT_ID = "^[a-z0-9-]{1,64}$"


def _whole(value: object) -> object:
    """To JSON Schema 412.0 is an integer (draft 2020-12 section 4.2.3)."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_WHOLE = BeforeValidator(_whole)

Percent = Annotated[float, Field(gt=0, le=100, json_schema_extra={"x-allowed": "above 0, at most 100"})]
_NAME = Field(min_length=1, max_length=255)
_FIELD = Field(
    pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$", json_schema_extra={"x-allowed": "the name of a header field"}
)


class FaultClients(Input):
    """Only a share of the clients, told apart by the value of a field. Requests without the field are not struck."""

    header: Annotated[str, _FIELD]
    percent: Percent


class FaultScope(Input):
    """What the fault is for: one upstream, and of it what else is given."""

    upstream: Annotated[str, _NAME]
    route: Annotated[str | None, _NAME, Field(description="Only requests of this route")] = None
    endpoint: Annotated[str | None, _NAME, Field(description="Only attempts at this endpoint, host:port")] = None
    clients: FaultClients | None = None


class NewFault(Input):
    """A fault. It ends by itself after `duration` seconds."""

    scope: Annotated[FaultScope, Field(examples=[{"upstream": "default"}])]
    kind: Annotated[Kind, Field(examples=["abort"])]
    percent: Annotated[
        Percent, Field(description="Of the attempts in its scope; at most FAULTS_MAX_PERCENT", examples=[10])
    ]
    duration: Annotated[float, Field(ge=1, le=86_400, description="Seconds; at most FAULTS_MAX_DURATION_SECONDS")]
    reason: Annotated[str, REASON]
    delay_ms: Annotated[float, Field(ge=1, le=60_000, description="How much later a delayed answer comes")] = 1000.0
    status: Annotated[int, Field(ge=400, le=599, description="What an aborted attempt is answered with"), _WHOLE] = 503
    bytes_per_second: Annotated[int, Field(ge=1, le=10_000_000, description="How fast a slow body comes"), _WHOLE] = (
        1024
    )


class Fault(Answer):
    """One fault that upstreams meet now."""

    id: str
    upstream: str
    route: Annotated[str | None, Field(description="null: every route")]
    endpoint: Annotated[str | None, Field(description="null: every endpoint")]
    client_header: Annotated[str | None, Field(description="The field that tells clients apart; null: it is for all")]
    client_percent: float
    kind: Kind
    percent: float
    does: Annotated[str, Field(description="What it does, in words")]
    reason: str
    by: str
    source: Annotated[Literal["api", "key"], Field(description="key: a key of Redis, written by hand")]
    until: Instant
    seconds_left: Seconds


class Faults(Answer):
    """The faults of now, and what one may ask for."""

    enabled: Annotated[bool, Field(description="FAULTS_ENABLED")]
    max_percent: float
    max_duration: Seconds
    count: Count
    faults: list[Fault]


class FaultsRemoved(Answer):
    """How many faults were ended."""

    removed: Count


class ChaosConfig(Answer):
    """The faults of one upstream, in the words of the failure-recovery runbook."""

    model_config = ConfigDict(alias_generator=None)

    upstream: str
    error_rate: Annotated[float, Field(ge=0, le=1, description="Share of the attempts that are answered with 503")]
    latency_ms: Annotated[float, Field(ge=0, description="How much later answers come")]
    lock_contention_ms: Annotated[float, Field(ge=0, description="The same as latency_ms, under its other name")]


class NewChaosConfig(Input):
    """What is to be changed; 0 ends it. What is left out stays as it is."""

    model_config = ConfigDict(alias_generator=None)

    error_rate: Annotated[float | None, Field(ge=0, le=1)] = None
    latency_ms: Annotated[float | None, Field(ge=0, le=60_000)] = None
    lock_contention_ms: Annotated[float | None, Field(ge=0, le=60_000)] = None
    duration: Annotated[
        float | None, Field(ge=1, le=86_400, description="Seconds; FAULTS_MAX_DURATION_SECONDS if not given")
    ] = None
    reason: Annotated[str, REASON] = "/chaos/config"


class Rehearsed(Answer):
    """What became of calls that were made up. The upstream has not heard of them."""

    upstream: str
    calls: Annotated[Count, Field(description="Calls that its circuit has seen")]
    circuit_state: Literal["Closed", "Open", "HalfOpen"]
