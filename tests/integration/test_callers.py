"""Consumers with API keys, through whole gateways, real sockets and a real Redis."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from tests.conftest import StartGateway
from tests.support.callers import FILE_KEY, QUIET_KEY, TOKEN, ask, configuration, created, echoed, keys, problem
from tests.support.gateway_process import GatewayProcess
from tests.support.keys import key, sha256
from tests.support.processes import clean_environment
from tests.support.raw_http import RawClient
from tests.support.redis_server import RedisServer
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

REVOKED_WITHIN = 2.0

Start = Callable[..., GatewayProcess]


@pytest.fixture
def start(start_gateway: StartGateway, stub: StubProcess) -> Start:
    def started(
        redis: RedisServer | None = None, more: Mapping[str, str] | None = None, **tiers: Mapping[str, object]
    ) -> GatewayProcess:
        env = {"GATEWAY_CONFIG": "gateway.yaml", "ADMIN_TOKEN": TOKEN, **(more or {})}
        if redis is not None:
            env["REDIS_URL"] = redis.url
        return start_gateway(env, files={"gateway.yaml": yaml.safe_dump(configuration(stub, **tiers))})

    return started


@pytest.fixture
def gateway(shared_gateway: StartGateway, stub: StubProcess) -> GatewayProcess:
    """The gateway of the module: without Redis, and with nothing that a tier limits."""
    env = {"GATEWAY_CONFIG": "gateway.yaml", "ADMIN_TOKEN": TOKEN}
    return shared_gateway(env, files={"gateway.yaml": yaml.safe_dump(configuration(stub))})


def test_the_upstream_learns_who_asks_and_gets_no_key(gateway: GatewayProcess) -> None:
    for headers in ({"X-API-Key": FILE_KEY}, {"Authorization": f"Bearer {FILE_KEY}"}):
        seen = echoed(gateway.get("/orders/echo", headers))
        assert (seen["x-tenant"], seen["x-consumer"]) == (["acme"], ["web"])
        assert FILE_KEY not in str(seen)
        assert not {"x-api-key", "authorization"} & seen.keys()


@pytest.mark.parametrize("route", ["orders", "open"])
def test_nobody_but_the_gateway_says_who_asks(route: str, gateway: GatewayProcess) -> None:
    smuggled = (
        "X-Tenant: evil",
        "x-tenant: evil",
        "X_Tenant: evil",
        "X.Tenant: evil",
        "X-Consumer: evil",
        "X_CONSUMER: evil",
    )
    lines = "\r\n".join([f"GET /{route}/echo HTTP/1.1", "Host: a", f"X-API-Key: {FILE_KEY}", *smuggled])
    with RawClient(gateway.port) as client:
        # `Connection` names a field away, which must not reach what the gateway itself writes.
        answer = client.request(f"{lines}\r\nConnection: X-Tenant, X-Consumer\r\n\r\n".encode())
    assert answer.status == 200
    assert b"evil" not in answer.body
    assert (b'"acme"' in answer.body) == (route == "orders")


def test_a_route_without_authentication_has_no_gate_for_it(gateway: GatewayProcess) -> None:
    said = json.loads(gateway.get("/api/resilience/explain?path=/open/x").body)["steps"]
    absent = {step["policy"]: step["decision"] for step in said if step["policy"] in {"authentication", "tenant"}}
    assert absent == {"authentication": "none", "tenant": "none"}
    assert ask(gateway, None, "/open/ok").status == 200


def test_what_a_customer_has_left_is_told_to_operators_alone(start: Start) -> None:
    gateway = start(free={"rate_limit": "small", "quota_per_day": 1000})
    explain = "/api/resilience/explain?path=/orders/x"
    assert gateway.get(explain).status == 200
    for named in ("consumer=web", "tenant=acme", "consumer=nobody", "consumer=web&tenant=acme"):
        assert problem(gateway.get(f"{explain}&{named}")) == (401, "unauthorized")
        answer = gateway.get(f"{explain}&{named}", {"Authorization": f"Bearer {TOKEN}"})
        assert (answer.status, json.loads(answer.body)["outcome"]) == (200, "forwarded")
    command = [sys.executable, "-m", "gateway", "explain", "/orders/x", "--consumer", "web"]
    for token, status in ((TOKEN, 0), ("", 1)):
        env = clean_environment(GATEWAY_URL=gateway.url, ADMIN_TOKEN=token)
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, "small of tier" in done.stdout) == (status, not status)


def test_several_workers_say_of_tenants_what_all_of_them_do(start: Start, stub: StubProcess) -> None:
    gateway = start(None, {"WORKERS": "2"}, free={"concurrency": 8})

    def acme() -> dict[str, Any]:
        answer = gateway.get("/api/resilience/tenants", {"Authorization": f"Bearer {TOKEN}"})
        return next(each for each in json.loads(answer.body)["tenants"] if each["tenant"] == "acme")

    def all_say(name: str, figure: int) -> None:
        # Each answer is from one of the workers.
        eventually(lambda: [acme()[name] for _ in range(8)] == [figure] * 8, name, 15.0)

    with ThreadPoolExecutor(4) as threads:
        slow = [threads.submit(ask, gateway, FILE_KEY, "/orders/slow?seconds=6") for _ in range(4)]
        all_say("inFlight", 4)
        all_say("concurrency", 8)
        assert [each.result().status for each in slow] == [200] * 4
    assert [ask(gateway).status for _ in range(8)] == [200] * 8
    all_say("requests", 12)
    all_say("inFlight", 0)


def test_refusals_say_why_in_body_fields_log_and_metric(gateway: GatewayProcess) -> None:
    grown = gateway.growth()
    missing = ask(gateway, None)
    assert problem(missing) == (401, "unauthenticated")
    assert missing.headers["WWW-Authenticate"] == 'Bearer realm="gateway"'
    wrong = ask(gateway, key("filekey00001", "B"))
    assert problem(wrong) == (401, "unauthenticated")
    assert wrong.headers["WWW-Authenticate"] == 'Bearer realm="gateway", error="invalid_token"'
    assert problem(ask(gateway, QUIET_KEY, "/acme/ok")) == (403, "forbidden")
    assert ask(gateway, FILE_KEY, "/acme/ok").status == 200
    for series, count in (
        ('auth_total{route="orders",outcome="missing"}', 1),
        ('auth_total{route="orders",outcome="invalid"}', 1),
        ('auth_total{route="acme",outcome="forbidden"}', 1),
        ('auth_total{route="acme",outcome="allowed"}', 1),
        ('gateway_refusals_total{reason="unauthenticated"}', 2),
        ('gateway_tenant_requests_total{tenant="acme"}', 1),
    ):
        assert grown(series) == count, series
    gateway.wait_for_line('"/acme/ok"')
    eventually(
        lambda: len([1 for each in gateway.log_records() if each.get("target") == "/acme/ok"]) == 2, "both lines"
    )
    decisions = [each["decisions"] for each in gateway.log_records() if each.get("target") == "/acme/ok"]
    assert decisions == [{"tenant": "umbrella", "consumer": "quiet"}, {"tenant": "acme", "consumer": "web"}]


def test_guessing_ends_after_ten_attempts_and_a_good_key_from_there_still_works(start: Start) -> None:
    gateway = start()
    answers = [problem(ask(gateway, key("filekey00001", "B"))) for _ in range(12)]
    assert answers[:10] == [(401, "unauthenticated")] * 10
    assert answers[10:] == [(429, "too_many_attempts")] * 2
    assert ask(gateway).status == 200


def test_keys_are_made_rotated_and_revoked_and_both_gateways_know_within_two_seconds(
    start: Start, redis: RedisServer
) -> None:
    one, two = start(redis), start(redis)
    key_id, text = created(one, "batch", "--tenant", "acme", "--scope", "read")
    assert "no tier limits it" in keys(one, "create", "free").stdout
    for gateway in (one, two):
        seen = echoed(ask(gateway, text))
        assert (seen["x-tenant"], seen["x-consumer"]) == (["acme"], ["batch"])
    assert redis.execute("HGET", f"api-gateway:key:{key_id}", "sha256") == sha256(text)

    rotated = keys(two, "rotate", key_id, "--grace", "1h", "--json")
    assert rotated.returncode == 0
    newer = json.loads(rotated.stdout)
    # What was known is forgotten with the change, and a busy Redis may not be asked in time at once.
    one.wait_until(lambda: [ask(one, each).status for each in (text, newer["key"])] == [200, 200], "taking both keys")
    third = keys(one, "create", "batch")
    assert (third.returncode, "two keys already" in third.stderr) == (1, True)
    listed = keys(one, "list").stdout
    assert key_id in listed
    assert newer["id"] in listed

    # Whoever has found a key has the whole of it.
    revoked = keys(one, "revoke", text)
    assert (revoked.returncode, revoked.stdout) == (0, f"{key_id}: revoked\n")
    for gateway in (one, two):
        eventually(lambda gateway=gateway: ask(gateway, text).status == 401, "revoked", REVOKED_WITHIN)  # type: ignore[misc]  # bound now
        assert ask(gateway, newer["key"]).status == 200
    assert keys(one, "revoke", key_id).returncode == 1
    mistyped = keys(one, "revoke", f"{text[:10]}-{text[10:]}")
    assert (mistyped.returncode, text[10:] in mistyped.stderr) == (2, False)
    for gateway in (one, two):
        for line in gateway.lines:
            assert text not in line
            assert newer["key"] not in line
            assert text.split("_", 2)[2] not in line


def test_without_redis_what_was_read_lives_on_and_the_rest_cannot_be_judged(
    start: Start, own_redis: RedisServer
) -> None:
    gateway = start(own_redis)
    _, read = created(gateway, "batch")
    _, unread = created(gateway, "other")
    # The news of the two new keys comes with an exchange of its own, and what was read before it is read again.
    for _ in range(20):
        assert ask(gateway, read).status == 200
        time.sleep(0.1)
    own_redis.kill()
    eventually(lambda: problem(ask(gateway, unread)) == (503, "auth_unavailable"), "unavailable")
    assert ask(gateway, unread).headers["Retry-After"] == "1"
    assert ask(gateway, read).status == 200
    assert ask(gateway).status == 200
    assert keys(gateway, "list").returncode == 1
    own_redis.ensure_running()


def test_a_gateway_without_redis_keeps_keys_in_the_file_alone(gateway: GatewayProcess) -> None:
    refused = keys(gateway, "create", "batch")
    assert refused.returncode == 1
    assert "put them into the YAML file" in refused.stderr
    printed = keys(gateway, "create", "batch", "--tenant", "acme", "--scope", "read", "--for", "30d", "--yaml").stdout
    entry = yaml.safe_load(printed)["consumers"]["batch"]
    assert (entry["tenant"], entry["scopes"], len(entry["keys"])) == ("acme", ["read"], 1)
    assert entry["keys"][0].keys() == {"id", "sha256", "not_after"}


def test_tenants_and_keys_are_for_operators_alone(start: Start, redis: RedisServer) -> None:
    gateway = start(redis)
    for target in ("/api/resilience/tenants", "/api/admin/keys"):
        assert gateway.get(target).status == 401
        assert gateway.get(target, {"Authorization": f"Bearer {TOKEN}"}).status == 200


def test_a_noisy_tenant_is_refused_and_a_quiet_one_is_not_and_both_are_counted_over_the_fleet(
    start: Start, redis: RedisServer
) -> None:
    tier = {"free": {"rate_limit": "small", "concurrency": 50, "quota_per_day": 1000}}
    one, two = start(redis, **tier), start(redis, **tier)
    with ThreadPoolExecutor(8) as threads:
        noisy = [threads.submit(ask, (one, two)[at % 2]) for at in range(60)]
        quiet = [threads.submit(ask, (one, two)[at % 2], QUIET_KEY) for at in range(8)]
        statuses = [each.result().status for each in noisy]
        assert [each.result().status for each in quiet] == [200] * 8
    assert statuses.count(200) == 10
    assert statuses.count(429) == 50

    def used(gateway: GatewayProcess) -> dict[str, int]:
        answer = gateway.get("/api/resilience/tenants", {"Authorization": f"Bearer {TOKEN}"})
        return {each["tenant"]: each["usedToday"] for each in json.loads(answer.body)["tenants"]}

    for gateway in (one, two):
        eventually(lambda gateway=gateway: used(gateway) == {"acme": 10, "umbrella": 8}, "the sums", 15.0)  # type: ignore[misc]  # bound now


def test_a_quota_is_that_of_the_day_over_the_fleet_and_survives_a_restart(start: Start, redis: RedisServer) -> None:
    tier = {"free": {"quota_per_day": 5}}
    one = start(redis, **tier)
    assert [ask(one).status for _ in range(7)] == [200] * 5 + [429] * 2
    refused = ask(one)
    assert problem(refused) == (429, "quota_exceeded")
    assert 1 <= int(refused.headers["Retry-After"]) <= 86_400
    assert one.stop() == 0
    two = start(redis, **tier)
    eventually(lambda: problem(ask(two))[1] == "quota_exceeded", "the quota known", 15.0)


def test_a_tenant_has_no_more_in_flight_than_its_tier_allows(start: Start, stub: StubProcess) -> None:
    gateway = start(free={"concurrency": 2})

    def in_flight() -> str:
        lines = gateway.get("/metrics").body.decode().splitlines()
        return next(line for line in lines if line.startswith('gateway_tenant_in_flight{tenant="acme"}'))

    with ThreadPoolExecutor(8) as threads:
        slow = [threads.submit(ask, gateway, FILE_KEY, "/orders/slow?ms=1500") for _ in range(6)]
        eventually(
            lambda: 'gateway_tenant_in_flight{tenant="acme"} 2' in gateway.get("/metrics").body.decode(),
            "two in flight",
        )
        assert ask(gateway, QUIET_KEY).status == 200
        results = [each.result() for each in slow]
    assert sorted(each.status for each in results) == [200] * 2 + [429] * 4
    assert {problem(each) for each in results if each.status == 429} == {(429, "concurrency_limited")}
    eventually(
        lambda: 'gateway_tenant_in_flight{tenant="acme"} 0' in gateway.get("/metrics").body.decode(), "none left"
    )


def test_a_gateway_that_stops_tells_redis_what_it_has_counted(start: Start, redis: RedisServer) -> None:
    gateway = start(redis)
    assert ask(gateway).status == 200
    gateway.send_signal(signal.SIGTERM)
    assert gateway.wait() == 0
    (day,) = redis.execute("KEYS", "api-gateway:usage:*")
    assert redis.execute("HGET", day, "t:acme") == "1"
