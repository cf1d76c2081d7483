"""The rate limits of the configuration: those of the file, and the one that the environment describes."""

import math
from types import MappingProxyType
from typing import TypeVar

from gateway.config.building.place import Place
from gateway.config.building.sources import Sources
from gateway.config.building.variables import VARIABLES
from gateway.config.file import File
from gateway.config.problems import number, shown
from gateway.config.sections.identity.settings import NO_LIMIT
from gateway.config.sections.rate_limits.model import RateLimitConfig
from gateway.config.sections.rate_limits.settings import RateLimit, RateLimits
from gateway.policy.token_bucket import RateLimitPolicy

Bucket = TypeVar("Bucket", bound=RateLimit)

DEFAULT = "default"
"""The rate limit that the environment describes, unless the file does."""


def policies_of(sources: Sources, file: File) -> dict[str, RateLimitPolicy]:
    """The rate limits that are valid, by name."""
    own = sources.settings.rate_limit
    defaults = {key: getattr(own, key) for key in RateLimit.model_fields}
    named = sources.named(file.rate_limits, "rate_limits")
    entries = {
        name: bucket_lifetime(entry, sources.place("rate_limit", location=("rate_limits", name)))
        for name, entry in sources.entries(RateLimit, named, "rate_limits", defaults)
    }
    if DEFAULT not in file.rate_limits:
        own = bucket_lifetime(own, sources.place("rate_limit"))
    if NO_LIMIT in file.rate_limits:
        sources.refuse(("rate_limits", NO_LIMIT), shown(NO_LIMIT), "another name: on a route it means no limit")
    return {
        name: RateLimitPolicy(name, entry.capacity, entry.refill_rate, entry.ttl)
        for name, entry in ({DEFAULT: own} | entries).items()
    }


def rate_limit_config(limits: RateLimits, policies: dict[str, RateLimitPolicy]) -> RateLimitConfig:
    """The domain type."""
    return RateLimitConfig(
        policies=MappingProxyType(policies),
        on_redis_failure=limits.on_redis_failure,
        legacy_headers=limits.legacy_headers,
        exempt=tuple(limits.exempt),
    )


def bucket_lifetime(section: Bucket, place: Place) -> Bucket:
    """A bucket that is forgotten before it is full would come back full: more than the limit allows. The default
    lifetime gives way, as far as its own range goes."""
    refill = section.capacity / section.refill_rate
    if refill <= section.ttl:
        return section
    capacity, refill_rate, ttl = ("capacity",), ("refill_rate",), ("ttl",)
    full = f"{place.name(capacity)} / {place.name(refill_rate)}, which is {refill:g} seconds"
    _, longest = VARIABLES[place.variable(ttl)].bounds or (0, 0)
    if place.given(ttl):
        place.report(ttl, section.ttl, f"at least {full}")
    elif refill <= longest and not place.refused(ttl):
        longer = float(math.ceil(refill))
        place.gave_way(ttl, longer, capacity)
        return section.model_copy(update={"ttl": longer})
    else:
        culprit = capacity if place.given(capacity) else refill_rate
        value = section.capacity if place.given(capacity) else section.refill_rate
        place.report(culprit, value, f"such that {full}, is at most {number(longest)}, the most that a bucket is kept")
    return section
