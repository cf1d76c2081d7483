"""Rate limits: the settings that the environment and a rate limit of the file have in common, and those of all."""

from typing import Annotated, Literal

from annotated_types import Interval
from pydantic import Field

from gateway.config.declaring.field_types import ProxyNetwork
from gateway.config.declaring.section import Env, Seconds, Section


class RateLimit(Section):
    """A token bucket for each client"""

    capacity: Annotated[
        int, Interval(ge=1, le=10_000_000), Env("RATE_LIMIT_CAPACITY", "Tokens a client's bucket holds at most")
    ] = 50
    refill_rate: Annotated[
        float, Interval(ge=0.001, le=10_000_000), Env("RATE_LIMIT_REFILL_RATE", "Tokens that come back each second")
    ] = 20.0
    ttl: Annotated[
        Seconds,
        Interval(ge=1, le=604_800),
        Env("RATE_LIMIT_TTL", "Longest time an idle bucket is kept; at least capacity / refill rate"),
    ] = 3600.0


class RateLimits(RateLimit):
    """Rate limit (token bucket per client)"""

    enabled: Annotated[bool, Env("RATE_LIMIT_ENABLED", "false takes the rate limit off every route")] = True
    on_redis_failure: Annotated[
        Literal["local", "open", "closed"],
        Env("RATE_LIMIT_ON_REDIS_FAILURE", "Without Redis: limit locally, let all through, or refuse all"),
    ] = "local"
    exempt: Annotated[
        list[ProxyNetwork], Env("RATE_LIMIT_EXEMPT", "Clients that no rate limit is for", "nobody is exempt")
    ] = Field(default_factory=list)
    legacy_headers: Annotated[
        bool, Env("RATE_LIMIT_LEGACY_HEADERS", "Send X-RateLimit-Limit, -Remaining and -Reset too")
    ] = True
