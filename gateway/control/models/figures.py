"""The answers of the API about the figures of the services."""

from typing import Annotated

from pydantic import ConfigDict, Field

from gateway.control.models.shapes import Answer
from gateway.control.models.words import CircuitWord, Count, Fraction, HealthWord, Instant, Scope


class ErrorsByCategory(Answer):
    """All ten, in the runbook's words."""

    model_config = ConfigDict(alias_generator=None)

    Timeout: Count = 0
    Network: Count = 0
    Authentication: Count = 0
    Validation: Count = 0
    RateLimit: Count = 0
    InvalidState: Count = 0
    Cancellation: Count = 0
    Configuration: Count = 0
    Dependency: Count = 0
    Unknown: Count = 0


class ErrorRate(Answer):
    """How often a service failed within a window."""

    service: str
    window_minutes: Annotated[int, Field(ge=1, le=60)]
    error_rate: Annotated[Fraction, Field(description="failedRequests / requests; below 0.05 is healthy")]
    errors_per_minute: Annotated[float, Field(ge=0, description="errors / windowMinutes; below 10 is healthy")]
    requests: Annotated[Count, Field(description="Requests that are over")]
    failed_requests: Annotated[Count, Field(description="Of these, the ones that ended in a 5xx or were cut off")]
    errors: Annotated[
        Count, Field(description="Failed attempts, retried ones included, and refusals with a 5xx status")
    ]
    refused: Annotated[Count, Field(description="Refusals with a 4xx status: the limits at work, no failure")]
    errors_by_category: Annotated[ErrorsByCategory, Field(description="They sum up to errors + refused")]
    last_error_time: Annotated[Instant | None, Field(description="null: none within the hour")]
    scope: Scope


class ServiceMetrics(ErrorRate):
    """The figures of a service and the state of its circuit."""

    status: HealthWord
    circuit_state: Annotated[CircuitWord | None, Field(description="null: the gateway itself, which has no circuit")]


class Metrics(Answer):
    """The figures of every service. The gateway itself is the last: requests that concerned no upstream."""

    window_minutes: int
    services: list[ServiceMetrics]


class Reset(Answer):
    """What was forgotten, and where."""

    service: str
    figures: Scope
    circuit: Annotated[Scope | None, Field(description="null: the gateway itself has no circuit")]
    circuit_state: CircuitWord | None
