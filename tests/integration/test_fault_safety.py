"""What an operator cannot do with faults on demand, and the other names that they go by."""

import json
import subprocess
from functools import partial
from typing import Any

import pytest

from tests.conftest import StartGateway
from tests.deploy.tools import tool
from tests.integration.conftest import Command
from tests.support.faults import AUTHORIZED, PATH, TOKEN, add, fault, listed, order, refusal, settings
from tests.support.gateway_process import GatewayProcess
from tests.support.processes import ChildFailed, clean_environment
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

CIRCUIT = "/api/resilience/circuit-breakers/default"


def put(gateway: GatewayProcess, **settings: object) -> Any:
    return order(gateway, "PUT", "/chaos/config", settings)


def test_without_the_switch_nothing_can_be_set(shared_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = shared_gateway(settings(stub, FAULTS_ENABLED="false"))
    assert gateway.get(PATH).json() == {"enabled": False, "maxPercent": 0, "maxDuration": 0, "count": 0, "faults": []}
    for method, path, body in (
        ("POST", PATH, fault("abort")),
        ("DELETE", PATH, None),
        ("DELETE", f"{PATH}/abc", None),
        ("GET", "/chaos/config", None),
        ("PUT", "/chaos/config", {"error_rate": 1}),
        ("DELETE", "/chaos/config", None),
        ("GET", "/api/test/failure-injection", None),
        ("GET", "/api/test/success", None),
        ("POST", "/api/test/circuit-breaker/open", None),
    ):
        assert refusal(order(gateway, method, path, body)) == (403, "faults_disabled"), path
    assert gateway.get("/proxy/ok").status == 200
    assert "faults_injected_total{" not in gateway.get("/metrics").body.decode()


def test_without_the_token_nothing_can_be_set(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway(settings(stub))
    body = json.dumps(fault("abort")).encode()
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        for method, path in (("POST", PATH), ("DELETE", PATH), ("PUT", "/chaos/config"), ("DELETE", "/chaos/config")):
            sent = {"Content-Type": "application/json", **headers}
            assert gateway.request(method, path, body, sent).status in {401, 429}, path
        assert gateway.get("/api/test/failure-injection", headers).status in {401, 429}
    assert listed(gateway) == []
    assert gateway.get("/proxy/ok").status == 200


def test_the_switch_needs_a_token(start_gateway: StartGateway, stub: StubProcess) -> None:
    with pytest.raises(ChildFailed, match=r"FAULTS_ENABLED.*unless ADMIN_TOKEN is set"):
        start_gateway({"FAULTS_ENABLED": "true", "UPSTREAM_URL": stub.url})


@pytest.fixture(scope="module")
def limited(stub_process: StubProcess, tmp_path_factory: pytest.TempPathFactory) -> Any:
    env = settings(stub_process, FAULTS_MAX_PERCENT="30", FAULTS_MAX_DURATION_SECONDS="90")
    with GatewayProcess(env, tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.mark.parametrize(
    ("changed", "status", "reason", "told"),
    [
        ({"percent": 31}, 403, "beyond_limit", "FAULTS_MAX_PERCENT allows 30"),
        ({"percent": 0}, 400, "bad_request", "percent is 0"),
        ({"percent": 101}, 400, "bad_request", "percent is 101"),
        ({"duration": 91}, 403, "beyond_limit", "FAULTS_MAX_DURATION_SECONDS allows 90"),
        ({"duration": 0}, 400, "bad_request", "duration is 0"),
        ({"duration": None}, 400, "bad_request", "duration"),
        ({"reason": ""}, 400, "bad_request", "reason"),
        ({"reason": "a\nb"}, 400, "bad_request", "reason"),
        ({"kind": "explode"}, 400, "bad_request", "delay or abort or reset"),
        ({"kind": "abort", "status": 200}, 400, "bad_request", "from 400 to 599"),
        ({"delayMs": 60_001}, 400, "bad_request", "from 1 to 60000"),
        ({"bytesPerSecond": 0}, 400, "bad_request", "bytesPerSecond is 0"),
        ({"scope": {}}, 400, "bad_request", "scope.upstream is missing"),
        ({"scope": {"upstream": "default", "rout": "x"}}, 400, "bad_request", "there is upstream, route, endpoint"),
        ({"scope": {"upstream": "nobody"}}, 404, "unknown_service", "default"),
        ({"scope": {"upstream": "default", "route": "x"}}, 404, "unknown_route", "Known: proxy"),
        ({"scope": {"upstream": "default", "endpoint": "h:1"}}, 404, "unknown_endpoint", "127.0.0.1:"),
        ({"scope": {"upstream": "default", "clients": {"header": "a b", "percent": 1}}}, 400, "bad_request", "header"),
        ({"scope": {"upstream": "default", "clients": {"header": "a"}}}, 400, "bad_request", "scope.clients.percent"),
    ],
)
def test_what_is_refused(limited: GatewayProcess, changed: Any, status: int, reason: str, told: str) -> None:
    body = {name: value for name, value in {**fault("abort", 10), **changed}.items() if value is not None}
    answer = order(limited, "POST", PATH, body)
    assert refusal(answer) == (status, reason)
    assert told in answer.json()["detail"]
    assert listed(limited) == []


@pytest.mark.parametrize("missing", ["scope", "kind", "percent", "duration", "reason"])
def test_nothing_may_be_missing(limited: GatewayProcess, missing: str) -> None:
    body = {name: value for name, value in fault("abort", 10).items() if name != missing}
    answer = order(limited, "POST", PATH, body)
    assert (answer.status, answer.json()["member"]) == (400, missing)


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({"error_rate": 0.31}, (403, "beyond_limit")),
        ({"error_rate": 1.5}, (400, "bad_request")),
        ({"latency_ms": -1}, (400, "bad_request")),
        ({"latency_ms": 5, "duration": 91}, (403, "beyond_limit")),
        ({"errorRate": 0.1}, (400, "bad_request")),
    ],
)
def test_what_chaos_may_not_be(limited: GatewayProcess, body: Any, refused: tuple[int, str]) -> None:
    assert refusal(order(limited, "PUT", "/chaos/config", body)) == refused
    assert refusal(order(limited, "GET", "/chaos/config?upstream=nobody")) == (404, "unknown_service")


def test_there_are_not_too_many(shared_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = shared_gateway(settings(stub))
    for _ in range(16):
        add(gateway, "delay", 1)
    assert refusal(order(gateway, "POST", PATH, fault("delay", 1))) == (409, "too_many_faults")
    assert order(gateway, "DELETE", PATH).status == 200


def test_an_upstream_that_fails_by_itself_gets_none(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway(settings(stub, ALERT_MINIMUM_REQUESTS="20"))
    for _ in range(25):
        gateway.get("/proxy/fail")
    assert refusal(order(gateway, "POST", PATH, fault("abort"))) == (409, "upstream_critical")
    assert refusal(put(gateway, error_rate=0.5)) == (409, "upstream_critical")


def test_chaos_config_is_the_same_under_another_name(shared_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = shared_gateway(settings(stub))
    nothing = {"upstream": "default", "error_rate": 0.0, "latency_ms": 0.0, "lock_contention_ms": 0.0}
    assert gateway.get("/chaos/config").json() == nothing
    assert put(gateway, error_rate=0.5).json() == {**nothing, "error_rate": 0.5}
    (found,) = listed(gateway)
    assert (found["kind"], found["percent"], found["reason"], found["source"]) == ("abort", 50, "/chaos/config", "api")
    assert 0 < found["secondsLeft"] <= 600
    assert sum(gateway.get("/proxy/ok").status == 503 for _ in range(20)) == 10
    # In place of what it was, and nothing else is changed.
    assert put(gateway, error_rate=1, duration=20, reason="worse").json()["error_rate"] == 1.0
    assert put(gateway, latency_ms=20).json() == {**nothing, "error_rate": 1.0, "latency_ms": 20.0}
    assert gateway.get("/proxy/ok").status == 503
    assert put(gateway, error_rate=0).json() == {**nothing, "latency_ms": 20.0}
    assert "fault delay" in gateway.get("/proxy/ok").headers["Proxy-Status"]
    assert order(gateway, "DELETE", "/chaos/config?upstream=Default").json() == nothing
    assert listed(gateway) == []


def test_the_testing_procedures_of_the_resilience_runbook(start_gateway: StartGateway, stub: StubProcess) -> None:
    more = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "5", "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": "1"}
    gateway = start_gateway(settings(stub, **more, ALERT_MINIMUM_REQUESTS="5"))
    # Simulate a high error rate.
    for _ in range(4):
        answer = gateway.get("/api/test/failure-injection", AUTHORIZED)
        assert refusal(answer) == (503, "fault_injected")
    assert gateway.get("/api/test/success", AUTHORIZED).json()["circuitState"] == "Closed"
    rates = gateway.get("/api/resilience/metrics/default/error-rate").json()
    assert (rates["requests"], rates["failedRequests"]) == (5, 4)
    # Open, wait, half-open, a success, closed.
    opened = order(gateway, "POST", "/api/test/circuit-breaker/open").json()
    assert (opened["circuitState"], opened["calls"]) == ("Open", 5)
    assert gateway.get("/proxy/ok").json()["reason"] == "circuit_open"
    assert refusal(gateway.get("/api/test/failure-injection", AUTHORIZED)) == (503, "circuit_open")
    eventually(lambda: gateway.get(CIRCUIT).json()["state"] == "HalfOpen", "the circuit is half-open")
    closed = gateway.get("/api/test/success", AUTHORIZED).json()
    assert (closed["circuitState"], closed["calls"]) == ("Closed", 2)
    assert gateway.get(CIRCUIT).json()["state"] == "Closed"
    assert gateway.get("/proxy/ok").status == 200
    # The upstream has heard of nothing but that request.
    assert stub.stats()["requests"].keys() <= {"/ok", "/stats"}
    assert gateway.metric("http_requests_in_flight") == 0


def test_every_example_works_as_it_stands(start_gateway: StartGateway, stub: StubProcess) -> None:
    tool("curl")
    gateway = start_gateway(settings(stub))
    paths = gateway.get("/api/openapi.json").json()["paths"]
    operations = {each["operationId"]: each for methods in paths.values() for each in methods.values()}
    names = ["addFault", "listFaults", "getFault", "removeFault", "setChaosConfig", "getChaosConfig"]
    for name in [*names, "clearChaosConfig", "removeFaults", "openCircuitByFailures"]:
        (one, *_) = [each["id"] for each in listed(gateway)] or ["none"]
        environ = clean_environment(GATEWAY_URL=gateway.url, ADMIN_TOKEN=TOKEN, FAULT=one)
        source = operations[name]["x-codeSamples"][0]["source"]
        words = ["bash", "-c", f"{source} -o /dev/null -w '%{{http_code}}'"]
        done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=120, check=False)
        assert (name, done.returncode, done.stdout) == (name, 0, "200"), source


def test_a_gateway_without_faults_documents_none(shared_gateway: StartGateway, stub: StubProcess) -> None:
    paths = shared_gateway(settings(stub, FAULTS_ENABLED="false")).get("/api/openapi.json").json()["paths"]
    assert list(paths[PATH]) == ["get"]
    assert not [path for path in paths if path.startswith(("/chaos", "/api/test", f"{PATH}/"))]


def test_the_command_line(shared_gateway: StartGateway, stub: StubProcess, command: Command) -> None:
    gateway = shared_gateway(settings(stub))
    run = partial(command, "fault", GATEWAY_URL=gateway.url, ADMIN_TOKEN=TOKEN, USER="ann")
    assert run("list").stdout == "no faults\n"
    made = run(
        *("add", "default", "abort", "--percent", "100", "--status", "500", "--for", "2m", "--reason", "drill"),
    )
    assert (made.returncode, made.stderr) == (0, "")
    (found,) = listed(gateway)
    assert made.stdout.startswith(f"{found['id']}: the answer is a 500 for 100% of the attempts at default until ")
    assert (found["by"], found["reason"]) == ("ann", "drill")
    assert gateway.get("/proxy/ok").status == 500
    (head, row) = run("list").stdout.splitlines()
    assert head.split()[:4] == ["ID", "UPSTREAM", "KIND", "PERCENT"]
    assert row.split()[:4] == [found["id"], "default", "abort", "100"]
    told = command("status", "--url", gateway.url)
    assert any(found["id"] in line and "drill" in line for line in told.stdout.splitlines())
    assert run("remove", found["id"]).stdout == "1 fault ended\n"
    assert run("remove", found["id"]).returncode == 1
    assert run("add", "default", "reset", "--percent", "5").returncode == 2
    scoped = run(
        *("add", "default", "delay", "--delay", "250ms", "--percent", "5", "--reason", "x", "--route", "proxy"),
        *("--clients", "X-User=10", "--endpoint", f"127.0.0.1:{stub.port}", "--json"),
    )
    as_json = json.loads(scoped.stdout)
    assert (as_json["route"], as_json["clientHeader"], as_json["clientPercent"]) == ("proxy", "X-User", 10.0)
    assert as_json["does"] == "the answer comes 0.25 s later"
    assert run("remove", "--all").stdout == "1 fault ended\n"
