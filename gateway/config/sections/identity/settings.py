"""Who may ask: how requests prove who sends them, and the sections `consumers`, `tenants` and `tiers` of the YAML file,
with `allow` of a route.
"""

import datetime
import re
from typing import Annotated

from annotated_types import Interval, Len
from pydantic import AfterValidator, BeforeValidator, Field

from gateway.config.declaring import addresses
from gateway.config.declaring.field_types import CallerName, FieldName, KeyId, Name, Scope, Sha256
from gateway.config.declaring.section import Allowed, Env, Meaning, Section
from gateway.policy.priority import Priority

_KEY_FIELD_ALLOWED = "the name of a field that requests use for nothing else, such as X-API-Key"
TAKEN = frozenset(
    {"accept", "accept-encoding", "accept-language", "cache-control", "connection", "content-encoding"}
    | {"content-length", "content-type", "cookie", "date", "expect", "forwarded", "host", "idempotency-key"}
    | {"keep-alive", "max-forwards", "origin", "proxy", "proxy-authenticate", "proxy-authorization", "range"}
    | {"proxy-connection", "referer", "te", "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade"}
    | {
        "user-agent",
        "via",
        "x-consumer",
        "x-correlation-id",
        "x-gateway-debug",
        "x-real-ip",
        "x-request-id",
        "x-tenant",
    }
)
"""Fields in which no key can come: the gateway takes them out or reads something else in them, or an upstream needs
them, who gets none of what is in the field for keys."""

_PARAMETER = re.compile(r"[A-Za-z0-9_.~-]{1,64}")
_PARAMETER_ALLOWED = "the name of a query parameter: up to 64 letters, digits and _ . ~ -"


def _free(name: str) -> str:
    low = name.lower()
    return addresses.reject(_KEY_FIELD_ALLOWED) if low in TAKEN or low.startswith("x-forwarded") else name


def _parameter(name: str) -> str:
    return name if _PARAMETER.fullmatch(name) else addresses.reject(_PARAMETER_ALLOWED)


class Identity(Section):
    """Authentication"""

    api_key_header: Annotated[
        Annotated[FieldName, AfterValidator(_free), Allowed(_KEY_FIELD_ALLOWED)],
        Env("API_KEY_HEADER", "The field that an API key may come in, besides Authorization: Bearer"),
    ] = "X-API-Key"
    api_key_query: Annotated[
        Annotated[str, AfterValidator(_parameter), Allowed(_PARAMETER_ALLOWED)] | None,
        Env("API_KEY_QUERY", "The query parameter that an API key may come in, too", "no key counts in the query"),
    ] = None


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

    id: Annotated[KeyId, Meaning("The part of the key that is public")]
    sha256: Annotated[Sha256, Meaning("Of the whole key")] = Field(repr=False)
    not_after: Annotated[
        Annotated[str, AfterValidator(_instant), Allowed(_INSTANT_ALLOWED)] | None,
        Allowed(_INSTANT_ALLOWED),
        Meaning("Until when it is good", "for ever"),
    ] = None


class FileConsumer(Section):
    """One program that asks, with its keys."""

    tenant: Annotated[Name | None, Meaning("Whose limits it shares", "none")] = None
    scopes: Annotated[list[Scope], Meaning("What it may, for `allow.scopes` of routes", "nothing")] = Field(
        default_factory=list
    )
    rate_limit: Annotated[LimitName, Meaning("A rate limit for it alone, on top of all others", "none")] = None
    keys: Annotated[
        list[FileKey],
        Len(0, _MOST_KEYS),
        Allowed("a list of at most two keys"),
        Meaning("Its keys as `gateway keys create --yaml` prints them: `{id, sha256, not_after}`", "none"),
    ] = Field(default_factory=list)


class FileTenant(Section):
    """One customer, whose consumers share the limits of a tier."""

    tier: Annotated[
        str | None, Allowed("the name of a tier, or null for none"), Meaning("What it may use", "nothing bounds it")
    ] = None


class FileTier(Section):
    """What each tenant of the tier may use."""

    rate_limit: Annotated[LimitName, Meaning("A rate limit of each tenant, over all routes", "none")] = None
    concurrency: Annotated[
        Annotated[int, Interval(ge=1, le=1_000_000)] | None,
        Meaning("Requests of a tenant in flight, at each gateway", "unlimited"),
    ] = None
    quota_per_day: Annotated[
        Annotated[int, Interval(ge=1, le=1_000_000_000_000)] | None,
        Meaning("Requests of a tenant in a day of UTC, in the fleet", "unlimited"),
    ] = None
    priority: Annotated[
        Priority | None, Meaning("The best priority that requests of a tenant have", "that of the route")
    ] = None


class Allow(Section):
    """Whom a route is for. An empty list is refused: whoever writes one may mean nobody, and would get everybody."""

    tenants: Annotated[
        list[Name],
        _SOME,
        Allowed(_SOME_ALLOWED),
        Meaning("With authentication: only consumers of one of these tenants", "any"),
    ] = Field(default_factory=list)
    consumers: Annotated[
        list[CallerName], _SOME, Allowed(_SOME_ALLOWED), Meaning("With authentication: only these consumers", "any")
    ] = Field(default_factory=list)
    scopes: Annotated[
        list[Scope],
        _SOME,
        Allowed(_SOME_ALLOWED),
        Meaning("With authentication: only consumers that have all of these scopes", "none needed"),
    ] = Field(default_factory=list)
