"""Who may ask for what: the effective configuration of consumers, tenants and their tiers.

A consumer is a program that proves with a credential who it is. Consumers of one customer belong to a tenant, and a
tier says what each of its tenants may use. All of it is immutable and valid.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.config.sections.issuers.model import IssuerConfig
from gateway.policy.priority import Priority

Method = Literal["api_key", "jwt"]
"""A way in which a request may prove who sends it."""

OTHER_TENANTS = "default"
"""The tier of tenants that the file does not name, if there is a tier of this name."""


@dataclass(frozen=True, slots=True)
class KeyConfig:
    """One API key: its public id, and the SHA-256 of the whole key in 64 hexadecimal digits. It is good until the
    instant `not_after` (seconds since the epoch), or for ever."""

    id: str
    sha256: str = field(repr=False)
    not_after: float | None = None


@dataclass(frozen=True, slots=True)
class ConsumerConfig:
    """A program with at most two keys, so that one can take the place of the other. `rate_limit` names a policy that is
    counted for this consumer alone."""

    name: str
    tenant: str | None = None
    scopes: frozenset[str] = frozenset()
    rate_limit: str | None = None
    keys: tuple[KeyConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class TierConfig:
    """What each tenant of a tier may use; None is unlimited. `rate_limit` names a policy that is counted for the tenant
    over all routes. `concurrency` is requests in flight at one gateway, `quota_per_day` requests in one day of UTC.
    `host_concurrency` is set where `concurrency` is the part of one of several workers: what all of them take. No
    request of the tenant has a better `priority`."""

    name: str
    rate_limit: str | None = None
    concurrency: int | None = None
    quota_per_day: int | None = None
    host_concurrency: int | None = None
    priority: Priority | None = None


@dataclass(frozen=True, slots=True)
class AllowConfig:
    """Whom a route is for. A list that is not empty has to be met: one of the tenants, one of the consumers, all of the
    scopes."""

    tenants: frozenset[str] = frozenset()
    consumers: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class IdentityConfig:
    """`tenants` have the name of their tier, None without one. `api_key_header` is the field that a key may come in,
    besides `Authorization: Bearer`, and `api_key_query` the query parameter, None for none."""

    consumers: Mapping[str, ConsumerConfig] = field(default_factory=dict)
    tenants: Mapping[str, str | None] = field(default_factory=dict)
    tiers: Mapping[str, TierConfig] = field(default_factory=dict)
    issuers: Mapping[str, IssuerConfig] = field(default_factory=dict)
    api_key_header: str = "X-API-Key"
    api_key_query: str | None = None

    def tier_of(self, tenant: str) -> TierConfig | None:
        """The tier of a tenant, whether the file names it or not."""
        name = self.tenants.get(tenant, OTHER_TENANTS)
        return None if name is None else self.tiers.get(name)
