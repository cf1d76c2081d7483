"""The sections of the YAML file that say who may ask: `consumers`, `tenants`, `tiers`, and `allow` of a route."""

import datetime
from typing import Annotated

from annotated_types import Interval, Len
from pydantic import AfterValidator, BeforeValidator, Field

from gateway.config import addresses
from gateway.config.field_types import CallerName, KeyId, Name, Scope, Sha256
from gateway.config.schema import Allowed, Section
from gateway.policy.priority import Priority

_INSTANT_ALLOWED = "an instant with its offset (RFC 3339), such as 2027-01-31T00:00:00Z"
_MOST_KEYS = 2
_LIMIT_ALLOWED = "the name of a rate limit, or null for none"
_SOME = Len(1, 1000)
_SOME_ALLOWED = "a list of at least one; left out, any will do"
NO_LIMIT = "none"
"""What may stand in place of null for no rate limit."""


def limit_name(value: object) -> object:
    """The name of a rate limit, None where `none` is written."""
    return None if value == NO_LIMIT else value


def _instant(text: str) -> str:
    try:
        aware = datetime.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        aware = False
    return text if aware else addresses.reject(_INSTANT_ALLOWED)


LimitName = Annotated[str | None, BeforeValidator(limit_name), Allowed(_LIMIT_ALLOWED)]


class FileKey(Section):
    """One API key of a consumer, as `gateway keys create --yaml` prints it. The key itself is not in it."""

    id: KeyId
    sha256: Sha256 = Field(repr=False)
    not_after: Annotated[
        Annotated[str, AfterValidator(_instant), Allowed(_INSTANT_ALLOWED)] | None, Allowed(_INSTANT_ALLOWED)
    ] = None


class FileConsumer(Section):
    """One program that asks, with its keys."""

    tenant: Name | None = None
    scopes: list[Scope] = Field(default_factory=list)
    rate_limit: LimitName = None
    keys: Annotated[list[FileKey], Len(0, _MOST_KEYS), Allowed("a list of at most two keys")] = Field(
        default_factory=list
    )


class FileTenant(Section):
    """One customer, whose consumers share the limits of a tier."""

    tier: Annotated[str | None, Allowed("the name of a tier, or null for none")] = None


class FileTier(Section):
    """What each tenant of the tier may use."""

    rate_limit: LimitName = None
    concurrency: Annotated[int, Interval(ge=1, le=1_000_000)] | None = None
    quota_per_day: Annotated[int, Interval(ge=1, le=1_000_000_000_000)] | None = None
    priority: Priority | None = None


class Allow(Section):
    """Whom a route is for. An empty list is refused: whoever writes one may mean nobody, and would get everybody."""

    tenants: Annotated[list[Name], _SOME, Allowed(_SOME_ALLOWED)] = Field(default_factory=list)
    consumers: Annotated[list[CallerName], _SOME, Allowed(_SOME_ALLOWED)] = Field(default_factory=list)
    scopes: Annotated[list[Scope], _SOME, Allowed(_SOME_ALLOWED)] = Field(default_factory=list)
