"""Taking endpoints of an upstream out of service, through real gateways: alone, and in a fleet on a real Redis."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import StartGateway
from tests.support.fake_upstream import Close, FakeUpstream, ReadHead, Send
from tests.support.gateway_process import GatewayProcess
from tests.support.plain_http import Answer
from tests.support.redis_server import RedisServer
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

JSON = {"Content-Type": "application/json"}
LIST = "/api/resilience/endpoints"
PATIENT = {"RATE_LIMIT_ENABLED": "false"}


def answering(name: bytes) -> FakeUpstream:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(name), name)
    return FakeUpstream([ReadHead(), Send(answer), Close()])


@pytest.fixture
def pair() -> Iterator[tuple[FakeUpstream, FakeUpstream]]:
    with answering(b"a") as a, answering(b"b") as b:
        yield a, b


def urls(pair: tuple[FakeUpstream, FakeUpstream]) -> str:
    return ",".join(f"http://127.0.0.1:{each.port}" for each in pair)


def order(gateway: GatewayProcess, port: int, what: str, **body: Any) -> Answer:
    path = f"/api/resilience/upstreams/default/endpoints/127.0.0.1:{port}/{what}"
    return gateway.request("POST", path, json.dumps(body).encode() if body else None, JSON if body else {})


def take_out(gateway: GatewayProcess, port: int, what: str = "drain", duration: float = 60.0) -> dict[str, Any]:
    answer = order(gateway, port, what, duration=duration, reason="new disk")
    assert answer.status == 200, answer.body
    done: dict[str, Any] = json.loads(answer.body)
    return done


def answers(gateway: GatewayProcess, count: int = 12) -> set[bytes]:
    return {gateway.get("/proxy/").body for _ in range(count)}


def states(gateway: GatewayProcess) -> list[str]:
    return [each["state"] for each in json.loads(gateway.get(LIST).body)["endpoints"]]


def test_a_drained_endpoint_gets_no_new_requests(
    start_gateway: StartGateway, pair: tuple[FakeUpstream, FakeUpstream]
) -> None:
    gateway = start_gateway({**PATIENT, "UPSTREAM_URL": urls(pair), "UPSTREAM_BALANCE": "round_robin"})
    assert answers(gateway) == {b"a", b"b"}
    done = take_out(gateway, pair[0].port)
    assert (done["action"], done["scope"], done["endpoint"]["state"]) == ("drain", "fleet", "drained")
    assert answers(gateway) == {b"b"}
    assert states(gateway) == ["drained", "enabled"]
    checks = json.loads(gateway.get("/health").body)["checks"]
    assert checks["endpoints"]["drained"] == [f"default 127.0.0.1:{pair[0].port}"]
    assert checks["endpoints"]["available"] == 1
    drained_is = f'gateway_endpoint_available{{upstream="default",endpoint="127.0.0.1:{pair[0].port}"}} 0'
    assert drained_is in gateway.get("/metrics").body.decode()
    assert order(gateway, pair[0].port, "enable").status == 200
    assert answers(gateway) == {b"a", b"b"}
    (drained, enabled) = gateway.wait_for_records(2, event="admin_action")
    assert (drained["before"], drained["after"], drained["duration"]) == ("enabled", "drained", 60.0)
    assert (drained["reason"], drained["service"]) == ("new disk", "default")
    assert (enabled["before"], enabled["after"]) == ("drained", "enabled")


def test_what_is_under_way_ends_and_then_all_are_refused(shared_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = shared_gateway({**PATIENT, "UPSTREAM_URL": stub.url})
    found: list[Answer] = []
    slow = threading.Thread(target=lambda: found.append(gateway.get("/proxy/slow")))
    slow.start()
    eventually(lambda: json.loads(gateway.get(LIST).body)["endpoints"][0]["inFlight"] == 1, "the request is there")
    take_out(gateway, stub.port, "disable")
    refused = gateway.get("/proxy/ok")
    problem = json.loads(refused.body)
    assert (refused.status, problem["reason"]) == (503, "endpoints_out")
    assert refused.headers["Retry-After"] == "5"
    explained = json.loads(gateway.get("/api/resilience/explain?path=/proxy/ok").body)
    assert (explained["outcome"], explained["refusal"]["reason"]) == ("refused", "endpoints_out")
    health = json.loads(gateway.get("/health").body)
    assert health["status"] == "degraded"
    assert "taken out by an operator" in health["reasons"][0]
    slow.join(timeout=20)
    assert found[0].status == 200
    # The refusals are no failures of the upstream.
    assert json.loads(gateway.get("/status/breakers").body)["default"]["state"] == "closed"
    assert order(gateway, stub.port, "enable").status == 200
    assert gateway.get("/proxy/ok").status == 200


def test_it_ends_by_itself(shared_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = shared_gateway({**PATIENT, "UPSTREAM_URL": stub.url})
    take_out(gateway, stub.port, duration=3.0)
    assert gateway.get("/proxy/ok").status == 503
    eventually(lambda: gateway.get("/proxy/ok").status == 200, "the endpoint is back")
    assert states(gateway) == ["enabled"]


def test_what_is_refused(shared_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = shared_gateway({**PATIENT, "UPSTREAM_URL": stub.url})
    unknown = order(gateway, 1, "drain", duration=60, reason="x")
    assert (unknown.status, json.loads(unknown.body)["reason"]) == (404, "unknown_endpoint")
    assert json.loads(unknown.body)["known"] == [f"127.0.0.1:{stub.port}"]
    assert order(gateway, stub.port, "drain").status in {400, 415}
    assert order(gateway, stub.port, "drain", duration=0, reason="x").status == 400
    assert states(gateway) == ["enabled"]


def test_a_fleet_follows(
    start_gateway: StartGateway, pair: tuple[FakeUpstream, FakeUpstream], redis: RedisServer
) -> None:
    env = {**PATIENT, "UPSTREAM_URL": urls(pair), **redis.variables}
    one, two = start_gateway(env), start_gateway(env)
    eventually(lambda: json.loads(one.get("/health").body)["checks"]["redis"]["replicas"] == 2, "both are there")
    assert take_out(one, pair[1].port)["scope"] == "fleet"
    eventually(lambda: states(two) == ["enabled", "drained"], "the other has heard of it")
    assert answers(two) == {b"a"}
    # A replica that starts later knows it too.
    three = start_gateway(env)
    eventually(lambda: states(three) == ["enabled", "drained"], "the newcomer has heard of it")
    assert order(two, pair[1].port, "enable").status == 200
    eventually(lambda: states(one) == states(three) == ["enabled", "enabled"], "all have heard of it")
    # By hand, as an operator may do with a circuit.
    take_out(one, pair[0].port, "disable")
    eventually(lambda: states(two) == ["disabled", "enabled"], "the other has heard of it")
    redis.execute("DEL", "api-gateway:endpoints")
    eventually(lambda: states(one) == states(two) == ["enabled", "enabled"], "the key is gone for all")
