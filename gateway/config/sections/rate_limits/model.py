"""Rate limits in the effective configuration (see `gateway.config.model`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.policy.token_bucket import RateLimitPolicy
from gateway.syntax.hosts import Network


@dataclass(frozen=True, slots=True)
class RateLimitConfig:
    """Named token buckets and how their state is shared. `legacy_headers` adds the `X-RateLimit-*` trio. Clients of the
    networks in `exempt` are not limited by any."""

    policies: Mapping[str, RateLimitPolicy]
    on_redis_failure: Literal["local", "open", "closed"] = "local"
    legacy_headers: bool = True
    exempt: tuple[Network, ...] = ()
