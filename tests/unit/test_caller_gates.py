"""The gates that know who asks: authentication, the limits of the caller, and what its tenant may have."""

from math import inf
from types import MappingProxyType
from typing import Any

import pytest

from gateway.config.sections.identity.model import AllowConfig, ConsumerConfig, IdentityConfig, KeyConfig, TierConfig
from gateway.fleet.limiter import Limiter
from gateway.identity.credentials import CredentialReader, Presented
from gateway.identity.keys import KeyRing, KeySource, Read
from gateway.identity.tenants import OTHER, Caller, Directory
from gateway.policy.outcome import SUCCESS
from gateway.policy.token_bucket import BucketTable, Decision, RateLimitPolicy
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.filters.caller_limit_fields import CallerLimitFields
from gateway.proxy.gate import PASS, WAIT, Question, Resumption
from gateway.proxy.gates.authentication import AuthenticationGate, AuthenticationParts
from gateway.proxy.gates.caller_limits import CallerLimitsGate
from gateway.proxy.gates.tenant import TenantGate
from gateway.proxy.recorder import Recorder
from gateway.proxy.ticket import Ticket
from gateway.store.keys import KeyRecord
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.services.errors import ErrorLog
from tests.support.keys import key, sha256
from tests.support.tickets import request, ticket

ID = "abcdefgh1234"
GOOD = key(ID)
CONSUMERS = {
    "web": ConsumerConfig("web", "acme", frozenset({"read"}), None, (KeyConfig(ID, sha256(GOOD)),)),
    "job": ConsumerConfig("job", "acme", frozenset(), "slow"),
    "lone": ConsumerConfig("lone"),
    "single": ConsumerConfig("single", None, frozenset(), "default"),
}
IDENTITY = IdentityConfig(
    MappingProxyType(CONSUMERS),
    MappingProxyType({"acme": "gold", "plain": None}),
    MappingProxyType({"gold": TierConfig("gold", "gold", 2, 3), "default": TierConfig("default", None, None, 1)}),
)
POLICIES = {
    "default": RateLimitPolicy("default", 5, 0.001),
    "gold": RateLimitPolicy("gold", 3, 0.001),
    "slow": RateLimitPolicy("slow", 1, 0.001),
}


def gate(allow: AllowConfig = AllowConfig(), source: KeySource | None = None) -> AuthenticationGate:  # noqa: B008 - immutable
    return AuthenticationGate(("api_key",), allow, parts_of(source))


def parts_of(source: KeySource | None) -> AuthenticationParts:
    ring = KeyRing(CONSUMERS.values(), Directory(IDENTITY, POLICIES), source)
    return AuthenticationParts(CredentialReader("X-API-Key"), ring, "X-API-Key")


def asks(*lines: str, peer: str = "192.0.2.1") -> Ticket:
    return ticket(request(b"/a", *lines), peer=peer)


def refused(verdict: object) -> tuple[int, str, bytes]:
    assert isinstance(verdict, Refusal)
    return verdict.status, verdict.reason, verdict.extra


def test_a_good_key_passes_and_tells_the_upstream_and_the_log_who_it_is() -> None:
    asked = asks(f"X-API-Key: {GOOD}")
    assert gate().check(asked) is PASS
    assert asked.caller is not None
    assert asked.caller.lines == b"X-Tenant: acme\r\nX-Consumer: web\r\n"
    assert asked.log_decisions == {"tenant": "acme", "consumer": "web"}


@pytest.mark.parametrize(
    ("lines", "challenge"),
    [
        ([], b'WWW-Authenticate: Bearer realm="gateway"\r\n'),
        ([f"X-API-Key: {key(ID, 'B')}"], b'WWW-Authenticate: Bearer realm="gateway", error="invalid_token"\r\n'),
        ([f"X-API-Key: {key('unknown00')}"], b'WWW-Authenticate: Bearer realm="gateway", error="invalid_token"\r\n'),
        (["X-API-Key: x"], b'WWW-Authenticate: Bearer realm="gateway", error="invalid_token"\r\n'),
        ([f"X-API-Key: {GOOD}"] * 2, b'WWW-Authenticate: Bearer realm="gateway", error="invalid_request"\r\n'),
    ],
)
def test_anything_else_is_unauthenticated_with_the_challenge_of_rfc_6750(lines: list[str], challenge: bytes) -> None:
    asked = asks(*lines)
    assert refused(gate().check(asked)) == (401, "unauthenticated", challenge)
    assert asked.caller is None


def test_failures_cost_the_address_its_attempts_but_never_what_is_known() -> None:
    authentication = gate()
    for _ in range(10):
        assert refused(authentication.check(asks("X-API-Key: x")))[0] == 401
    verdict = authentication.check(asks("X-API-Key: x"))
    assert refused(verdict)[:2] == (429, "too_many_attempts")
    assert isinstance(verdict, Refusal)
    assert verdict.retry_after is not None
    assert 1 <= verdict.retry_after <= 6
    assert authentication.check(asks(f"X-API-Key: {GOOD}")) is PASS
    # Somebody else has attempts of his own, and showing nothing is no attempt.
    assert refused(authentication.check(asks("X-API-Key: x", peer="192.0.2.2")))[0] == 401
    assert refused(authentication.check(asks()))[0] == 401
    assert authentication.counts == {
        "allowed": 1,
        "missing": 1,
        "invalid": 11,
        "forbidden": 0,
        "limited": 1,
        "unavailable": 0,
    }


class Asked:
    """A store that is there, and hears what it is asked for."""

    up = True

    def __init__(self) -> None:
        self.ids: list[str] = []

    def read(self, key_id: str, told: Read) -> None:
        self.ids.append(key_id)
        told(None, 0.0)


STORED = key("storedkey001")


class Stored(Asked):
    """One that has a key."""

    def read(self, key_id: str, told: Read) -> None:
        self.ids.append(key_id)
        found = KeyRecord(key_id, sha256(STORED), "batch") if key_id == "storedkey001" else None
        told(found, inf)


def test_an_address_without_attempts_has_nothing_looked_up() -> None:
    source = Asked()
    authentication = gate(source=source)
    told: list[Resumption] = []
    for at in range(20):
        asked = asks(f"X-API-Key: {key(f'unknown{at:02}')}")
        verdict = authentication.check(asked)
        if verdict is WAIT:
            authentication.start(asked, told.append)
        else:
            assert refused(verdict)[:2] == (429, "too_many_attempts")
    assert [refused(each)[0] for each in told] == [401] * 10
    assert len(source.ids) == 10
    # What is no key at all costs an attempt, too, and a key of the file passes in spite of all that.
    assert refused(authentication.check(asks("X-API-Key: x")))[0] == 429
    assert authentication.check(asks(f"X-API-Key: {GOOD}")) is PASS


def test_a_key_that_was_good_is_looked_up_again_whatever_others_at_its_address_did() -> None:
    """Otherwise any change of a key would lock out those who share an address with somebody whose key is wrong."""
    source = Stored()
    parts = parts_of(source)
    authentication = AuthenticationGate(("api_key",), AllowConfig(), parts)
    told: list[Resumption] = []

    def ask(text: str) -> object:
        asked = asks(f"X-API-Key: {text}")
        verdict = authentication.check(asked)
        if verdict is not WAIT:
            return verdict
        authentication.start(asked, told.append)
        return told[-1]

    assert ask(STORED) is PASS
    for _ in range(10):
        assert refused(ask(key("unknown00001")))[0] == 401
    assert refused(ask(key("unknown00001")))[0] == 429
    parts.keys.forget(["storedkey001"])
    asked = len(source.ids)
    assert ask(STORED) is PASS
    assert len(source.ids) == asked + 1
    # A wrong secret of the same id is still not looked up.
    parts.keys.forget(["storedkey001"])
    assert refused(ask(key("storedkey001", "B")))[0] == 429
    assert len(source.ids) == asked + 1


@pytest.mark.parametrize("key_id", [ID, "unknown00001"])
@pytest.mark.parametrize("attempts", ["left", "used up"])
def test_a_wrong_secret_costs_the_same_whether_there_is_such_a_key_or_not(key_id: str, attempts: str) -> None:
    """The time must not tell which ids exist, not even to an address that is not listened to any more."""
    authentication = gate()
    if attempts == "used up":
        for _ in range(10):
            authentication.check(asks("X-API-Key: x"))
    asked = asks(f"X-API-Key: {key(key_id, 'B')}")
    assert refused(authentication.check(asked))[0] == (401 if attempts == "left" else 429)
    shown = asked.request.credential
    assert isinstance(shown, Presented)
    assert shown._digest


@pytest.mark.parametrize(
    ("allow", "challenge"),
    [
        (AllowConfig(tenants=frozenset({"acme"})), None),
        (AllowConfig(consumers=frozenset({"web", "x"})), None),
        (AllowConfig(scopes=frozenset({"read"})), None),
        (AllowConfig(tenants=frozenset({"umbrella"})), b""),
        (AllowConfig(tenants=frozenset({"acme"}), consumers=frozenset({"job"})), b""),
        (
            AllowConfig(scopes=frozenset({"read", "write"})),
            b'WWW-Authenticate: Bearer realm="gateway", error="insufficient_scope", scope="read write"\r\n',
        ),
    ],
)
def test_a_route_is_for_those_whom_it_allows(allow: AllowConfig, challenge: bytes | None) -> None:
    verdict = gate(allow).check(asks(f"X-API-Key: {GOOD}"))
    if challenge is None:
        assert verdict is PASS
    else:
        assert refused(verdict) == (403, "forbidden", challenge)


class Tables(Limiter):
    """A limiter that has all buckets and always decides at once."""

    def __init__(self) -> None:
        self._tables = {name: BucketTable(policy) for name, policy in POLICIES.items()}

    def try_take(self, policy: RateLimitPolicy, client: str, now: float) -> Any:
        return self._tables[policy.name].take(client, now)

    def take(self, policy: RateLimitPolicy, client: str, resume: Any) -> None:
        resume(self.try_take(policy, client, 0.0))

    def untake(self, policy: RateLimitPolicy, client: str) -> None:
        self._tables[policy.name].refund(client)

    def refund(self, policy: RateLimitPolicy, client: str) -> None:
        self.untake(policy, client)

    async def peek(self, policy: RateLimitPolicy, client: str) -> Decision:
        return self._tables[policy.name].peek(client, 0.0)

    async def close(self) -> None:
        """Nothing to give back."""


def limits(route: str | None) -> tuple[CallerLimitsGate, Tables, Directory]:
    limiter = Tables()
    recorder = Recorder(Metrics("a", [], [], "1", policies=POLICIES), ErrorLog("a", []), None, "gw")
    return CallerLimitsGate(limiter, POLICIES, route, recorder), limiter, Directory(IDENTITY, POLICIES)


def by(caller: Caller) -> Ticket:
    made = ticket()
    made.caller = caller
    return made


def test_a_request_takes_a_token_of_each_limit_or_of_none() -> None:
    rate_limit, limiter, directory = limits("default")
    job = directory.caller("job", "acme", frozenset())
    web = directory.caller("web", "acme", frozenset())
    assert rate_limit.check(by(job)) is PASS
    for _ in range(20):
        assert refused(rate_limit.check(by(job)))[:2] == (429, "rate_limited")
    # The refusals of one consumer have taken nothing of what it shares with the other: 3 of the tier, less one.
    assert [rate_limit.check(by(web)) is PASS for _ in range(3)] == [True, True, False]
    assert limiter.try_take(POLICIES["default"], "tenant:acme", 0.0).remaining == 1
    assert job.account is web.account is not None
    assert web.account.refused["rate_limited"] == 21


def test_the_fields_list_every_limit_and_of_a_refusal_the_one_that_refused() -> None:
    rate_limit, _, directory = limits("default")
    asked = by(directory.caller("job", "acme", frozenset()))
    fields = CallerLimitFields(legacy=True)
    assert fields.fields(asked, None) == b""
    rate_limit.check(asked)
    text = fields.fields(asked, None).decode()
    policy, limit, *legacy = text.split("\r\n")
    assert [item.partition(";pk=:")[0] for item in policy.removeprefix("RateLimit-Policy: ").split(", ")] == [
        *('"default";q=5;w=5000', '"gold";q=3;w=3000', '"slow";q=1;w=1000')
    ]
    assert [item.partition(";pk=:")[0] for item in limit.removeprefix("RateLimit: ").split(", ")] == [
        *('"default";r=4;t=1000', '"gold";r=2;t=1000', '"slow";r=0;t=1000')
    ]
    assert "acme" not in text
    assert legacy[:3] == ["X-RateLimit-Limit: 1", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1000"]
    rate_limit.check(asked)
    assert b'RateLimit: "slow";r=0;t=1000;pk=' in fields.fields(asked, None)


def test_a_caller_without_a_tenant_is_counted_by_itself() -> None:
    rate_limit, limiter, directory = limits("default")
    assert rate_limit.check(by(directory.caller("lone", "", frozenset()))) is PASS
    assert limiter.try_take(POLICIES["default"], "consumer:lone", 0.0).remaining == 3


def test_a_bucket_that_is_meant_twice_gives_one_token() -> None:
    """Without a tenant the route counts by consumer. Where the consumer's own limit has the same name, that is one."""
    rate_limit, limiter, directory = limits("default")
    single = directory.caller("single", "", frozenset())
    assert rate_limit.check(by(single)) is PASS
    assert limiter.try_take(POLICIES["default"], "consumer:single", 0.0).remaining == 3
    other, _, _ = limits("slow")
    assert [each.policy.name for each in other.limits_of(single).each] == ["slow", "default"]
    # With a tenant the route counts by tenant, so both are meant.
    tenant = directory.caller("single", "acme", frozenset())
    assert [each.bucket for each in rate_limit.limits_of(tenant).each] == [
        *("tenant:acme", "tier:acme", "consumer:single")
    ]


class Slow(Tables):
    """A limiter that has to be asked, and answers when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[RateLimitPolicy, str, Any]] = []
        self.refunded: list[str] = []

    def try_take(self, policy: RateLimitPolicy, client: str, now: float) -> Any:
        return None

    def take(self, policy: RateLimitPolicy, client: str, resume: Any) -> None:
        self.asked.append((policy, client, resume))

    def refund(self, policy: RateLimitPolicy, client: str) -> None:
        self.refunded.append(policy.name)


def test_all_limits_are_asked_at_once_and_what_is_granted_beside_a_refusal_goes_back() -> None:
    slow = Slow()
    recorder = Recorder(Metrics("a", [], [], "1", policies=POLICIES), ErrorLog("a", []), None, "gw")
    rate_limit = CallerLimitsGate(slow, POLICIES, "default", recorder)
    asked = by(Directory(IDENTITY, POLICIES).caller("job", "acme", frozenset()))
    assert rate_limit.check(asked) is WAIT
    told: list[Resumption] = []
    rate_limit.start(asked, told.append)
    assert [policy.name for policy, _, _ in slow.asked] == ["default", "gold", "slow"]
    slow.asked[0][2](Decision(True, 4.0, 0.0, 1.0))
    slow.asked[2][2](Decision(True, 0.0, 0.0, 1.0))
    assert told == []
    slow.asked[1][2](Decision(False, 0.0, 7.0, 9.0))
    assert len(told) == 1
    assert refused(told[0])[:2] == (429, "rate_limited")
    assert slow.refunded == ["default", "slow"]


def untold() -> None:
    """Whoever tells the fleet what was counted."""


def test_when_a_quota_is_near_the_fleet_is_told_at_once() -> None:
    told: list[int] = []
    directory = Directory(IDENTITY, POLICIES)
    account = directory.account("acme")
    tenant = TenantGate(lambda: 0.0, lambda: told.append(account.unsent))
    account.quota = 100
    # 60 are left, so each of 20 replicas may use three of them before it says so.
    account.settle(40, 20)
    for _ in range(4):
        asked = by(directory.caller("web", "acme", frozenset()))
        assert tenant.check(asked) is PASS
        tenant.enter(asked)
        tenant.leave(asked, SUCCESS, 0.1)
    assert told == [3, 4]
    account.settle(98, 20)
    assert (account.tell_at, account.used) == (1, 102)
    unlimited = directory.account("plain")
    unlimited.settle(1_000_000, 1)
    assert unlimited.tell_at is None


def test_a_tenant_has_so_many_at_once_and_so_many_a_day() -> None:
    tenant = TenantGate(lambda: 86_400.0 * 100 - 60, untold)
    directory = Directory(IDENTITY, POLICIES)
    tickets = [by(directory.caller("web", "acme", frozenset())) for _ in range(3)]
    for each in tickets[:2]:
        assert tenant.check(each) is PASS
        tenant.enter(each)
    assert refused(tenant.check(tickets[2]))[:2] == (429, "concurrency_limited")
    tenant.leave(tickets[0], SUCCESS, 0.1)
    assert tenant.check(tickets[2]) is PASS
    tenant.enter(tickets[2])
    tenant.leave(tickets[1], SUCCESS, 0.1)
    verdict = tenant.check(tickets[2])
    assert refused(verdict)[:2] == (429, "quota_exceeded")
    assert isinstance(verdict, Refusal)
    assert verdict.retry_after == 60
    account = directory.account("acme")
    assert (account.in_flight, account.used, account.unsent, account.requests) == (1, 3, 3, 3)
    assert account.refused == {"rate_limited": 0, "quota_exceeded": 1, "concurrency_limited": 1}


def test_tenants_that_nobody_named_have_the_default_tier_and_one_label() -> None:
    directory = Directory(IDENTITY, POLICIES)
    assert (directory.account("new").quota, directory.account("new").label) == (1, OTHER)
    assert directory.account("plain").quota is None
    assert directory.caller("a", "new", frozenset()).account is directory.account("new")


async def test_an_explanation_says_what_becomes_of_a_consumer_and_takes_nothing() -> None:
    rate_limit, _, directory = limits("default")
    job = directory.caller("job", "acme", frozenset())
    asked = Question("192.0.2.1", exempt=False, method="GET", now=0.0, caller=job)
    for _ in range(5):
        assert (await rate_limit.explain(asked))["decision"] == "allow"
    assert rate_limit.check(by(job)) is PASS
    said = await rate_limit.explain(asked)
    assert (said["decision"], said["reason"]) == ("refuse", "rate_limited")
    lacking = await gate(AllowConfig(scopes=frozenset({"read"}))).explain(asked)
    assert (lacking["decision"], lacking["status"]) == ("refuse", 403)
    nobody = Question("192.0.2.1", exempt=False, method="GET", now=0.0)
    assert (await rate_limit.explain(nobody))["decision"] == "none"
    assert (await gate().explain(nobody))["decision"] == "none"
    assert (await TenantGate(lambda: 0.0, untold).explain(asked))["decision"] == "allow"


def test_a_key_that_names_no_tenant_is_that_of_the_consumer_in_the_file() -> None:
    """Otherwise such a key would be a way around the tier."""
    directory = Directory(IDENTITY, POLICIES)
    name, consumer = next((name, each) for name, each in CONSUMERS.items() if each.tenant)
    assert directory.caller(name, "", frozenset()).tenant == consumer.tenant
