"""From the configuration to everything that knows who asks: keys, tenants, what they use, and how it is counted."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.assembly.fleet import Fleet
from gateway.config.model import GatewayConfig
from gateway.config.sections.identity.model import IdentityConfig
from gateway.identity.credentials import CredentialReader, KeyParameter
from gateway.identity.keys import KeyRing
from gateway.identity.lookups import KeyChanges, KeyLookups
from gateway.identity.tenants import OTHER, Caller, Directory
from gateway.identity.usage import Usage
from gateway.proxy.gates.authentication import AuthenticationGate, AuthenticationParts
from gateway.proxy.gates.tenant import TenantGate
from gateway.proxy.requests.query_key import QueryKey
from gateway.proxy.routes.parts import CallerParts
from gateway.proxy.routes.topology import Route
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.cells import Labels
from gateway.views.identity import LiveCallers
from gateway.worker.handed_keys import share_keys
from gateway.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from gateway.assembly.tokens import TokenChecks

Series = Iterator[tuple[Labels, float]]


@dataclass(frozen=True, slots=True)
class Identity:
    """What routes with authentication share, and what runs beside the requests for it."""

    config: GatewayConfig
    directory: Directory
    usage: Usage
    lookups: KeyLookups | None
    parts: CallerParts
    view: LiveCallers
    metrics: Metrics
    checks: "TokenChecks | None"
    """None where no route takes tokens."""
    supervisor: Supervisor | None
    """None where this process is the whole gateway."""

    async def start(self, patience: float) -> None:
        """Begin to count what tenants use, and to fetch the keys of issuers, for which it waits so many seconds."""
        self.usage.start()
        if self.checks is not None:
            if self.supervisor is not None:
                await share_keys(self.checks.fetchers, self.supervisor)
            self.checks.start()
            await self.checks.tried(patience)

    async def stop(self) -> None:
        """Tell the rest of what was counted, and end readings and fetches."""
        await self.usage.stop()
        if self.checks is not None:
            await self.checks.stop()
        if self.lookups is not None:
            await self.lookups.close()

    def caller_of(self, consumer: str, tenant: str, scope: str) -> Caller | None:
        """The caller that an explanation is asked for; what the file says of a consumer goes before. `scope` has scopes
        with blanks between them, as a token may have others than the file says."""
        known = self.config.identity.consumers.get(consumer)
        scopes = frozenset(scope.split())
        if known is not None:
            return self.directory.supposed(consumer, "", scopes or known.scopes)
        if not (consumer or tenant or scopes):
            return None
        return self.directory.supposed(consumer or "unnamed", tenant, scopes)

    def count(self, routes: Iterable[Route]) -> None:
        """Show what the gates of these routes have decided, and what tenants use."""
        if self.checks is not None:
            self.checks.count(self.metrics)
        counted = {
            route.name: gate.counts
            for route in routes
            for gate in route.chain.gates
            if isinstance(gate, AuthenticationGate)
        }
        self.metrics.counter(
            "auth_total",
            "What came of asking who sends a request.",
            ("route", "outcome"),
            lambda: (
                ((route, outcome), count) for route, counts in counted.items() for outcome, count in counts.items()
            ),
        )
        self.metrics.counter(
            "gateway_tenant_requests_total",
            "Requests of a tenant that its limits let pass.",
            ("tenant",),
            self._requests,
        )
        self.metrics.counter(
            "gateway_tenant_refusals_total",
            "Requests of a tenant that its limits refused.",
            ("tenant", "reason"),
            self._refusals,
        )
        self.metrics.gauge(
            "gateway_tenant_in_flight", "Requests of a tenant in flight here.", ("tenant",), self._in_flight
        )
        self.metrics.gauge(
            "gateway_tenant_used_today",
            "Requests of a tenant in the fleet since midnight UTC, as of a second ago.",
            ("tenant",),
            self._used,
            "max",
        )
        self.metrics.gauge(
            "gateway_tenant_quota",
            "Requests that a tenant may make in one day, where there is a quota.",
            ("tenant",),
            self._quotas,
            "max",
        )

    def _requests(self) -> Series:
        return (((label,), count) for label, count in self.directory.requests.items())

    def _in_flight(self) -> Series:
        return _summed((each.label, each.in_flight) for each in self.directory.accounts)

    def _used(self) -> Series:
        return _summed((each.label, each.used) for each in self.directory.accounts)

    def _quotas(self) -> Series:
        return (
            ((each.label,), each.quota)
            for each in self.directory.accounts
            if each.quota is not None and each.label != OTHER
        )

    def _refusals(self) -> Series:
        return iter(self.directory.refusals.items())


def build_identity(
    config: GatewayConfig, fleet: Fleet, metrics: Metrics, supervisor: Supervisor | None
) -> Identity | None:
    """None where no route asks who sends a request."""
    if not any(route.authentication for route in config.routes):
        return None
    identity = config.identity
    directory = Directory(identity, config.rate_limits.policies)
    keys, link = fleet.keys, fleet.link
    lookups = None if keys is None else KeyLookups(keys, link)
    ring = KeyRing(identity.consumers.values(), directory, lookups)
    directory.on_forgotten.append(ring.forget_callers)
    if keys is not None:
        fleet.following.add(KeyChanges(keys, ring.forget))
    usage = Usage(directory, fleet.store, link)
    checks = _checks(config, directory)
    tokens = None if checks is None else checks.tokens
    reader = CredentialReader(identity.api_key_header)
    authentication = AuthenticationParts(reader, ring, _places(identity), tokens)
    parameter = identity.api_key_query
    query_key = None if parameter is None else QueryKey(KeyParameter(parameter), reader)
    parts = CallerParts(authentication, TenantGate(time.time, usage.tell), query_key)
    view = LiveCallers(directory, usage, keys, link)
    return Identity(config, directory, usage, lookups, parts, view, metrics, checks, supervisor)


def _places(identity: IdentityConfig) -> str:
    """Where a key may be, for those who show none."""
    places = f"Authorization: Bearer, or {identity.api_key_header}"
    return places if identity.api_key_query is None else f"{places}, or the parameter {identity.api_key_query}"


def _checks(config: GatewayConfig, directory: Directory) -> "TokenChecks | None":
    if not any("jwt" in route.authentication for route in config.routes):
        return None
    # It takes a library for cryptography with it, of some 20 MB, which a gateway without tokens does not need.
    from gateway.assembly.tokens import build_tokens  # noqa: PLC0415

    return build_tokens(config, directory)


def _summed(values: Iterable[tuple[str, int]]) -> Series:
    """One series for each label: tenants that the configuration does not name share one."""
    sums: dict[str, int] = {}
    for label, value in values:
        sums[label] = sums.get(label, 0) + value
    return (((label,), value) for label, value in sums.items())
