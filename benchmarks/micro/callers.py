"""What it costs to know who asks: the gates of a route with authentication, for a caller with a key that is known.

A client that keeps its connection repeats its head, so its credential is read and digested once; `hot` is what each of
its requests pays."""

import hashlib
from collections.abc import Iterator
from types import MappingProxyType

from benchmarks.micro.timing import Case
from gateway.config.sections.identity.model import AllowConfig, ConsumerConfig, IdentityConfig, KeyConfig, TierConfig
from gateway.fleet.limiter import Limiter, Resume
from gateway.identity.credentials import CredentialReader
from gateway.identity.keys import KeyRing
from gateway.identity.tenants import Directory
from gateway.policy.outcome import SUCCESS
from gateway.policy.token_bucket import BucketTable, Decision, RateLimitPolicy
from gateway.proxy.gates.authentication import AuthenticationGate, AuthenticationParts
from gateway.proxy.gates.caller_limits import CallerLimitsGate
from gateway.proxy.gates.tenant import TenantGate
from gateway.proxy.recorder import Recorder
from gateway.proxy.requests.identity import Identification
from gateway.proxy.ticket import Ticket
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.route_cells import RouteCells
from gateway.telemetry.record import LogPart, RouteAccount
from gateway.telemetry.services.errors import ErrorLog
from gateway.wire.message import request as requests

_KEY = "gw_abcdefgh1234_" + "A" * 43
_POLICIES = {"gold": RateLimitPolicy("gold", 1_000_000_000, 1_000_000.0)}
_IDENTITY = IdentityConfig(
    MappingProxyType(
        {
            "web": ConsumerConfig(
                "web", "acme", keys=(KeyConfig("abcdefgh1234", hashlib.sha256(_KEY.encode()).hexdigest()),)
            )
        }
    ),
    MappingProxyType({"acme": "gold"}),
    MappingProxyType({"gold": TierConfig("gold", "gold", 1000, 1_000_000_000_000)}),
)
_FIELDS = f"Host: 127.0.0.1:5000\r\nX-API-Key: {_KEY}\r\n\r\n".encode()
_NOW = 1_700_000_000.0


class _Tables(Limiter):
    """A limiter that has all buckets, so what is measured is the gate's own share and a token."""

    def __init__(self) -> None:
        self._tables = {name: BucketTable(policy) for name, policy in _POLICIES.items()}

    def try_take(self, policy: RateLimitPolicy, client: str, now: float) -> Decision | None:
        return self._tables[policy.name].take(client, now)

    def take(self, policy: RateLimitPolicy, client: str, resume: Resume) -> None:
        resume(self._tables[policy.name].take(client, _NOW))

    def untake(self, policy: RateLimitPolicy, client: str) -> None:
        self._tables[policy.name].refund(client)

    def refund(self, policy: RateLimitPolicy, client: str) -> None:
        self._tables[policy.name].refund(client)

    async def peek(self, policy: RateLimitPolicy, client: str) -> Decision:
        return self._tables[policy.name].peek(client, _NOW)

    async def close(self) -> None:
        """Nothing to give back."""


def cases() -> Iterator[tuple[str, Case]]:
    directory = Directory(_IDENTITY, _POLICIES)
    ring = KeyRing(_IDENTITY.consumers.values(), directory, None)
    parts = AuthenticationParts(CredentialReader("X-API-Key"), ring, "X-API-Key")
    authentication = AuthenticationGate(("api_key",), AllowConfig(), parts)
    recorder = Recorder(Metrics("a", [], [], "1", policies=_POLICIES), ErrorLog("a", []), None, "gateway")
    limits = CallerLimitsGate(_Tables(), _POLICIES, None, recorder)
    tenant = TenantGate(lambda: _NOW, lambda: None)
    asked = _ticket()

    def new_head() -> None:
        asked.request.credential = None
        authentication.check(asked)

    def of_its_tenant() -> None:
        tenant.check(asked)
        tenant.enter(asked)
        tenant.leave(asked, SUCCESS, 0.001)

    def all_of_it() -> None:
        authentication.check(asked)
        limits.check(asked)
        of_its_tenant()

    yield "caller: API key, new head", new_head
    yield "caller: API key, hot", lambda: authentication.check(asked)
    yield "caller: limit of its tier", lambda: limits.check(asked)
    yield "caller: places and quota", of_its_tenant
    yield "caller: hot, all together", all_of_it


def _ticket() -> Ticket:
    request = requests.Request("GET", b"/orders/7", 1, requests.parse_fields(_FIELDS, requests.Limits()))
    requests.check(request)
    origin = Identification((), "gateway").direct("203.0.113.7", "http")
    account = RouteAccount("orders", "default", RouteCells())
    return Ticket(request, origin, account, LogPart({"route": "orders"}), b"0af7651916cd43dd8448eb211c80319c", _NOW)
