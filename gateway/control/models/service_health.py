"""The answers of the API about the health of the services."""

from typing import Annotated

from pydantic import Field

from gateway.control.models.shapes import Answer
from gateway.control.models.words import CircuitWord, Count, Fraction, HealthWord, Instant, Scope


class ServiceHealth(Answer):
    """The state of one service, and why it is not better."""

    service: str
    status: HealthWord
    circuit_state: CircuitWord | None
    error_rate: Fraction
    errors_per_minute: Annotated[float, Field(ge=0)]
    last_error_time: Instant | None
    reasons: list[str]


class ResilienceHealth(Answer):
    """Healthy: nothing to do. Degraded: watch, and look into it if it lasts. Unhealthy: act now."""

    status: HealthWord
    time: Instant
    reasons: Annotated[list[str], Field(description="What is wrong and what to do about it; empty when Healthy")]
    window_minutes: int
    services: list[ServiceHealth]
    active_alerts: Count
    scope: Scope
