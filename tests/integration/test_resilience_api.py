"""The resilience API on real gateways: its figures are those that a client counts for itself."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.redis_server import RedisServer
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

API = "/api/resilience"
JSON = {"Content-Type": "application/json"}
# Nothing but what a test is about shall interfere with its counts.
QUIET = {"RATE_LIMIT_ENABLED": "false", "RETRY_MAX_ATTEMPTS": "1", "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000",
         "CIRCUIT_BREAKER_MINIMUM_CALLS": "1000", "CIRCUIT_BREAKER_WINDOW_SIZE": "1000"}  # fmt: skip


def api(gateway: GatewayProcess, path: str) -> Any:
    answer = gateway.get(API + path)
    assert answer.status == 200, answer.body
    return answer.json()


def command(gateway: GatewayProcess, path: str, body: dict[str, object] | None = None) -> Any:
    raw = json.dumps(body).encode() if body is not None else None
    answer = gateway.request("POST", API + path, raw, JSON if body is not None else {})
    assert answer.status == 200, answer.body
    return answer.json()


@pytest.fixture(scope="module")
def shared_gateway(stub_process: StubProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """For tests that change nothing."""
    with GatewayProcess({**QUIET, "UPSTREAM_URL": stub_process.url}, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


def instant(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def test_the_figures_are_what_a_client_counts(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway({**QUIET, "UPSTREAM_URL": stub.url})
    paths = ["/proxy/ok"] * 37 + ["/proxy/fail"] * 11 + ["/proxy/status/404"] * 5 + ["/nowhere"] * 3
    counted = Counter(gateway.get(path).status for path in paths)
    failed = sum(count for status, count in counted.items() if status >= 500)
    assert failed == 11

    for name in ("default", "DEFAULT", "Default"):
        figures = api(gateway, f"/metrics/{name}")
        assert figures["service"] == "default"
        assert figures["requests"] == 53
        assert figures["failedRequests"] == figures["errors"] == failed
        assert figures["errorRate"] == pytest.approx(11 / 53, abs=1e-6)
        assert figures["errorsPerMinute"] == pytest.approx(11 / 5)
        assert sum(figures["errorsByCategory"].values()) == failed + figures["refused"]
        assert figures["errorsByCategory"]["Dependency"] == failed
        assert figures["circuitState"] == "Closed"
        assert abs((datetime.now(UTC) - instant(figures["lastErrorTime"])).total_seconds()) < 60

    wide = api(gateway, "/metrics/default/error-rate?windowMinutes=15")
    assert (wide["windowMinutes"], wide["requests"], wide["errors"]) == (15, 53, failed)
    assert wide["errorsPerMinute"] == pytest.approx(11 / 15, abs=1e-3)

    every = api(gateway, "/metrics")
    assert [each["service"] for each in every["services"]] == ["default", "gateway"]
    own = every["services"][1]
    assert (own["requests"], own["refused"], own["circuitState"]) == (3, 3, None)

    recent = api(gateway, "/errors/recent?count=5&service=Default")
    assert recent["count"] == len(recent["errors"]) == 5
    assert {(each["service"], each["status"], each["category"]) for each in recent["errors"]} == {
        ("default", 500, "Dependency")
    }
    times = [each["time"] for each in recent["errors"]]
    assert times == sorted(times, reverse=True)


def test_health_turns_with_the_circuit_and_says_why(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "3"})
    assert api(gateway, "/health")["status"] == "Healthy"
    statuses = [gateway.get("/proxy/fail").status for _ in range(4)]
    assert statuses == [500, 500, 500, 503]

    health = api(gateway, "/health")
    assert health["status"] == "Unhealthy"
    assert "next probe in" in health["reasons"][0]
    assert health["services"][0]["circuitState"] == "Open"

    circuits = api(gateway, "/circuit-breakers")
    assert (circuits["total"], circuits["open"]) == (1, 1)
    circuit = api(gateway, "/circuit-breakers/Default")
    assert circuit["state"] == circuit["circuitState"] == "Open"
    assert circuit["cause"] == "3 consecutive failures"
    assert 25 < circuit["retryAfter"] <= 30
    since, probe = instant(circuit["since"]), instant(circuit["nextProbeTime"])
    assert 29 < (probe - since).total_seconds() < 31
    assert [(each["fromState"], each["toState"]) for each in circuit["transitions"]] == [("Closed", "Open")]
    assert circuit["settings"]["failureThreshold"] == 3

    assert command(gateway, "/metrics/DEFAULT/reset")["circuitState"] == "Closed"
    assert gateway.get("/proxy/ok").status == 200
    after = api(gateway, "/metrics/default")
    assert (after["requests"], after["errors"], after["circuitState"]) == (1, 0, "Closed")
    assert api(gateway, "/health")["status"] == "Healthy"


@pytest.mark.parametrize("shared", [False, True])
def test_a_forced_state_says_when_it_ends(
    start_gateway: StartGateway, stub: StubProcess, redis: RedisServer, shared: bool
) -> None:
    gateway = start_gateway({"UPSTREAM_URL": stub.url, **(redis.variables if shared else {})})
    for action, retry_after in (("force-open", 30), ("force-closed", 0)):
        path = f"/circuit-breakers/default/{action}"
        told = command(gateway, path, {"duration": 30, "reason": "drill"})["circuit"]
        for circuit in (told, api(gateway, "/circuit-breakers/default")):
            left = (instant(circuit["forcedUntil"]) - datetime.now(UTC)).total_seconds()
            assert 25 < left <= 30.1
            assert circuit["retryAfter"] == pytest.approx(retry_after, abs=5)
            assert circuit["nextProbeTime"] is None
    assert command(gateway, "/circuit-breakers/default/release")["circuit"]["forcedUntil"] is None


def test_an_operator_holds_a_circuit_until_it_expires(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "2"})
    held = command(gateway, "/circuit-breakers/default/force-open", {"duration": 60, "reason": "maintenance"})
    assert (held["action"], held["circuit"]["state"], held["circuit"]["forced"]) == ("force-open", "Open", True)
    assert held["circuit"]["cause"] == "maintenance"
    assert held["circuit"]["nextProbeTime"] is None
    refused = gateway.get("/proxy/ok")
    assert (refused.status, refused.json()["reason"]) == (503, "circuit_open")

    command(gateway, "/circuit-breakers/default/force-closed", {"duration": 5, "reason": "let it through"})
    assert [gateway.get("/proxy/fail").status for _ in range(5)] == [500] * 5
    assert api(gateway, "/circuit-breakers/default")["forced"] is True

    def released() -> bool:
        return api(gateway, "/circuit-breakers/default")["forced"] is False

    eventually(released, "released by its time limit")
    command(gateway, "/circuit-breakers/default/force-open", {"duration": 60, "reason": "again"})
    assert command(gateway, "/circuit-breakers/default/release")["circuit"]["state"] == "Closed"
    assert gateway.get("/proxy/ok").status == 200
    causes = [(each["toState"], each["forced"]) for each in api(gateway, "/circuit-breakers/default")["transitions"]]
    assert causes == [("Closed", False), ("Open", True), ("Closed", False), ("Closed", True), ("Open", True)]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"duration": 0, "reason": "x"}, "duration"),
        ({"duration": 86_401, "reason": "x"}, "from 1 to 86400"),
        ({"duration": "60", "reason": "x"}, "duration"),
        ({"duration": 60}, "reason is missing: text of 1 to 200 characters without control characters."),
        ({"duration": 60, "reason": ""}, "reason"),
        ({"duration": 60, "reason": "x" * 201}, "1 to 200"),
        ({"duration": 60, "reason": "two\nlines"}, "control characters"),
        ({"duration": 60, "reason": "x", "durtion": 1}, "durtion"),
        ([], "object"),
    ],
)
def test_a_wrong_body_is_a_400_that_names_what_is_wrong(
    shared_gateway: GatewayProcess, body: object, word: str
) -> None:
    path = f"{API}/circuit-breakers/default/force-open"
    answer = shared_gateway.request("POST", path, json.dumps(body).encode(), JSON)
    assert (answer.status, word in answer.json()["detail"]) == (400, True)
    assert shared_gateway.get("/proxy/ok").status == 200


def test_a_body_that_is_no_json(shared_gateway: GatewayProcess) -> None:
    path = f"{API}/circuit-breakers/default/force-open"
    assert shared_gateway.request("POST", path, b"{", JSON).status == 400
    assert shared_gateway.request("POST", path, b'{"duration": 1, "reason": "x"}').status == 415


def test_a_member_that_is_there_twice_is_a_400(shared_gateway: GatewayProcess) -> None:
    path = f"{API}/circuit-breakers/default/force-open"
    answer = shared_gateway.request("POST", path, b'{"duration": 1, "reason": "x", "durati\\u006fn": 86400}', JSON)
    assert (answer.status, answer.json()["member"]) == (400, "duration")
    assert shared_gateway.get("/proxy/ok").status == 200


@pytest.mark.parametrize(
    ("target", "parameter", "allowed"),
    [
        ("/metrics/default/error-rate?windowMinutes=0", "windowMinutes", "from 1 to 60"),
        ("/metrics/default/error-rate?windowMinutes=61", "windowMinutes", "from 1 to 60"),
        ("/metrics/default/error-rate?windowMinutes=99999999999999999999", "windowMinutes", "from 1 to 60"),
        ("/metrics/default/error-rate?windowMinutes=1_0", "windowMinutes", "an integer"),
        ("/metrics/default/error-rate?windowMinutes=", "windowMinutes", "an integer"),
        ("/errors/recent?count=0", "count", "from 1 to 1000"),
        ("/errors/recent?count=1001", "count", "from 1 to 1000"),
        ("/errors/recent?count=x", "count", "from 1 to 1000"),
        ("/errors/recent?count=1&count=2", "count", "more than once"),
        ("/errors/recent?cuont=1", "cuont", "count"),
        ("/alerts?state=open", "state", "active or all"),
        ("/explain?path=proxy", "path", "begins with '/'"),
        ("/explain?client=somewhere", "client", "an IP address"),
        ("/health?verbose=1", "verbose", "none"),
    ],
)
def test_a_wrong_query_is_a_400_that_names_the_parameter(
    shared_gateway: GatewayProcess, target: str, parameter: str, allowed: str
) -> None:
    answer = shared_gateway.get(API + target)
    problem = answer.json()
    assert (answer.status, answer.headers["Content-Type"]) == (400, "application/problem+json")
    assert problem["parameter"] == parameter
    assert parameter in problem["detail"]
    assert allowed in problem["detail"]


@pytest.mark.parametrize(
    ("target", "status", "detail"),
    [
        ("/metrics/default/error-rate?windowMinutes=٣".encode(), 400, 'windowMinutes is "٣", but must be an integer'),
        (b"/errors/recent?count=\xff", 400, "count is "),
        ("/metrics/größe".encode(), 404, "no service of this name"),
    ],
)
def test_bytes_beyond_ascii_in_the_target_are_answered_in_the_same_words(
    shared_gateway: GatewayProcess, target: bytes, status: int, detail: str
) -> None:
    with RawClient(shared_gateway.port) as client:
        answer = client.request(b"GET %b%b HTTP/1.1\r\nHost: a\r\n\r\n" % (API.encode(), target))
    assert (answer.status, answer.get("Content-Type")) == (status, "application/problem+json")
    assert detail in json.loads(answer.body)["detail"]


@pytest.mark.parametrize("path", ["/metrics/nobody", "/metrics/nobody/error-rate", "/errors/recent?service=nobody"])
def test_an_unknown_service_is_a_404_that_lists_the_known(shared_gateway: GatewayProcess, path: str) -> None:
    answer = shared_gateway.get(API + path)
    assert (answer.status, answer.json()["known"]) == (404, ["default", "gateway"])


def test_the_gateway_itself_has_figures_and_no_circuit(shared_gateway: GatewayProcess) -> None:
    assert shared_gateway.get(f"{API}/metrics/gateway").status == 200
    answer = shared_gateway.get(f"{API}/circuit-breakers/gateway")
    assert (answer.status, answer.json()["known"]) == (404, ["default"])


def test_metrics_are_a_scrape_target(shared_gateway: GatewayProcess) -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.2"}
    text = shared_gateway.get(f"{API}/metrics", accept)
    assert text.headers["Content-Type"].startswith("application/openmetrics-text")
    assert b"http_requests_total" in text.body
    assert (
        b'circuit_breaker_state{upstream="default"}'
        in shared_gateway.get(f"{API}/metrics", {"Accept": "text/plain"}).body
    )
    assert "services" in shared_gateway.get(f"{API}/metrics", {"Accept": "*/*"}).json()


def test_alerts_and_their_cleanup(shared_gateway: GatewayProcess) -> None:
    assert api(shared_gateway, "/alerts") == {"count": 0, "alerts": []}
    assert api(shared_gateway, "/alerts?state=all")["count"] == 0
    answer = shared_gateway.request("POST", "/api/admin/cleanup/alerts")
    assert (answer.status, answer.json()) == (200, {"removed": 0})


def test_an_alert_is_raised_while_a_circuit_is_held_open(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "ALERT_CHECK_INTERVAL_SECONDS": "1"})
    command(gateway, "/circuit-breakers/default/force-open", {"duration": 60, "reason": "drill"})
    eventually(lambda: api(gateway, "/alerts")["count"] > 0, "an alert")
    alert = api(gateway, "/alerts?state=active")["alerts"][0]
    assert (alert["name"], alert["service"], alert["state"]) == ("circuit_open", "default", "active")
    assert instant(alert["firstTime"]) <= instant(alert["lastTime"])
    assert api(gateway, "/health")["activeAlerts"] == 1


def test_explain_spends_nothing(start_gateway: StartGateway, stub: StubProcess, redis: RedisServer) -> None:
    env = {"UPSTREAM_URL": stub.url, "RATE_LIMIT_CAPACITY": "3", "RATE_LIMIT_REFILL_RATE": "0.01"}
    for settings in (env, {**env, **redis.variables}):
        gateway = start_gateway(settings)
        stub.reset_stats()
        for _ in range(20):
            said = api(gateway, "/explain?path=/proxy/ok&client=127.0.0.1")
            assert (said["outcome"], said["route"]) == ("forwarded", "proxy")
        limit = next(step for step in said["steps"] if step["policy"] == "rate_limit")
        assert limit["figures"]["remaining"] == pytest.approx(2, abs=0.1)
        assert stub.requests("/ok") == 0
        assert [gateway.get("/proxy/ok").status for _ in range(4)] == [200, 200, 200, 429]
        said = api(gateway, "/explain?path=/proxy/ok&client=127.0.0.1")
        assert (said["outcome"], said["refusal"]["policy"], said["refusal"]["status"]) == ("refused", "rate_limit", 429)
        assert 50 < said["refusal"]["retryAfter"] <= 100
        # Somebody else's bucket is full.
        assert api(gateway, "/explain?path=/proxy/ok&client=192.0.2.1")["outcome"] == "forwarded"
        gateway.stop()


ROUTES = """
upstreams:
  orders: {{endpoints: ["{url}"]}}
  chat: {{endpoints: ["{url}"]}}
routes:
  - {{name: orders, prefix: /api/orders, upstream: orders, methods: [GET], rate_limit: null}}
  - {{name: all, prefix: /, upstream: chat, rate_limit: null}}
  - {{name: chat, host: chat.example, prefix: /, upstream: chat, strip_prefix: true, rate_limit: null}}
"""


def test_explain_says_why_a_route_is_taken_and_others_are_not(
    start_gateway: StartGateway, stub: StubProcess, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(ROUTES.format(url=stub.url))
    gateway = start_gateway({"GATEWAY_CONFIG": str(file)})

    said = api(gateway, "/explain?path=/api/orders/7%3Fx=1&host=shop.example")
    assert (said["route"], said["forwarded"]["path"]) == ("orders", "/api/orders/7?x=1")
    why = {each["route"]: each["why"] for each in said["candidates"]}
    assert "longest prefix" in why["orders"]
    assert "orders has a longer prefix" in why["all"]
    assert "for the host chat.example" in why["chat"]

    said = api(gateway, "/explain?path=/api/orders&host=chat.example:5000")
    assert said["route"] == "chat"
    assert "goes before" in {each["route"]: each["why"] for each in said["candidates"]}["orders"]

    said = api(gateway, "/explain?method=post&path=/api/orders")
    assert (said["outcome"], said["refusal"]["status"]) == ("refused", 405)
    assert api(gateway, "/explain?path=/metrics")["outcome"] == "control_plane"

    command(gateway, "/circuit-breakers/orders/force-open", {"duration": 60, "reason": "drill"})
    said = api(gateway, "/explain?path=/api/orders")
    assert (said["refusal"]["policy"], said["refusal"]["reason"]) == ("circuit", "circuit_open")
    assert gateway.get("/api/orders").status == said["refusal"]["status"]


def test_two_gateways_on_one_redis_agree(start_gateway: StartGateway, stub: StubProcess, redis: RedisServer) -> None:
    env = {**QUIET, "UPSTREAM_URL": stub.url, **redis.variables}
    one, two = start_gateway(env), start_gateway(env)
    for _ in range(12):
        one.get("/proxy/ok")
        two.get("/proxy/fail")

    def agree() -> bool:
        figures = [api(gateway, "/metrics/default") for gateway in (one, two)]
        return all(
            (each["requests"], each["failedRequests"], each["errors"], each["scope"]) == (24, 12, 12, "fleet")
            for each in figures
        )

    eventually(agree, "agreed upon")

    held = command(one, "/circuit-breakers/default/force-open", {"duration": 60, "reason": "maintenance"})
    assert held["scope"] == "fleet"

    def follows() -> bool:
        circuit = api(two, "/circuit-breakers/default")
        return bool(circuit["forced"] and circuit["state"] == "Open" and circuit["cause"] == "maintenance")

    eventually(follows, "held open everywhere")
    assert two.get("/proxy/ok").json()["reason"] == "circuit_open"

    done = command(two, "/metrics/default/reset")
    assert (done["figures"], done["circuit"], done["circuitState"]) == ("fleet", "fleet", "Closed")
    assert [api(each, "/metrics/default")["errors"] for each in (one, two)] == [0, 0]
    eventually(lambda: api(one, "/circuit-breakers/default")["state"] == "Closed", "closed everywhere")
    assert [each.get("/proxy/ok").status for each in (one, two)] == [200, 200]


def test_without_redis_it_says_that_it_speaks_for_itself(
    start_gateway: StartGateway, stub: StubProcess, own_redis: RedisServer
) -> None:
    gateway = start_gateway({**QUIET, "UPSTREAM_URL": stub.url, "REDIS_URL": own_redis.url})
    eventually(lambda: api(gateway, "/circuit-breakers")["scope"] == "fleet", "with Redis")
    own_redis.kill()
    gateway.get("/proxy/fail")
    eventually(lambda: api(gateway, "/circuit-breakers")["scope"] == "process", "without Redis")
    figures = api(gateway, "/metrics/default")
    assert (figures["scope"], figures["errors"]) == ("process", 1)
    held = command(gateway, "/circuit-breakers/default/force-open", {"duration": 60, "reason": "alone"})
    assert held["scope"] == "process"
    health = api(gateway, "/health")
    assert health["status"] != "Healthy"
    assert not any(own_redis.host in reason or str(own_redis.port) in reason for reason in health["reasons"])


def test_head_has_the_headers_of_get(shared_gateway: GatewayProcess) -> None:
    answer = shared_gateway.request("HEAD", f"{API}/circuit-breakers")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Type"].startswith("application/json")
    refused = shared_gateway.request("DELETE", f"{API}/circuit-breakers")
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")
