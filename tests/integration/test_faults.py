"""Faults on demand: each kind as a client of the standard library sees it, and how each ends."""

import http.client
import json
import socket
import time
from collections import Counter

import pytest

from tests.conftest import StartGateway
from tests.support import plain_http
from tests.support.fake_upstream import FakeUpstream, ReadHead, Send
from tests.support.faults import KINDS, PATH, add, add_all, listed, order, settings, untouched
from tests.support.gateway_process import GatewayProcess
from tests.support.stub_process import StubProcess
from tests.support.waiting import PATIENCE, eventually


@pytest.fixture
def gateway(shared_gateway: StartGateway, stub: StubProcess) -> GatewayProcess:
    """The gateway of the module, without a fault."""
    running = shared_gateway(settings(stub))
    assert order(running, "DELETE", PATH).status == 200
    return running


def injected(kind: str) -> str:
    return f'faults_injected_total{{upstream="default",kind="{kind}"}}'


def metric(gateway: GatewayProcess, kind: str) -> float:
    return gateway.metric(injected(kind))


def statuses(gateway: GatewayProcess, count: int, target: str = "/proxy/ok", **headers: str) -> Counter[int]:
    return Counter(gateway.get(target, headers).status for _ in range(count))


def test_an_abort_is_an_answer_of_the_upstream(gateway: GatewayProcess, stub: StubProcess) -> None:
    grown = gateway.growth()
    assert gateway.get("/proxy/ok").status == 200
    made = add(gateway, "abort", status=504)
    before = stub.requests("/ok")
    answer = gateway.get("/proxy/ok")
    assert answer.status == 504
    assert answer.json()["fault"] == made["id"]
    assert answer.headers["Proxy-Status"] == f'gateway; details="fault abort {made["id"]}"'
    head = gateway.request("HEAD", "/proxy/ok")
    assert (head.status, head.body) == (504, b"")
    # With a body, and the connection goes on.
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
    for _ in range(2):
        connection.request("POST", "/proxy/ok", b"x" * 200_000)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["fault"]) == (504, made["id"])
    connection.close()
    assert stub.requests("/ok") == before
    assert grown(injected("abort")) == 4
    lines = [each for each in gateway.wait_for_records(4, status=504) if "decisions" in each]
    assert [each["decisions"]["fault"] for each in lines] == [f"abort {made['id']}"] * 4


def test_a_reset_is_a_connection_that_ends_without_an_answer(gateway: GatewayProcess, stub: StubProcess) -> None:
    made = add(gateway, "reset")
    answer = gateway.get("/proxy/ok")
    problem = answer.json()
    assert (answer.status, problem["reason"]) == (502, "upstream_unreachable")
    assert problem["detail"].endswith(f"(fault {made['id']})")
    assert "error=connection_terminated" in answer.headers["Proxy-Status"]
    assert stub.requests("/ok") == 0


def test_a_connect_timeout_takes_its_time(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway(settings(stub, UPSTREAM_CONNECT_TIMEOUT="0.3"))
    add(gateway, "connect_timeout")
    began = time.monotonic()
    answer = gateway.get("/proxy/ok")
    assert (answer.status, answer.json()["reason"]) == (504, "upstream_timeout")
    assert time.monotonic() - began >= 0.3
    assert "error=connection_timeout" in answer.headers["Proxy-Status"]
    assert stub.requests("/ok") == 0


def test_a_delay_has_the_answer_come_later(gateway: GatewayProcess, stub: StubProcess) -> None:
    assert gateway.get("/proxy/ok").status == 200
    made = add(gateway, "delay", delayMs=400)
    began = time.monotonic()
    answer = gateway.get("/proxy/ok")
    assert answer.status == 200
    assert time.monotonic() - began >= 0.4
    assert answer.headers["Proxy-Status"] == f'gateway; details="fault delay {made["id"]}"'
    # The upstream was asked, and its connection carries the next request.
    assert stub.requests("/ok") == 2
    assert order(gateway, "DELETE", f"{PATH}/{made['id']}").json() == {"removed": 1}
    assert "Proxy-Status" not in gateway.get("/proxy/ok").headers


def test_a_delay_beyond_the_time_limit_is_a_timeout(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway(settings(stub, UPSTREAM_TIMEOUT="0.3"))
    add(gateway, "delay", delayMs=20_000)
    answer = gateway.request("POST", "/proxy/echo", b"x" * 100_000)
    assert (answer.status, answer.json()["reason"]) == (504, "upstream_timeout")
    # It was sent: what the upstream did with it is not known, as with the real thing.
    assert stub.requests("/echo") == 1


def test_a_truncated_body_is_seen_as_truncated(gateway: GatewayProcess) -> None:
    grown = gateway.growth()
    whole = gateway.get("/proxy/ok").body
    add(gateway, "truncate")
    for target in ("/proxy/ok", "/proxy/bytes/300000"):
        with pytest.raises(http.client.IncompleteRead) as broken:
            gateway.get(target)
        assert broken.value.expected is not None
        assert broken.value.expected > 0
    assert whole
    # Without a body there is nothing to break off.
    assert gateway.request("HEAD", "/proxy/ok").status == 200
    assert grown(injected("truncate")) == 2
    assert grown('gateway_refusals_total{reason="upstream_truncated"}') == 2


def test_a_slow_body_comes_whole(gateway: GatewayProcess) -> None:
    grown = gateway.growth()
    whole = gateway.get("/proxy/bytes/600000").body
    add(gateway, "slow_body", bytesPerSecond=1_000_000)
    began = time.monotonic()
    answer = gateway.get("/proxy/bytes/600000")
    assert answer.body == whole
    assert time.monotonic() - began >= 0.5
    assert "fault slow_body" in answer.headers["Proxy-Status"]
    # A body that comes with its head, on a connection that goes back to the pool.
    small = gateway.get("/proxy/ok")
    assert small.status == 200
    assert len(small.body) == int(small.headers["Content-Length"])
    assert grown(injected("slow_body")) == 2


def test_circuit_retries_and_figures_see_the_real_thing(start_gateway: StartGateway, stub: StubProcess) -> None:
    more = {"RETRY_MAX_ATTEMPTS": "3", "RETRY_BASE_DELAY_SECONDS": "0.001", "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "4"}
    gateway = start_gateway(settings(stub, **more))
    add(gateway, "abort")
    assert gateway.get("/proxy/ok").status == 503
    assert gateway.metric('retry_attempts_total{upstream="default"}') == 2
    assert metric(gateway, "abort") == 3
    assert gateway.metric('downstream_errors_total{to_service="default",category="Dependency"}') == 3
    gateway.get("/proxy/ok")
    eventually(lambda: gateway.get("/proxy/ok").json().get("reason") == "circuit_open", "the circuit has opened")
    errors = gateway.get("/api/resilience/errors/recent").json()["errors"]
    assert any(each["reason"] == "upstream_status" for each in errors)


def test_a_share_is_struck_and_no_more(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway(settings(stub, FAULTS_MAX_PERCENT="25"))
    add(gateway, "abort", 20)
    assert statuses(gateway, 100) == {200: 80, 503: 20}
    # Two faults together stay below the cap.
    add(gateway, "abort", 25, status=500)
    found = statuses(gateway, 100)
    assert 20 <= found[503] + found[500] <= 30
    assert found[200] >= 70


def test_a_scope_is_kept(start_gateway: StartGateway, stub: StubProcess) -> None:
    text = f"""
upstreams:
  pay: {{endpoints: ["{stub.url}"]}}
  orders: {{endpoints: ["{stub.url}"]}}
routes:
  - {{name: pay, prefix: /pay/, upstream: pay, strip_prefix: true}}
  - {{name: refund, prefix: /refund/, upstream: pay, strip_prefix: true}}
  - {{name: orders, prefix: /orders/, upstream: orders, strip_prefix: true}}
"""
    env = {name: value for name, value in settings(stub).items() if name != "UPSTREAM_URL"}
    gateway = start_gateway({**env, "GATEWAY_CONFIG": "gateway.yaml"}, files={"gateway.yaml": text})
    add(gateway, "abort", upstream="PAY", scope={"route": "refund"})
    assert gateway.get("/pay/ok").status == gateway.get("/orders/ok").status == 200
    assert gateway.get("/refund/ok").status == 503
    order(gateway, "DELETE", PATH)
    add(gateway, "abort", upstream="pay", scope={"endpoint": f"127.0.0.1:{stub.port}"})
    assert gateway.get("/pay/ok").status == 503
    order(gateway, "DELETE", PATH)
    add(gateway, "abort", upstream="pay", scope={"clients": {"header": "x-user", "percent": 50}})
    assert gateway.get("/pay/ok").status == 200
    by_user = {user: statuses(gateway, 2, "/pay/ok", **{"X-User": f"user-{user}"}) for user in range(30)}
    # Always or never, and about half of them.
    assert all(len(each) == 1 for each in by_user.values())
    assert 5 <= sum(503 in each for each in by_user.values()) <= 25


def test_it_ends_by_itself_and_is_told_everywhere(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway(settings(stub))
    made = add(gateway, "abort", duration=3)
    assert gateway.get("/proxy/ok").status == 503
    assert gateway.metric('gateway_faults_active{upstream="default"}') == 1
    (shown,) = listed(gateway)
    assert (shown["id"], shown["by"], shown["reason"], shown["source"]) == (made["id"], "ann", "a drill", "api")
    assert shown["does"] == "the answer is a 503"
    assert 0 < shown["secondsLeft"] <= 3
    explained = gateway.get("/api/resilience/explain?path=/proxy/ok").json()
    (step,) = [each for each in explained["steps"] if each["policy"] == "fault"]
    assert made["id"] in step["detail"]
    assert gateway.get(f"{PATH}/{made['id']}").json()["kind"] == "abort"
    eventually(lambda: gateway.get("/proxy/ok").status == 200, "the fault is over")
    assert listed(gateway) == []
    assert gateway.get(f"{PATH}/{made['id']}").status == 404
    (began,) = gateway.wait_for_records(1, event="fault_began")
    assert (began["kind"], began["upstream"]) == ("abort", "default")
    assert "a drill" in began["message"]
    (over,) = gateway.wait_for_records(1, event="fault_ended")
    assert over["message"].endswith("its time has come")
    (audited,) = gateway.wait_for_records(1, event="admin_action")
    assert (audited["service"], audited["operator"], audited["reason"]) == ("default", "ann", "a drill")
    assert audited["duration"] == 3


def test_it_is_ended_by_delete(gateway: GatewayProcess) -> None:
    one, two = add(gateway, "abort"), add(gateway, "reset")
    assert order(gateway, "DELETE", f"{PATH}/{one['id']}").json() == {"removed": 1}
    assert [each["id"] for each in listed(gateway)] == [two["id"]]
    assert order(gateway, "DELETE", f"{PATH}/{one['id']}").status == 404
    add(gateway, "abort")
    assert order(gateway, "DELETE", PATH).json() == {"removed": 2}
    assert statuses(gateway, 5) == {200: 5}
    add_all(gateway)
    assert order(gateway, "DELETE", PATH).json() == {"removed": len(KINDS)}
    assert untouched(gateway)
    # Likewise where nobody ends them.
    add_all(gateway, duration=1)
    eventually(lambda: listed(gateway) == [], "their time has come")
    assert untouched(gateway)


def test_a_critical_error_rate_ends_it(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway(settings(stub, ALERT_MINIMUM_REQUESTS="20", ALERT_CRITICAL_ERROR_RATE="0.5"))
    add(gateway, "abort", 100)
    statuses(gateway, 25)
    eventually(lambda: gateway.get("/proxy/ok").status == 200, "the fault was ended")
    (over,) = gateway.wait_for_records(1, event="fault_ended")
    assert over["message"].endswith("its upstream's error rate is critical")


def test_neither_the_control_plane_nor_health_can_be_struck(start_gateway: StartGateway, stub: StubProcess) -> None:
    more = {
        "UPSTREAM_HEALTH_CHECK_PATH": "/health",
        "UPSTREAM_HEALTH_CHECK_INTERVAL": "0.3",
        "UPSTREAM_HEALTH_CHECK_TIMEOUT": "0.3",
    }
    gateway = start_gateway(settings(stub, **more))
    for kind in ("abort", "reset"):
        add(gateway, kind, 100)
    checks = stub.requests("/health")
    for path in ("/health", "/livez", "/readyz", "/metrics", "/status/breakers", "/api/resilience/health", PATH, "/"):
        for _ in range(3):
            assert gateway.get(path).status == 200, path
    assert gateway.get("/proxy/ok").status in {502, 503}
    eventually(lambda: stub.requests("/health") > checks + 3, "the checks go on")
    labels = f'upstream="default",endpoint="127.0.0.1:{stub.port}"'
    assert gateway.metric(f"gateway_endpoint_available{{{labels}}}") == 1
    assert metric(gateway, "abort") + metric(gateway, "reset") == 1


def test_a_client_that_leaves_a_delayed_answer_leaves_nothing_behind(
    start_gateway: StartGateway, stub: StubProcess
) -> None:
    gateway = start_gateway(settings(stub))
    made = add(gateway, "delay", delayMs=1000)
    with pytest.raises(TimeoutError):
        plain_http.request(gateway.port, "/proxy/ok", timeout=0.2)
    eventually(lambda: gateway.metric("gateway_client_closed_total") == 1, "the client has left")
    assert gateway.metric("http_requests_in_flight") == 0
    order(gateway, "DELETE", f"{PATH}/{made['id']}")
    assert statuses(gateway, 3) == {200: 3}


def test_a_client_that_leaves_a_slow_body_leaves_nothing_behind(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway(settings(stub))
    made = add(gateway, "slow_body", bytesPerSecond=1000)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
    connection.request("GET", "/proxy/bytes/3000000")
    response = connection.getresponse()
    assert len(response.read(100)) == 100
    # Of what is to come slowly, the gateway takes no more than it passes on.
    assert gateway.metric("http_requests_in_flight") == 1
    response.close()
    connection.close()
    eventually(lambda: gateway.metric("gateway_client_closed_total") == 1, "the client has left")
    assert gateway.metric("http_requests_in_flight") == 0
    order(gateway, "DELETE", f"{PATH}/{made['id']}")
    assert statuses(gateway, 3) == {200: 3}


def test_a_client_that_takes_a_slow_body_even_more_slowly_gets_all_of_it(gateway: GatewayProcess) -> None:
    add(gateway, "slow_body", bytesPerSecond=10_000_000)
    size = 16_000_000
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE) as client:
        client.sendall(b"GET /proxy/bytes/%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % size)
        time.sleep(1.0)  # what the kernels hold is full by now, so the gateway has to wait for this client
        with client.makefile("rb") as stream:
            answer = stream.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert len(body) == size
    assert body == bytes(range(256)) * (size // 256)


def test_chunks_break_off_before_the_last(start_gateway: StartGateway) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with FakeUpstream([ReadHead(), Send(chunked + b"5\r\nhello\r\n0\r\n\r\n")]) as upstream:
        gateway = start_gateway(settings(upstream))
        add(gateway, "truncate")
        with pytest.raises(http.client.IncompleteRead) as broken:
            gateway.get("/proxy/")
    assert broken.value.partial == b"he"
    assert gateway.metric('gateway_refusals_total{reason="upstream_truncated"}') == 1
