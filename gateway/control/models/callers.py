"""The answers and inputs of the API about tenants and keys."""

from typing import Annotated

from pydantic import Field

from gateway.control.models.shapes import Answer, Input
from gateway.control.models.words import Count, Instant

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
_SCOPE = r"^[!#-\[\]-~]{1,64}$"
_A_CENTURY = 3_155_760_000.0


class Tenant(Answer):
    """What a tenant uses."""

    tenant: str
    tier: Annotated[str | None, Field(description="null: none")]
    used_today: Annotated[Count, Field(description="Requests of the fleet since midnight UTC, as of a second ago")]
    quota_per_day: Annotated[int | None, Field(description="null: unlimited")]
    in_flight: Annotated[Count, Field(description="At this gateway")]
    concurrency: Annotated[int | None, Field(description="Of this gateway; null: unlimited")]
    requests: Annotated[Count, Field(description="That the workers have let through since they started")]
    refused: Annotated[dict[str, int], Field(description="That they have refused, by reason")]


class Tenants(Answer):
    """Every tenant that is known here, the busiest first."""

    day: Annotated[str, Field(description="UTC", json_schema_extra={"format": "date"})]
    count: Count
    tenants: list[Tenant]


class Key(Answer):
    """An API key. Nothing here lets anybody use it."""

    id: str
    consumer: str
    tenant: str | None
    scopes: list[str]
    created_time: Instant
    not_after: Annotated[Instant | None, Field(description="null: for ever")]
    good: Annotated[bool, Field(description="Whether it is good now")]


class Keys(Answer):
    """The keys that Redis has; those of the YAML file are not among them."""

    count: Count
    keys: list[Key]


class AddKey(Input):
    """A new key. The gateway never gets the key itself: whoever makes it tells its SHA-256."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]{8,32}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="Of the whole key, in hexadecimal digits")]
    consumer: Annotated[str, Field(max_length=64, pattern=_NAME)]
    tenant: Annotated[str | None, Field(max_length=64, pattern=_NAME)] = None
    scopes: Annotated[list[Annotated[str, Field(pattern=_SCOPE)]], Field(max_length=64)] = Field(default_factory=list)
    lifetime: Annotated[float | None, Field(gt=0, le=_A_CENTURY, description="Seconds; null: for ever")] = None


class ExpireKey(Input):
    """When a key ends."""

    grace: Annotated[float, Field(ge=0, le=_A_CENTURY, description="Seconds from now")]


class KeyCommand(Answer):
    """What was done to which key."""

    action: str
    id: str
    consumer: str | None = None
