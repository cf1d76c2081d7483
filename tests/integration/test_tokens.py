"""JSON Web Tokens through whole gateways: an issuer that rotates its keys, goes away and comes back."""

import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.identity.tokens import FLAWS
from tests.conftest import StartGateway
from tests.support import plain_http
from tests.support.gateway_process import GatewayProcess
from tests.support.issuer import ISSUER, IssuerServer, SigningKey, claims, now, token
from tests.support.keys import key, sha256
from tests.support.plain_http import Answer
from tests.support.raw_http import RawClient
from tests.support.stub_process import StubProcess
from tests.support.token_attacks import EC, KEY, attacks
from tests.support.waiting import eventually

TOKEN = "correct-horse-battery-staple"
AS_OPERATOR = {"Authorization": f"Bearer {TOKEN}"}
FIRST, SECOND = SigningKey("k1"), SigningKey("k2")
API_KEY = key("filekey00001")

Start = Callable[..., GatewayProcess]


def document(stub: StubProcess, jwks_url: str, **issuer: Any) -> dict[str, str]:
    """The file of a gateway that asks this issuer."""
    route = {"upstream": "orders", "strip_prefix": True, "rate_limit": None}
    written = {
        "upstreams": {"orders": {"endpoints": [stub.url]}},
        "tenants": {"acme": {}},
        "consumers": {"web": {"keys": [{"id": "filekey00001", "sha256": sha256(API_KEY)}]}},
        "issuers": {
            "login": {"issuer": ISSUER, "audience": "orders", "algorithms": ["RS256"], "jwks_url": jwks_url}
            | {"claims": {"tenant": "org"}, "fields": {"X-Mail": "mail"}}
            | issuer
        },
        "routes": [
            route | {"name": "orders", "prefix": "/orders", "authentication": "jwt"},
            route | {"name": "both", "prefix": "/both", "authentication": ["api_key", "jwt"]},
            route
            | {"name": "admin", "prefix": "/admin", "authentication": "jwt", "allow": {"scopes": ["admin"]}}
            | {"forward_token": False},
            route | {"name": "open", "prefix": "/open"},
        ],
    }
    return {"gateway.yaml": yaml.safe_dump(written)}


SETTINGS = {"GATEWAY_CONFIG": "gateway.yaml", "ADMIN_TOKEN": TOKEN}


@pytest.fixture
def start(start_gateway: StartGateway, stub: StubProcess) -> Start:
    def started(jwks_url: str, *, env: Mapping[str, str] | None = None, **issuer: Any) -> GatewayProcess:
        return start_gateway({**SETTINGS, **(env or {})}, files=document(stub, jwks_url, **issuer))

    return started


@pytest.fixture(scope="module")
def issuer() -> Iterator[IssuerServer]:
    """One that stays as it is."""
    with IssuerServer(FIRST) as running:
        yield running


@pytest.fixture
def gateway(issuer: IssuerServer, shared_gateway: StartGateway, stub: StubProcess) -> GatewayProcess:
    """The gateway of the module, which has the keys of `issuer`."""
    return shared_gateway(SETTINGS, files=document(stub, issuer.url))


def says(**changed: Any) -> dict[str, Any]:
    return claims(time.time(), **{"org": "acme", "mail": "alice@example.com"} | changed)


def ask(gateway: GatewayProcess, text: str | None, target: str = "/orders/echo", **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return gateway.get(target, {**({"Authorization": f"Bearer {text}"} if text else {}), **fields})


def problem(answer: Answer) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["reason"]


def echoed(answer: Answer) -> dict[str, list[str]]:
    assert answer.status == 200, answer.body
    found: dict[str, list[str]] = {}
    for name, value in json.loads(answer.body)["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


def test_the_upstream_learns_who_asks_and_gets_the_token_where_the_route_says_so(gateway: GatewayProcess) -> None:
    text = token(FIRST, says(scope="admin"))
    seen = echoed(ask(gateway, text))
    assert (seen["x-tenant"], seen["x-consumer"], seen["x-mail"]) == (
        *(["acme"], ["login:alice"], ["alice@example.com"]),
    )
    assert seen["authorization"] == [f"Bearer {text}"]
    assert "authorization" not in echoed(ask(gateway, text, "/admin/echo"))
    assert echoed(ask(gateway, text, "/both/echo"))["x-consumer"] == ["login:alice"]
    assert echoed(gateway.get("/both/echo", {"X-API-Key": API_KEY}))["x-consumer"] == ["web"]


@pytest.mark.parametrize("route", ["orders", "both", "open"])
def test_nobody_but_the_gateway_says_what_claims_say(route: str, gateway: GatewayProcess) -> None:
    smuggled = ("X-Mail: evil", "x_mail: evil", "X.MAIL: evil", "X-Consumer: evil", "X_Tenant: evil", "X-Mail:evil")
    text = token(FIRST, says(mail=None))
    lines = "\r\n".join([f"GET /{route}/echo HTTP/1.1", "Host: a", f"Authorization: Bearer {text}", *smuggled])
    with RawClient(gateway.port) as client:
        answer = client.request(f"{lines}\r\nConnection: X-Consumer, X-Tenant\r\n\r\n".encode())
    assert answer.status == 200
    assert b"evil" not in answer.body
    assert (b"login:alice" in answer.body) == (route != "open")


def test_refusals_say_why_in_body_field_log_and_metric(gateway: GatewayProcess) -> None:
    grown = gateway.growth()
    missing = ask(gateway, None)
    assert problem(missing) == (401, "unauthenticated")
    assert missing.headers["WWW-Authenticate"] == 'Bearer realm="gateway"'
    late = ask(gateway, token(FIRST, says(exp=now() - 3600)))
    assert problem(late) == (401, "unauthenticated")
    assert late.headers["WWW-Authenticate"] == (
        'Bearer realm="gateway", error="invalid_token", error_description="it has expired"'
    )
    lacking = ask(gateway, token(FIRST, says()), "/admin/ok")
    assert problem(lacking) == (403, "forbidden")
    assert lacking.headers["WWW-Authenticate"].endswith('error="insufficient_scope", scope="admin"')
    [line] = gateway.wait_for_records(status=401, decisions={"authentication": "invalid", "token": "expired"})
    assert line["target"] == "/orders/echo"
    for series in (
        'auth_total{route="orders",outcome="missing"}',
        'auth_total{route="orders",outcome="invalid"}',
        'auth_total{route="admin",outcome="forbidden"}',
        'jwt_checks_total{issuer="login",outcome="expired"}',
        'jwt_checks_total{issuer="login",outcome="verified"}',
    ):
        assert grown(series) == 1, series
    assert gateway.metric('jwks_fetches_total{issuer="login",outcome="fetched"}') == 1
    assert gateway.metric('jwks_keys{issuer="login"}') == 1


def test_an_issuer_rotates_its_keys_goes_away_and_comes_back(start: Start) -> None:
    with IssuerServer(FIRST) as issuer:
        gateway = start(issuer.url, refresh=10)
        assert ask(gateway, token(FIRST, says())).status == 200
        # A new key: the first token with it brings it, and the old one is gone with what it has signed.
        old = token(FIRST, says(jti="old"))
        assert ask(gateway, old).status == 200
        issuer.answer = issuer.serving(SECOND)
        assert ask(gateway, token(SECOND, says())).status == 200
        assert problem(ask(gateway, old)) == (401, "unauthenticated")
        # It answers nonsense: the keys stay, health says so, and nobody is refused.
        issuer.answer = issuer.saying(b"<html>", 502)
        gateway.wait_until(lambda: health(gateway)["status"] == "degraded", "degraded because of the issuer", 60)
        assert any(
            "The keys of the issuer login cannot be had (status 502)" in each for each in health(gateway)["reasons"]
        )
        assert ask(gateway, token(SECOND, says(jti="new"))).status == 200
        shown = json.loads(gateway.get("/api/resilience/issuers", AS_OPERATOR).body)["issuers"][0]
        assert (shown["name"], shown["keys"], shown["usable"]) == ("login", ["k2: RSA 2048"], True)
        assert shown["problem"] == "status 502"
        issuer.answer = issuer.serving(FIRST, SECOND)
        gateway.wait_until(lambda: health(gateway)["status"] == "healthy", "healthy again", 120)
        assert ask(gateway, token(FIRST, says(jti="back"))).status == 200
        gateway.wait_for_records(event="jwks_fetch_failed", issuer="login", outcome="status")


def health(gateway: GatewayProcess) -> dict[str, Any]:
    found = json.loads(gateway.get("/health").body)
    assert isinstance(found, dict)
    return found


def test_a_gateway_without_keys_says_when_to_come_back_and_serves_when_they_come(start: Start) -> None:
    issuer = IssuerServer(FIRST)
    gateway = start(issuer.url)
    refused = ask(gateway, token(FIRST, says()))
    assert problem(refused) == (503, "auth_unavailable")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert gateway.get("/readyz").status == 200
    assert ask(gateway, None, "/open/ok").status == 200
    assert gateway.get("/both/ok", {"X-API-Key": API_KEY}).status == 200
    explained = json.loads(gateway.get("/api/resilience/explain?path=/orders/x").body)
    step = next(each for each in explained["steps"] if each["policy"] == "authentication")
    assert "login has no keys now" in step["detail"]
    named = "/api/resilience/explain?path=/admin/x&consumer=login:alice&tenant=acme&scope="
    for scope, decision in (("read", "refuse"), ("read+admin", "allow")):
        steps = json.loads(gateway.get(named + scope, AS_OPERATOR).body)["steps"]
        assert next(each["decision"] for each in steps if each["policy"] == "authentication") == decision
    with issuer:
        eventually(lambda: ask(gateway, token(FIRST, says())).status == 200, "served", 90)


def test_a_slow_issuer_holds_up_neither_the_start_nor_other_requests(start: Start) -> None:
    with IssuerServer(FIRST) as issuer:
        issuer.answer = issuer.slow
        gateway = start(issuer.url)
        assert ask(gateway, None, "/open/ok").status == 200
        assert problem(ask(gateway, token(FIRST, says()))) == (503, "auth_unavailable")


def test_two_workers_each_fetch_and_check(start: Start) -> None:
    with IssuerServer(FIRST) as issuer:
        gateway = start(issuer.url, env={"WORKERS": "2"})
        gateway.wait_until(lambda: issuer.fetches >= 2, "two workers fetching", 60)
        texts = [token(FIRST, says(jti=str(at))) for at in range(40)]
        assert {ask(gateway, text).status for text in texts} == {200}
        issuer.answer = issuer.serving(SECOND)
        assert {ask(gateway, token(SECOND, says(jti=str(at)))).status for at in range(40)} == {200}
        # What workers have counted is one sum, as of a second ago.
        gateway.wait_for_metric('jwt_checks_total{issuer="login",outcome="verified"}', 80)


def test_a_reload_takes_over_another_issuer(start: Start) -> None:
    with IssuerServer(FIRST) as one, IssuerServer(SECOND) as two:
        gateway = start(one.url)
        assert ask(gateway, token(FIRST, says())).status == 200
        file = gateway.directory / "gateway.yaml"
        written = yaml.safe_load(file.read_text())
        written["issuers"]["login"]["jwks_url"] = two.url
        file.write_text(yaml.safe_dump(written))
        answer = gateway.request("POST", "/api/admin/reload", headers=AS_OPERATOR)
        assert answer.status == 200, answer.body
        eventually(lambda: ask(gateway, token(SECOND, says())).status == 200, "the new issuer")
        eventually(lambda: ask(gateway, token(FIRST, says())).status == 401, "the old one gone")


def test_new_workers_go_on_with_the_keys_that_others_have_fetched(start: Start) -> None:
    """Killed, reloaded and upgraded while the issuer is away: whoever comes has the keys of before."""
    with IssuerServer(FIRST) as issuer:
        gateway = start(issuer.url, env={"WORKERS": "2"})
        gateway.wait_until(lambda: issuer.fetches >= 2, "two workers fetching", 60)
        assert statuses(gateway, FIRST) == {200}
    seen = set(states(gateway))
    # All at once: none is left that could tell the others.
    for pid in seen:
        os.kill(pid, signal.SIGKILL)
    seen |= wait_for_new_workers(gateway, seen)
    assert statuses(gateway, FIRST) == {200}
    for order in ("reload", "upgrade", "reload"):
        give_order(gateway, order)
        seen |= wait_for_new_workers(gateway, seen)
        assert statuses(gateway, FIRST) == {200}, order
    gateway.wait_until(lambda: health(gateway)["status"] == "degraded", "degraded because of the issuer", 60)
    shown = json.loads(gateway.get("/api/resilience/issuers", AS_OPERATOR).body)["issuers"][0]
    assert (shown["name"], shown["keys"], shown["usable"]) == ("login", ["k1: RSA 2048"], True)
    assert statuses(gateway, SECOND) == {503}


def test_a_key_that_one_worker_knows_to_be_withdrawn_does_not_come_back_in_a_new_one(start: Start) -> None:
    with IssuerServer(FIRST) as issuer:
        gateway = start(issuer.url, env={"WORKERS": "2"})
        gateway.wait_until(lambda: issuer.fetches >= 2, "two workers fetching", 60)
        assert statuses(gateway, FIRST) == {200}
        issuer.answer = issuer.serving(SECOND)
        # The one that gets it asks for its key. The other one goes on with what it has.
        assert ask(gateway, token(SECOND, says())).status == 200
    seen = set(states(gateway))
    give_order(gateway, "reload")
    wait_for_new_workers(gateway, seen)
    assert statuses(gateway, SECOND) == {200}
    assert statuses(gateway, FIRST) == {503}


def test_a_reload_takes_a_key_out_that_its_issuer_has_withdrawn(start: Start) -> None:
    """Keys that are handed on are for issuers that do not answer: what one answers goes before."""
    with IssuerServer(FIRST) as issuer:
        gateway = start(issuer.url)
        assert statuses(gateway, FIRST) == {200}
        issuer.answer = issuer.serving(SECOND)
        seen = set(states(gateway))
        give_order(gateway, "reload")
        wait_for_new_workers(gateway, seen, 1)
        assert problem(ask(gateway, token(FIRST, says()))) == (401, "unauthenticated")


def test_keys_of_another_address_are_not_taken_for_those_of_this_one(start: Start) -> None:
    away = IssuerServer(SECOND)
    with IssuerServer(FIRST) as issuer:
        gateway = start(issuer.url)
        assert statuses(gateway, FIRST) == {200}
        file = gateway.directory / "gateway.yaml"
        written = yaml.safe_load(file.read_text())
        written["issuers"]["login"]["jwks_url"] = away.url
        file.write_text(yaml.safe_dump(written))
        seen = set(states(gateway))
        give_order(gateway, "reload")
        wait_for_new_workers(gateway, seen, 1)
        assert statuses(gateway, FIRST) == {503}


def statuses(gateway: GatewayProcess, key: SigningKey) -> set[int]:
    """Of tokens that nobody has seen, each over a connection of its own, so that all workers get some."""
    return {ask(gateway, token(key, says(jti=f"{time.monotonic()}"))).status for _ in range(40)}


def give_order(gateway: GatewayProcess, order: str) -> None:
    headers = AS_OPERATOR | {"Content-Type": "application/json"}
    target = f"/api/admin/{order}"
    answer = plain_http.request(gateway.port, target, method="POST", headers=headers, timeout=60)
    assert answer.status == 200, answer.body


def states(gateway: GatewayProcess) -> dict[int, str]:
    """Of the workers, by pid."""
    found = json.loads(gateway.get("/api/resilience/workers").body)
    return {each["pid"]: each["state"] for each in found["workers"]}


def wait_for_new_workers(gateway: GatewayProcess, seen: set[int], count: int = 2) -> set[int]:
    """Until so many serve, and those that were `seen` have ended. Their pids."""
    found: dict[int, str] = {}

    def there() -> bool:
        found.clear()
        # One that was killed leaves without an answer.
        with suppress(OSError, http.client.HTTPException):
            found.update(states(gateway))
        return list(found.values()) == ["ready"] * count and not found.keys() & seen

    gateway.wait_until(there, "new workers alone", 120)
    return set(found)


def test_no_trick_gets_past_a_gateway(start: Start) -> None:
    """Each comes from an address of its own, because failures cost attempts."""
    with IssuerServer(KEY, EC) as issuer:
        gateway = start(issuer.url, env={"TRUSTED_PROXIES": "127.0.0.1"}, algorithms=["RS256", "ES256"])
        wrong = {}
        with RawClient(gateway.port) as client:
            for at, (name, (text, flaw)) in enumerate(attacks(time.time()).items()):
                lines = f"GET /orders/ok HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.{at // 200}.{at % 200}\r\n"
                answer = client.request(f"{lines}Authorization: Bearer {text}\r\n\r\n".encode())
                expected = f'Bearer realm="gateway", error="invalid_token", error_description="{FLAWS[flaw]}"'
                if (answer.status, answer.all("WWW-Authenticate")) != (401, [expected]):
                    wrong[name] = answer
        assert wrong == {}
        assert ask(gateway, token(KEY, says())).status == 200


def test_no_token_and_no_part_of_one_is_told_to_anybody(start: Start, tmp_path: Path) -> None:
    """Whatever becomes of it: answers, log lines, metrics, the control plane, log files."""
    secret = "hidden-in-a-claim"
    with IssuerServer(FIRST) as issuer:
        gateway = start(issuer.url, env={"LOG_DIR": str(tmp_path / "logs"), "WORKERS": "2"})
        shown = [
            token(FIRST, says(nonce=secret)),
            token(FIRST, says(nonce=secret, exp=now() - 3600)),
            token(SECOND, says(nonce=secret), {"kid": "k1"}),
            token(FIRST, says(nonce=secret, iss=f"https://{secret}.example/")),
            token(FIRST, says(nonce=secret, aud=secret)),
            token(FIRST, says(nonce=secret), {"kid": secret}),
            token(FIRST, says(nonce=secret), {"alg": secret}),
            token(FIRST, says(nonce=secret), {"crit": [secret]}),
            token(FIRST, says(nonce=secret, sub=None)),
            token(FIRST, says(nonce=secret))[:-4],
        ]
        told = [ask(gateway, text, f"/{route}/ok") for text in shown for route in ("orders", "admin", "both")]
        assert {answer.status for answer in told} == {200, 401, 403, 429}
        # Some clients put it into the query, where it does not count.
        told.append(gateway.get(f"/orders/ok?access_token={shown[0]}"))
        assert told[-1].status == 401
        for path in (
            *("/health", "/metrics", "/api/resilience/issuers", "/api/resilience/errors/recent?count=1000"),
            *("/api/resilience/alerts?state=all", "/api/resilience/tenants", "/api/resilience/explain?path=/orders/x"),
        ):
            told.append(gateway.get(path, AS_OPERATOR))
            assert told[-1].status == 200, path
        gateway.wait_for_records(30, method="GET")
        gateway.stop()
        everything = "\n".join(gateway.lines)
        for answer in told:
            everything += answer.body.decode() + str(dict(answer.headers))
        for file in (tmp_path / "logs").rglob("*"):
            everything += file.read_text(errors="replace") if file.is_file() else ""
        assert "login:alice" in everything
        assert secret not in everything
        for text in shown:
            for part in text.split("."):
                # Headers of good tokens are the same for all, and no secret; still nobody has to tell them.
                assert part not in everything
