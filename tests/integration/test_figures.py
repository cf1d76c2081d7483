"""The figures of real gateways, compared with what a client counted itself.

The control plane's answers are its own tests' business; here the figures are read where all gateways leave them, and
alerts from metrics and from a webhook.
"""

import asyncio
import http.client
import http.server
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config.sections.redis.model import RedisConfig
from gateway.store.redis.figures import RedisFigures
from gateway.telemetry.services.cells import WIDTH as WIDE
from gateway.telemetry.services.rates import Rate, rate
from tests.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.stub_process import StubProcess
from tests.support.waiting import PATIENCE, Stopwatch, eventually

OPEN_HANDED = {
    "RATE_LIMIT_ENABLED": "false",
    "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "10000",
    "CIRCUIT_BREAKER_FAILURE_RATE_THRESHOLD": "1",
    "CIRCUIT_BREAKER_MINIMUM_CALLS": "100",
    "RETRY_BASE_DELAY_SECONDS": "0.01",
}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


async def fleet_rate(redis: RedisServer, service: str, window: float = 300.0) -> Rate:
    """What every gateway of the fleet would answer after its next exchange."""
    store = RedisFigures(RedisConfig("single", ((redis.host, redis.port),)), "observer")
    try:
        (found,) = await store.sum_figures([service], window, WIDE)
    finally:
        await store.close()
    return rate(service, window, found.counts, None, "fleet")


async def counted(redis: RedisServer, service: str, requests: int) -> Rate:
    """The figures of the fleet, as soon as they have as many requests."""
    async with asyncio.timeout(PATIENCE):
        while (found := await fleet_rate(redis, service)).requests < requests:
            await asyncio.sleep(0.05)
    return found


def send(gateway: GatewayProcess, targets: list[str]) -> Counter[int]:
    return Counter(gateway.get(target).status for target in targets)


async def test_two_gateways_have_the_clients_figures_within_a_second(
    start_gateway: StartGateway, stub: StubProcess, redis: RedisServer
) -> None:
    env = {**OPEN_HANDED, "UPSTREAM_URL": stub.url, **redis.variables}
    one, other = start_gateway(env), start_gateway(env)
    seen = send(one, ["/proxy/ok"] * 30 + ["/proxy/fail"] * 7)
    seen += send(other, ["/proxy/ok"] * 10 + ["/proxy/fail"] * 3 + ["/nowhere"] * 4)
    assert seen == {200: 40, 500: 10, 404: 4}
    with Stopwatch() as watch:
        orders = await counted(redis, "default", 50)
        gateway = await counted(redis, "gateway", 4)
        assert watch.seconds < 1.0
    assert (orders.requests, orders.failed_requests, orders.errors) == (50, 10, 10)
    assert orders.by_category["Dependency"] == 10
    assert (gateway.requests, gateway.failed_requests, gateway.refused) == (4, 0, 4)
    # A gateway that ends takes nothing with it, and its history stays.
    send(one, ["/proxy/fail"] * 5)
    one.stop()
    assert (await fleet_rate(redis, "default")).failed_requests == 15


async def test_retries_are_errors_and_one_failed_request(
    start_gateway: StartGateway, stub: StubProcess, redis: RedisServer
) -> None:
    env = {**OPEN_HANDED, "UPSTREAM_URL": "http://127.0.0.1:1", **redis.variables, "RETRY_MAX_ATTEMPTS": "3"}
    gateway = start_gateway(env)
    assert gateway.get("/proxy/ok", headers={"X-Correlation-ID": "find-me"}).status == 502
    found = await counted(redis, "default", 1)
    assert (found.requests, found.failed_requests, found.errors, found.refused) == (1, 1, 3, 0)
    assert found.by_category["Network"] == 3
    eventually(lambda: redis.execute("LLEN", "api-gateway:errors") >= 3, "recorded")
    records: list[list[Any]] = [json.loads(each) for each in redis.execute("LRANGE", "api-gateway:errors", 0, 10)]
    assert [record[8] for record in records] == [3, 2, 1]
    assert {(record[3], record[4], record[5], record[6]) for record in records} == {
        ("find-me", "default", "Network", "upstream_unreachable")
    }


async def test_each_way_to_fail_has_its_category(
    start_gateway: StartGateway, stub: StubProcess, redis: RedisServer
) -> None:
    env = {
        **OPEN_HANDED,
        "UPSTREAM_URL": stub.url,
        **redis.variables,
        "RETRY_MAX_ATTEMPTS": "1",
        "UPSTREAM_TIMEOUT": "2",
        "MAX_BODY_BYTES": "10",
    }
    gateway = start_gateway(env)
    seen: Counter[int | str] = Counter()
    for target in (
        "/proxy/ok",
        "/proxy/status/404",
        "/proxy/status/500",
        "/proxy/status/504",
        "/proxy/fault/reset",
        "/proxy/fault/garbage?kind=bytes",
        "/proxy/fault/reset-body",
        "/proxy/slow?seconds=10",
    ):
        try:
            seen[gateway.get(target).status] += 1
        except (OSError, http.client.HTTPException):
            seen["broken off"] += 1
    seen[raw_request(gateway, b"GET /proxy/\x01 HTTP/1.1\r\nHost: a\r\n\r\n")] += 1
    seen[gateway.request("POST", "/proxy/echo", body=b"x" * 11).status] += 1
    assert seen == {200: 1, 404: 1, 500: 1, 502: 2, 504: 2, "broken off": 1, 400: 1, 413: 1}
    found = await counted(redis, "default", 9)
    assert (found.requests, found.failed_requests, found.errors, found.refused) == (9, 6, 6, 1)
    assert {name: count for name, count in found.by_category.items() if count} == {
        "Timeout": 2,
        "Network": 2,
        "Dependency": 2,
        "Validation": 1,
    }
    gateways = await counted(redis, "gateway", 1)
    assert (gateways.requests, gateways.failed_requests, gateways.errors, gateways.refused) == (1, 0, 0, 1)


def raw_request(gateway: GatewayProcess, request: bytes) -> int:
    with socket.create_connection(("127.0.0.1", gateway.port), 5) as connection:
        connection.sendall(request)
        return int(connection.recv(65_536).split()[1])


async def test_a_limited_client_makes_nobody_unhealthy(
    start_gateway: StartGateway, stub: StubProcess, redis: RedisServer
) -> None:
    env = {"UPSTREAM_URL": stub.url, **redis.variables, "RATE_LIMIT_CAPACITY": "5"}
    gateway = start_gateway({**env, "RATE_LIMIT_REFILL_RATE": "0.01"})
    assert send(gateway, ["/proxy/ok"] * 8) == {200: 5, 429: 3}
    found = await counted(redis, "default", 8)
    assert (found.requests, found.failed_requests, found.errors, found.refused) == (8, 0, 0, 3)
    assert found.by_category["RateLimit"] == 3


async def test_figures_of_an_outage_are_told_when_redis_is_back(
    start_gateway: StartGateway, stub: StubProcess, redis: RedisServer
) -> None:
    gateway = start_gateway({**OPEN_HANDED, "UPSTREAM_URL": stub.url, "REDIS_URL": redis.url})
    send(gateway, ["/proxy/ok"] * 5)
    await counted(redis, "default", 5)
    redis.pause()
    try:
        gateway.wait_for_metric("redis_up", 0)
        send(gateway, ["/proxy/ok"] * 5 + ["/proxy/fail"] * 2)
        await asyncio.sleep(1.0)  # it tries to tell them meanwhile
    finally:
        redis.resume()
    found = await counted(redis, "default", 12)
    assert (found.requests, found.failed_requests) == (12, 2)


class _Inbox(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Keep)
        self.bodies: list[dict[str, Any]] = []


class _Keep(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, _Inbox)
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Nothing to say."""


@pytest.fixture
def inbox() -> Iterator[_Inbox]:
    server = _Inbox()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_alerts_are_raised_resolved_and_delivered(
    start_gateway: StartGateway, stub: StubProcess, redis: RedisServer, inbox: _Inbox
) -> None:
    env = {
        "UPSTREAM_URL": stub.url,
        **redis.variables,
        "RATE_LIMIT_ENABLED": "false",
        "RETRY_MAX_ATTEMPTS": "1",
        "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "25",
        "CIRCUIT_BREAKER_MINIMUM_CALLS": "100",
        "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": "1",
        "CIRCUIT_BREAKER_HALF_OPEN_SUCCESS_THRESHOLD": "1",
        "ALERT_CHECK_INTERVAL_SECONDS": "0.2",
        "ALERT_RESOLVE_AFTER_SECONDS": "0.5",
        "ALERT_WEBHOOK_URL": f"http://127.0.0.1:{inbox.server_address[1]}/hook",
    }
    gateway = start_gateway(env)

    def told(event: str) -> set[str]:
        return {body["alert"]["key"] for body in inbox.bodies if body["event"] == event}

    send(gateway, ["/proxy/fail"] * 40)
    expected = {"high_error_rate/default", "critical_error_rate/default", "circuit_open/default"}
    eventually(lambda: told("raised") >= expected, "told")
    gateway.wait_for_metric('gateway_alerts_active{kind="circuit_open"}', 1)
    gateway.wait_for_line("High error rate detected")
    eventually(lambda: gateway.get("/proxy/ok").status == 200, "closed")
    eventually(lambda: "circuit_open/default" in told("resolved"), "resolved")
    assert "redis_lost/gateway" not in told("raised")
    redis.kill()
    eventually(lambda: "redis_lost/gateway" in told("raised"), "told of Redis")
    assert {body["gateway"] for body in inbox.bodies} == {"gateway"}


def test_a_reset_is_the_fleets_and_an_outage_is_told(
    start_gateway: StartGateway, stub: StubProcess, redis: RedisServer
) -> None:
    env = {
        "UPSTREAM_URL": stub.url,
        **redis.variables,
        "RATE_LIMIT_ENABLED": "false",
        "RETRY_MAX_ATTEMPTS": "1",
        "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "5",
    }
    one, other = start_gateway(env), start_gateway(env)

    def figures(gateway: GatewayProcess) -> dict[str, Any]:
        found: dict[str, Any] = gateway.get("/api/resilience/metrics/default").json()
        return found

    seen = send(other, ["/proxy/fail"] * 8)
    assert seen == {500: 5, 503: 3}
    # One's own are there at once, in the other within a second.
    assert figures(other)["failedRequests"] == 8
    eventually(lambda: figures(one)["errors"] == 8, "told")
    assert {key: figures(one)[key] for key in ("requests", "errorRate", "errorsPerMinute", "scope")} == {
        "requests": 8,
        "errorRate": 1.0,
        "errorsPerMinute": 1.6,
        "scope": "fleet",
    }
    assert one.request("POST", "/api/resilience/metrics/default/reset").status == 200
    for gateway in (one, other):
        assert (figures(gateway)["requests"], figures(gateway)["lastErrorTime"]) == (0, None)
    eventually(lambda: other.get("/proxy/ok").status == 200, "closed everywhere")
    before = figures(other)["requests"]
    assert send(one, ["/proxy/ok"] * 4) == {200: 4}
    eventually(lambda: figures(other)["requests"] == before + 4, "counted again")

    time.sleep(1.5)  # both have learned of the reset
    redis.kill()
    send(one, ["/proxy/fail"] * 2)
    eventually(lambda: figures(one)["scope"] == "process", "alone")
    assert (figures(one)["requests"], figures(one)["errors"]) == (6, 2), "its own since the reset"
