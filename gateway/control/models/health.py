"""The answers of `/health`, `/livez`, `/readyz` and `/status/breakers`, in the names that load balancers know."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

Word = Literal["healthy", "degraded", "unhealthy"]


class Check(BaseModel):
    """One part of the gateway, with figures of its own."""

    model_config = ConfigDict(extra="allow")

    status: Literal["healthy", "degraded", "unhealthy", "disabled"]


class HealthReport(BaseModel):
    """`/health`. Always 200: see `status`."""

    status: Word
    service: str
    version: str
    uptime_seconds: Annotated[float, Field(ge=0)]
    reasons: Annotated[list[str], Field(description="What is wrong and what to do about it; empty when healthy")]
    checks: dict[str, Check]


class Alive(BaseModel):
    """The answer of `/livez`."""

    status: Literal["alive"]


class Ready(BaseModel):
    """The answer of `/readyz`."""

    status: Literal["ready"]


class Breaker(BaseModel):
    """One circuit as `/status/breakers` shows it."""

    state: Literal["closed", "open", "half_open"]
    value: Annotated[Literal[0, 1, 2], Field(description="As the gauge breaker_state")]
    forced: bool
    failures: Annotated[int, Field(ge=0)]
    retry_after: Annotated[float, Field(ge=0)]
    since: str | None
    cause: str
    generation: int


class Breakers(RootModel[dict[str, Breaker]]):
    """By upstream."""
