"""The callers that credentials prove, and what their tenants have used.

A `Caller` is one consumer with its tenant: what gates, log lines and the upstream are told about it is made once. A
`TenantAccount` has what all callers of a tenant use together: requests in flight at this replica, and requests of the
present day in the whole fleet.
"""

import base64
import hashlib
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from gateway.config.sections.identity.model import IdentityConfig, TierConfig
from gateway.policy.priority import class_of
from gateway.policy.token_bucket import RateLimitPolicy

_MOST_CALLERS: Final = 20_000
_MOST_ACCOUNTS: Final = 20_000
OTHER: Final = "_OTHER"
"""The label of tenants that the configuration does not name."""


class TenantAccount:
    """`in_flight` requests are here now, of `concurrency` that may be, and of `host_concurrency` at all workers of the
    host. `used` is the requests of the day in the fleet, as far as this replica knows; `unsent` of them the fleet does
    not know of yet. From `tell_at` of them on it is told at once, because the quota is near. `requests` is all that
    this replica has let through, and `refused` what it has refused, by reason. None is unlimited. `priority` is the
    best class that its requests have (`gateway.policy.priority`)."""

    __slots__ = (
        "concurrency",
        "host_concurrency",
        "in_flight",
        "label",
        "priority",
        "quota",
        "refused",
        "requests",
        "tell_at",
        "tenant",
        "tier",
        "unsent",
        "used",
    )

    def __init__(self, tenant: str, label: str, tier: TierConfig | None) -> None:
        self.tenant = tenant
        self.label = label
        self.tier = "" if tier is None else tier.name
        self.concurrency = None if tier is None else tier.concurrency
        self.host_concurrency = None if tier is None else tier.host_concurrency or tier.concurrency
        self.quota = None if tier is None else tier.quota_per_day
        self.priority = 0 if tier is None or tier.priority is None else class_of(tier.priority)
        self.in_flight = 0
        self.used = 0
        self.unsent = 0
        self.tell_at: int | None = None if self.quota is None else 1
        self.requests = 0
        self.refused = {"rate_limited": 0, "quota_exceeded": 0, "concurrency_limited": 0}

    def settle(self, fleet: int, replicas: int) -> None:
        """The fleet has used `fleet` as far as it was told, and has so many replicas. Each of them may use its part of
        what is left before it tells the others."""
        self.used = fleet + self.unsent
        if self.quota is not None:
            self.tell_at = max(1, (self.quota - fleet) // replicas)

    def __repr__(self) -> str:
        return f"<TenantAccount {self.tenant} in_flight={self.in_flight} used={self.used}>"


class CountedLimit:
    """One rate limit that a caller is counted by. `bucket` is whose bucket it is. `partition` is the same as a
    parameter of a header field, from which nobody reads who that is (`pk` of the RateLimit draft); `described` is the
    whole item of `RateLimit-Policy`."""

    __slots__ = ("bucket", "described", "partition", "policy")

    def __init__(self, policy: RateLimitPolicy, bucket: str) -> None:
        self.policy = policy
        self.bucket = bucket
        digest = hashlib.sha256(f"{policy.name} {bucket}".encode()).digest()[:9]
        self.partition = f";pk=:{base64.b64encode(digest).decode()}:"
        window = max(1, math.ceil(policy.capacity / policy.refill_rate))
        self.described = f'"{policy.name}";q={policy.capacity};w={window}{self.partition}'


class Caller:
    """Who sends a request. `lines` are the header lines for the upstream, `log` the decisions for the log line.
    `bucket` is whose buckets it takes from on the limits of routes: its tenant's, or its own without one. `limits` are
    its own further rate limits."""

    __slots__ = ("account", "bucket", "consumer", "limits", "lines", "log", "scopes", "tenant")

    def __init__(
        self,
        consumer: str,
        tenant: str,
        scopes: frozenset[str],
        account: TenantAccount | None,
        limits: tuple[CountedLimit, ...],
    ) -> None:
        self.consumer = consumer
        self.tenant = tenant
        self.scopes = scopes
        self.account = account
        self.limits = limits
        self.bucket = f"tenant:{tenant}" if tenant else f"consumer:{consumer}"
        self.lines = (f"X-Tenant: {tenant}\r\n" if tenant else "").encode() + f"X-Consumer: {consumer}\r\n".encode()
        self.log: Mapping[str, str] = {**({"tenant": tenant} if tenant else {}), "consumer": consumer}

    def __repr__(self) -> str:
        return f"<Caller {self.consumer} of {self.tenant or 'no tenant'}>"


class Directory:
    """Makes callers, the same object for the same consumer, and keeps the accounts of their tenants.

    `policies` are the rate limits by name. Both tables are bounded. Accounts of tenants that the configuration names
    stay. When there are `most`, the others that nothing uses are forgotten and begin anew. What they have counted stays
    in the sums. `on_forgotten` is called then: whoever keeps callers lets them go, because a caller counts into the
    account that it was made with."""

    def __init__(
        self, config: IdentityConfig, policies: Mapping[str, RateLimitPolicy], most: int = _MOST_ACCOUNTS
    ) -> None:
        self.on_forgotten: list[Callable[[], None]] = []
        self._config = config
        self._policies = policies
        self._most = most
        self._callers: OrderedDict[tuple[str, str, frozenset[str]], Caller] = OrderedDict()
        self._accounts: dict[str, TenantAccount] = {}
        self._forgotten_requests = 0
        self._forgotten_refusals: Counter[str] = Counter()
        of_consumers = (each.tenant for each in config.consumers.values() if each.tenant)
        for tenant in (*config.tenants, *of_consumers):
            self._accounts[tenant] = TenantAccount(tenant, tenant, config.tier_of(tenant))

    def caller(self, consumer: str, tenant: str, scopes: frozenset[str]) -> Caller:
        """The consumer of the tenant, empty without one. A consumer that the file names has its rate limit too, and its
        tenant where the key names none: a key must not be a way around the tier."""
        identity = self._identity(consumer, tenant, scopes)
        found = self._callers.get(identity)
        if found is None:
            tenant = identity[1]
            # This may forget callers, so it comes before the new one has its place.
            found = self._caller(identity, self.account(tenant) if tenant else None)
            if len(self._callers) >= _MOST_CALLERS:
                self._callers.popitem(last=False)
            self._callers[identity] = found
        return found

    def supposed(self, consumer: str, tenant: str, scopes: frozenset[str]) -> Caller:
        """As `caller`, for somebody who may not exist: nothing is remembered of whoever is not known."""
        identity = self._identity(consumer, tenant, scopes)
        found, tenant = self._callers.get(identity), identity[1]
        if found is not None:
            return found
        account = self._accounts.get(tenant) or self._new(tenant) if tenant else None
        return self._caller(identity, account)

    def account(self, tenant: str) -> TenantAccount:
        """The account of a tenant."""
        account = self._accounts.get(tenant)
        if account is None:
            if len(self._accounts) >= self._most:
                self._forget()
            account = self._accounts[tenant] = self._new(tenant)
        return account

    def meet(self, tenants: Iterable[str]) -> None:
        """These are known to the fleet. They are known here too before they first come, so that their quota holds from
        the first request on. They take half of the room at most: the rest is for those that do come."""
        for tenant in tenants:
            if tenant not in self._accounts and len(self._accounts) < self._most // 2:
                self._accounts[tenant] = self._new(tenant)

    @property
    def accounts(self) -> Iterator[TenantAccount]:
        """Those that there are now."""
        return iter(self._accounts.values())

    @property
    def requests(self) -> Mapping[str, int]:
        """The requests that were let through, by label. They only grow."""
        sums = Counter({OTHER: self._forgotten_requests})
        for account in self._accounts.values():
            sums[account.label] += account.requests
        return sums

    @property
    def refusals(self) -> Mapping[tuple[str, str], int]:
        """The requests that were refused, by label and reason. They only grow."""
        sums = Counter({(OTHER, reason): count for reason, count in self._forgotten_refusals.items()})
        for account in self._accounts.values():
            for reason, count in account.refused.items():
                sums[account.label, reason] += count
        return sums

    def _identity(self, consumer: str, tenant: str, scopes: frozenset[str]) -> tuple[str, str, frozenset[str]]:
        named = self._config.consumers.get(consumer)
        if not tenant and named is not None:
            tenant = named.tenant or ""
        return consumer, tenant, scopes

    def _caller(self, identity: tuple[str, str, frozenset[str]], account: TenantAccount | None) -> Caller:
        consumer, tenant, scopes = identity
        return Caller(consumer, tenant, scopes, account, tuple(self._limits(consumer, tenant)))

    def _new(self, tenant: str) -> TenantAccount:
        return TenantAccount(tenant, OTHER, self._config.tier_of(tenant))

    def _limits(self, consumer: str, tenant: str) -> Iterator[CountedLimit]:
        tier = self._config.tier_of(tenant) if tenant else None
        if tier is not None and tier.rate_limit is not None:
            yield CountedLimit(self._policies[tier.rate_limit], f"tier:{tenant}")
        known = self._config.consumers.get(consumer)
        if known is not None and known.rate_limit is not None:
            yield CountedLimit(self._policies[known.rate_limit], f"consumer:{consumer}")

    def _forget(self) -> None:
        self._callers.clear()
        for tenant, account in list(self._accounts.items()):
            if account.label == OTHER and not account.in_flight and not account.unsent:
                del self._accounts[tenant]
                self._forgotten_requests += account.requests
                self._forgotten_refusals.update(account.refused)
        for told in self.on_forgotten:
            told()
