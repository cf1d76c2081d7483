"""The answers and inputs of the API about the endpoints of upstreams."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.control.models.shapes import Answer, Input
from gateway.control.models.words import REASON, Count, Instant, Scope


class Endpoint(Answer):
    """One address of an upstream, as this replica sees it."""

    upstream: str
    endpoint: str
    state: Annotated[
        Literal["enabled", "drained", "disabled"],
        Field(description="drained, disabled: no new requests, by an operator; disabled: no health checks either"),
    ]
    available: Annotated[bool, Field(description="Enabled, not ejected, and well by its health check")]
    healthy: bool
    ejected: bool
    in_flight: Count
    until: Annotated[Instant | None, Field(description="When it is enabled again by itself; null: it is")]
    reason: Annotated[str, Field(description="Why it was taken out; empty: it was not")]


class Endpoints(Answer):
    """Every endpoint, in the order of the configuration."""

    total: Count
    out: Annotated[Count, Field(description="How many an operator has taken out")]
    scope: Scope
    endpoints: list[Endpoint]


class TakeOut(Input):
    """`duration` in seconds; then the endpoint is enabled again by itself."""

    duration: Annotated[float, Field(ge=1, le=604_800, description="Seconds; at most a week")]
    reason: Annotated[str, REASON]


class EndpointCommand(Answer):
    """What was done."""

    action: Literal["drain", "disable", "enable"]
    scope: Annotated[
        Scope, Field(description="fleet: every replica follows; process: only this one, the store is away")
    ]
    endpoint: Endpoint
