"""The live view of real gateways: a snapshot, a stream of what changes, and where it ends; the files of the console."""

import http.client
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.control.live.broadcast import MOST_LISTENERS
from tests.conftest import StartGateway
from tests.support import plain_http
from tests.support.gateway_process import GatewayProcess
from tests.support.live_stream import LIVE, Stream, listening
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.stub_process import StubProcess
from tests.support.waiting import PATIENCE, eventually

TOKEN = "correct-horse-battery-staple"


def settings(stub: StubProcess) -> dict[str, str]:
    """Of the gateway that most tests share."""
    return {"UPSTREAM_URL": stub.url, "CONSOLE_DASHBOARDS_URL": "https://grafana.example/d/gateway"}


def test_a_trip_is_told_with_its_cause_and_what_to_do(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway(
        {"UPSTREAM_URL": stub.url, "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "3", "RETRY_MAX_ATTEMPTS": "1", "WORKERS": "2"}
    )
    with listening(gateway) as stream:
        stream.until(lambda live: live["gateway"]["status"] == "Healthy")
        assert stream.document["services"]["default"]["circuit"] == {
            "state": "Closed", "forced": False, "cause": "", "failures": 0, "calls": 0, "failedCalls": 0,
            "transitions": [],
        }  # fmt: skip
        # Some go to either worker: as many as open the circuit wherever they go.
        for _ in range(12):
            gateway.get("/proxy/fail")
        live = stream.until(lambda live: live["services"]["default"]["circuit"]["state"] == "Open")
        service = live["services"]["default"]
        assert service["status"] == "Unhealthy"
        assert live["gateway"]["reasons"][0].startswith("The circuit of default is open (")
        assert {each["toState"] for each in service["circuit"]["transitions"]} == {"Open"}
        assert "nextProbeTime" in service["circuit"]
        stream.until(lambda live: live["services"]["default"]["requests"] > 0)
        stream.until(lambda live: live["services"]["default"]["refused"].get("circuit_open", 0) > 0)
        # Only what has changed is told.
        assert all("limit" not in patch.get("gateway", {}) for patch in stream.patches)
        while not {"upstream_status", "circuit_open"} <= {each["reason"] for each in stream.errors}:
            assert stream.event()[0]
        whole = gateway.get(LIVE, {"Accept": "application/json"}).json()
        assert whole["services"]["default"]["circuit"]["state"] == "Open"
        assert whole["services"].keys() == live["services"].keys()


def test_a_snapshot_of_a_gateway_that_nobody_looks_at(start_gateway: StartGateway, redis: RedisServer) -> None:
    gateway = start_gateway({"REDIS_URL": redis.url, "UPSTREAM_URL": "http://127.0.0.1:9"})
    answer = gateway.get(LIVE)
    assert answer.headers["Content-Type"] == "application/json"
    live = answer.json()
    assert live["windowSeconds"] > 0
    assert live["gateway"]["store"]["kind"] == "redis"
    assert live["gateway"]["store"]["up"]
    assert live["services"]["default"]["limit"] == 1000
    assert "p95" not in live["services"]["default"]
    assert None not in live["services"]["default"].values()


def test_all_workers_are_in_it_whichever_is_asked(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "WORKERS": "3", "RATE_LIMIT_ENABLED": "false"})
    with listening(gateway) as one, listening(gateway) as other, listening(gateway) as third:
        for stream in (one, other, third):
            stream.until(lambda live: len(live["gateway"]["workers"]) == 3)
        for _ in range(30):
            gateway.get("/proxy/ok")
        for stream in (one, other, third):
            # 30 within one window are 6 a second at least, and no worker had all of them.
            live = stream.until(lambda live: live["services"]["default"]["requests"] >= 5)
            assert live["services"]["default"]["limit"] == 1000
            assert live["gateway"]["limit"] == 1000


def test_redis_that_goes_away_is_told(start_gateway: StartGateway, own_redis: RedisServer, stub: StubProcess) -> None:
    gateway = start_gateway({"REDIS_URL": own_redis.url, "UPSTREAM_URL": stub.url})
    with listening(gateway) as stream:
        stream.until(lambda live: live["gateway"]["store"]["up"])
        own_redis.kill()
        live = stream.until(lambda live: not live["gateway"]["store"]["up"])
        assert live["gateway"]["scope"] == "process"
        own_redis.restart()
        stream.until(lambda live: live["gateway"]["store"]["up"] and live["gateway"]["scope"] == "fleet")


def test_the_stream_ends_in_order_at_a_reload_and_goes_on_with_the_next_worker(
    shared_gateway: StartGateway, stub: StubProcess
) -> None:
    gateway = shared_gateway(settings(stub))
    with listening(gateway) as stream:
        stream.until(lambda live: True)
        os.kill(gateway.pid, signal.SIGHUP)
        while (event := stream.event()) != ("end", {"reason": "draining"}):
            assert event[0], "the stream broke off"
        assert stream.event() == ("", None)
    with listening(gateway) as stream:
        stream.until(lambda live: live["gateway"]["status"] == "Healthy")
    gateway.wait_for_records(message="draining: 0 exchanges and 0 tunnels open")


def test_a_snapshot_that_is_being_made_is_sent_by_a_worker_that_is_replaced_meanwhile(
    start_gateway: StartGateway, stub: StubProcess
) -> None:
    """It takes a second, because nobody has listened before."""
    gateway = start_gateway(settings(stub))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(gateway.get, LIVE)
        gateway.send_signal(signal.SIGHUP)
        answer = asked.result()
    assert answer.status == 200, answer.body
    assert answer.json()["windowSeconds"] > 0
    assert gateway.wait_for_records(message="draining: 0 exchanges and 0 tunnels open")


def test_a_gateway_that_stops_waits_for_no_listener(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "DRAIN_TIMEOUT_SECONDS": "600"})
    with listening(gateway) as stream:
        stream.until(lambda live: True)
        gateway.send_signal(signal.SIGTERM)
        while (event := stream.event())[0] != "end":
            assert event[0], "the stream broke off"
        assert gateway.wait() == 0


BUSY = """\
upstreams:
  orders: {{endpoints: ["127.0.0.1:{port}"], bulkhead: {{limit: 50, adaptive: {{mode: enforce, initial: 20}}}}}}
  second: {{endpoints: ["127.0.0.1:{port}"]}}
workflows:
  checkout: {{steps: [{{name: pay, upstream: second, method: PUT, path: /ok, pivot: true}}]}}
routes:
  - {{name: orders, prefix: /orders, upstream: orders, strip_prefix: true, fallback: {{upstream: second}}}}
  - {{name: hooks, prefix: /hooks, upstream: second, strip_prefix: true, deliver: {{enabled: true, schedule: [1h]}}}}
  - {{name: checkout, prefix: /checkout, workflow: checkout}}
"""


def test_faults_fallbacks_adaptive_limits_and_work_are_in_it(start_gateway: StartGateway, stub: StubProcess) -> None:
    env = {"GATEWAY_CONFIG": "gateway.yaml", "ADMIN_TOKEN": TOKEN, "FAULTS_ENABLED": "true", "RETRY_MAX_ATTEMPTS": "1"}
    env |= {
        "WORKERS": "2",
        "FAULTS_MAX_PERCENT": "100",
        "JOURNAL_URL": "sqlite:///journal.db",
        "ALERT_MINIMUM_REQUESTS": "1000",
    }
    gateway = start_gateway(env, files={"gateway.yaml": BUSY.format(port=stub.port)})
    before = gateway.get(LIVE).json()
    assert before["faults"] == {}
    assert before["outbox"] == {"pending": 0, "dead": 0, "oldestSeconds": 0}
    assert before["workflows"]["runs"] == {"checkout": {}}
    assert before["services"]["orders"]["adaptive"] == {
        "mode": "enforce",
        "limit": 20,
        "most": 50,
        "groups": {"default": {"recent": 0, "usual": 0}},
    }
    assert before["services"]["orders"]["limit"] == 20
    assert "adaptive" not in before["services"]["second"]
    with listening(gateway) as stream:
        stream.until(lambda live: live["windowSeconds"] > 0)
        asked = {"scope": {"upstream": "orders"}, "kind": "abort", "percent": 100, "duration": 60, "reason": "drill"}
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "X-Operator": "ann"}
        made = gateway.request("POST", "/api/resilience/faults", json.dumps(asked).encode(), headers).json()
        live = stream.until(lambda live: live["faults"])
        (fault,) = live["faults"].values()
        assert list(live["faults"]) == [made["id"]]
        ends = [datetime.fromisoformat(each) for each in (fault.pop("until"), made["until"])]
        assert abs(ends[0] - ends[1]) < timedelta(seconds=5)
        assert fault == {
            "upstream": "orders",
            "percent": 100,
            "does": "the answer is a 503",
            "reason": "drill",
            "by": "ann",
            "source": "api",
        }
        for _ in range(3):
            assert gateway.get("/orders/ok").status == 200
        live = stream.until(lambda live: live["routes"]["orders"]["fallbacks"])
        assert list(live["routes"]["orders"]["fallbacks"]) == ["second"]
        assert gateway.request("POST", "/hooks/fail", b"{}").status == 202
        stream.until(lambda live: live["outbox"]["pending"] == 1)
        gateway.request("DELETE", "/api/resilience/faults", headers=headers)
        stream.until(lambda live: not live["faults"])


HEDGED = """\
upstreams:
  orders: {{endpoints: ["127.0.0.1:{port}", "localhost:{port}"], retry: {{max_attempts: 1}}}}
routes:
  - {{name: fixed, prefix: /fixed, upstream: orders, strip_prefix: true, hedge: {{after: 20ms}}}}
  - {{name: learns, prefix: /learns, upstream: orders, strip_prefix: true, hedge: {{after: p95}}}}
  - {{name: plain, prefix: /plain, upstream: orders, strip_prefix: true}}
"""


def test_hedges_are_in_it_by_what_came_of_them(start_gateway: StartGateway, stub: StubProcess) -> None:
    env = {"GATEWAY_CONFIG": "gateway.yaml", "WORKERS": "1"}
    gateway = start_gateway(env, files={"gateway.yaml": HEDGED.format(port=stub.port)})
    before = gateway.get(LIVE).json()["routes"]
    assert before["fixed"]["hedges"] == {"after": 0.02, "made": {}, "notMade": {}}
    assert before["learns"]["hedges"] == {"made": {}, "notMade": {}}
    assert "hedges" not in before["plain"]
    with listening(gateway) as stream:
        stream.until(lambda live: live["windowSeconds"] > 0)
        assert gateway.get("/fixed/slow?seconds=0.2").status == 200
        hedges = stream.until(lambda live: live["routes"]["fixed"]["hedges"]["made"])["routes"]["fixed"]["hedges"]
        # Both are as slow, so either may win.
        assert set(hedges["made"]) <= {"won", "lost"}
        assert hedges["notMade"] == {}


def test_there_are_only_so_many_listeners(shared_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = shared_gateway(settings(stub))
    streams = [Stream(gateway.port, {}) for _ in range(MOST_LISTENERS)]
    refused = gateway.get(LIVE, {"Accept": "text/event-stream"})
    assert refused.status == 503
    assert refused.json()["reason"] == "too_many_listeners"
    assert refused.headers["Retry-After"] == "5"
    # Whoever leaves makes room.
    streams.pop().connection.close()
    eventually(lambda: _accepted(gateway), "room for another one")
    for stream in streams:
        stream.connection.close()


def _accepted(gateway: GatewayProcess) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
    try:
        connection.request("GET", LIVE, headers={"Accept": "text/event-stream"})
        return connection.getresponse().status == 200
    finally:
        connection.close()


def test_with_console_auth_reading_needs_the_token(start_gateway: StartGateway, stub: StubProcess) -> None:
    env = {"UPSTREAM_URL": stub.url, "ADMIN_TOKEN": TOKEN, "CONSOLE_AUTH": "token"}
    gateway = start_gateway(env)
    for path in (LIVE, "/api/resilience/health", "/api/resilience/routes", "/api/resilience/history"):
        assert gateway.get(path).status == 401, path
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert gateway.get(LIVE, bearer).status == 200
    with listening(gateway, Authorization=bearer["Authorization"]) as stream:
        stream.until(lambda live: True)
    # What load balancers and Prometheus ask for stays open, and so does the page, which has no data.
    for path in ("/health", "/readyz", "/metrics", "/console", "/console/settings.json"):
        assert gateway.get(path).status == 200, path
    assert gateway.get("/console/settings.json").json()["reading"] == "token"


def test_who_the_clients_are_and_how_it_is_configured_is_for_operators(
    start_gateway: StartGateway, stub: StubProcess
) -> None:
    secrets = {"ADMIN_TOKEN": TOKEN, "ALERT_WEBHOOK_URL": f"http://127.0.0.1:{stub.port}/hook?key=sesame"}
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "WORKERS": "2", "RATE_LIMIT_CAPACITY": "7", **secrets})
    for path in ("/api/resilience/clients", "/api/resilience/configuration"):
        assert gateway.get(path).status == 401, path
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    text = gateway.get("/api/resilience/configuration", bearer).body.decode()
    assert TOKEN not in text
    assert "sesame" not in text
    shown = {each["setting"]: each for each in json.loads(text)["settings"]}
    assert shown["RATE_LIMIT_CAPACITY"] == {
        "setting": "RATE_LIMIT_CAPACITY", "value": '"7"', "source": "environment RATE_LIMIT_CAPACITY",
        "isDefault": False,
    }  # fmt: skip
    assert shown["RATE_LIMIT_REFILL_RATE"]["source"] == "default"
    statuses = [gateway.get("/proxy/ok").status for _ in range(30)]
    assert 429 in statuses

    def clients() -> list[Any]:
        (policy,) = gateway.get("/api/resilience/clients", bearer).json()["policies"] or [{"clients": []}]
        found: list[Any] = policy["clients"]
        return found

    # The other worker tells of its share about once a second.
    eventually(lambda: bool(clients()), "told")
    (client,) = clients()
    assert client["client"] == "127.0.0.1"
    assert 0 < client["refused"] < client["requests"]


def test_only_operators_are_told_whose_errors_they_are(start_gateway: StartGateway, stub: StubProcess) -> None:
    env = {"UPSTREAM_URL": stub.url, "ADMIN_TOKEN": TOKEN, "RETRY_MAX_ATTEMPTS": "1", "TRUSTED_PROXIES": "127.0.0.1"}
    gateway = start_gateway(env)
    for client in ("192.0.2.7", "2001:db8:1:2:3::4"):
        gateway.get("/proxy/fail", {"X-Forwarded-For": client})
    path = "/api/resilience/errors/recent"
    assert gateway.get(f"{path}?client=192.0.2.7").status == 401
    operator = {"Authorization": f"Bearer {TOKEN}"}

    def clients(name: str) -> list[str]:
        found = gateway.get(f"{path}?client={name}", operator).json()["errors"]
        return [each["client"] for each in found]

    eventually(lambda: clients("192.0.2.7") == ["192.0.2.7"], "told")
    assert clients("2001:db8") == ["2001:db8:1:2::/64"]
    assert clients("192.0.2.8") == []
    # Nobody else is, and operators are not unless they ask.
    for headers in ({}, operator):
        told = gateway.get(path, headers)
        assert [each["client"] for each in told.json()["errors"]] == [None, None]
    assert gateway.get(f"{path}?client=").status == 401
    assert gateway.get(f"{path}?client=", operator).status == 400


def test_routes_are_told_with_their_gates_and_the_hour_has_their_requests(
    shared_gateway: StartGateway, stub: StubProcess
) -> None:
    gateway = shared_gateway(settings(stub))
    (route,) = gateway.get("/api/resilience/routes").json()["routes"]
    assert (route["route"], route["prefix"], route["upstream"]) == ("proxy", "/proxy/", "default")
    assert [each["gate"] for each in route["gates"]][-3:] == ["rate_limit", "bulkhead", "circuit"]
    assert [each["perAttempt"] for each in route["gates"]][-2:] == [False, True]
    assert route["endpoints"] == [f"127.0.0.1:{stub.port}"]
    history = gateway.get("/api/resilience/history").json()
    assert len(history["services"]["default"]["requests"]) == 360
    assert set(history["services"]["default"]["failed"]) == {0}


def test_the_files_of_the_console_allow_nothing_from_elsewhere(shared_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = shared_gateway(settings(stub))
    page = gateway.get("/console")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    names = [each.partition('"')[0] for each in page.body.decode().split('="console/')[1:]]
    assert "app.js" in names
    for name in names:
        answer = gateway.get(f"/console/{name}")
        assert answer.status == 200
        assert answer.headers["Content-Security-Policy"] == policy
    assert gateway.get("/console/settings.json").json()["dashboardsUrl"] == "https://grafana.example/d/gateway"
    # Behind a proxy that strips a prefix, too.
    moved = gateway.get("/console/")
    assert (moved.status, moved.headers["Location"]) == (308, "../console")
    for path in ("/console/../app.py", "/console/none.js", "/console/static/app.js"):
        assert gateway.get(path).status == 404, path


def test_with_a_port_of_its_own_the_console_is_there_alone(start_gateway: StartGateway, stub: StubProcess) -> None:
    admin = free_port()
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "ADMIN_PORT": str(admin)})
    assert gateway.get("/console").status == 404
    assert gateway.get(LIVE).status == 404
    assert plain_http.request(admin, "/console").status == 200
    with listening(gateway, admin) as stream:
        stream.until(lambda live: True)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream;q=0.1, application/json"])
def test_without_a_wish_for_a_stream_there_is_one_snapshot(
    accept: str, shared_gateway: StartGateway, stub: StubProcess
) -> None:
    answer = shared_gateway(settings(stub)).get(LIVE, {"Accept": accept})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Vary"] == "Accept"
