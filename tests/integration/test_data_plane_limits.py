"""Limits of time, number and size, and the one shape in which every refusal comes."""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, fresh, ok
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.raw_http import RawClient
from tests.support.raw_response import RawResponse
from tests.support.waiting import PATIENCE, eventually

Start = Callable[..., GatewayProcess]
IN_FLIGHT = "http_requests_in_flight"
GET = "GET /proxy{} HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def hasty(upstream: ProgrammedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with short patience."""
    variables = plain(
        upstream.url,
        HEADER_TIMEOUT_SECONDS="1.2",
        KEEPALIVE_TIMEOUT_SECONDS="1.6",
        CLIENT_IDLE_TIMEOUT_SECONDS="1.2",
    )
    with GatewayProcess(variables, tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.fixture(scope="module")
def strict(upstream: ProgrammedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway for small bodies, with as much patience as any."""
    variables = plain(upstream.url, MAX_BODY_BYTES="1000")
    with GatewayProcess(variables, tmp_path_factory.mktemp("gateway")) as process:
        yield process


def check_refusal(response: RawResponse, status: int, reason: str, gateway: GatewayProcess) -> dict[str, Any]:
    """Body, headers and log line say the same. The problem."""
    assert response.status == status
    assert response.get("Content-Type") == "application/problem+json"
    assert response.body.count(b"\n") == 1
    assert response.body.endswith(b"}\n")
    problem: dict[str, Any] = json.loads(response.body)
    assert {"type", "title", "status", "detail", "reason", "request_id"} <= problem.keys()
    assert (problem["status"], problem["reason"]) == (status, reason)
    assert problem["request_id"] == response.get("X-Request-ID")
    assert f'details="{reason}"' in (response.get("Proxy-Status") or "")
    retry_after = response.get("Retry-After")
    assert ("retry_after" in problem) == (retry_after is not None)
    if retry_after is not None:
        assert int(retry_after) == math.ceil(problem["retry_after"]) >= 1
    record = json.loads(gateway.wait_for_line(f'"{problem["request_id"]}"'))
    assert (record["status"], record["reason"]) == (status, reason)
    return problem


def test_slow_headers(hasty: GatewayProcess) -> None:
    with RawClient(hasty.port) as client:
        started = time.monotonic()
        client.send(b"GET /proxy/slow HTTP/1.1\r\n")
        while client.fate(0.1) == "open" and not client.unread:  # dripping does not buy time
            assert time.monotonic() - started < PATIENCE
            client.send(b"X: y\r\n")
        check_refusal(client.read_response(), 408, "request_timeout", hasty)
        assert time.monotonic() - started > 1.0


def test_a_connection_that_says_nothing(hasty: GatewayProcess) -> None:
    with RawClient(hasty.port) as client:
        assert client.fate() == "closed"
        assert client.unread == b""


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_a_slow_body(framing: str, hasty: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    ended: list[str] = []

    def wait(peer: Peer, seen: Seen) -> None:
        ended.append(peer.wait_for_end())

    upstream.on(path := fresh(), wait)
    with RawClient(hasty.port) as client:
        client.send(f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
        response = client.read_response()
        check_refusal(response, 408, "request_timeout", hasty)
        assert response.get("Connection") == "close"
    eventually(lambda: bool(ended), "the upstream request to be cancelled")


def test_an_idle_kept_connection(hasty: GatewayProcess) -> None:
    with RawClient(hasty.port) as client:
        assert client.request(GET.format(fresh()).encode()).status == 200
        started = time.monotonic()
        assert client.fate() == "closed"
        assert time.monotonic() - started > 1.2
        assert client.unread == b""


def test_a_client_that_takes_nothing(hasty: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    ended: list[str] = []

    def flood(peer: Peer, seen: Seen) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        try:
            for _ in range(100):
                peer.send(bytes(1_000_000))
        finally:
            ended.append("over")

    upstream.on(path := fresh(), flood)
    with RawClient(hasty.port) as client:
        client.send(GET.format(path).encode())
        eventually(lambda: bool(ended), "the exchange to be given up")


@pytest.mark.parametrize("size", [1000, 1001, 10_000_000])
def test_body_limit_by_length(size: int, strict: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    with RawClient(strict.port) as client:
        client.send(f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        if size == 1000:
            assert client.request(b"x" * size).status == 200
        else:
            check_refusal(client.read_response(), 413, "body_too_large", strict)
            assert upstream.requests(path) == []


@pytest.mark.parametrize("size", [1000, 1001])
def test_body_limit_by_counting(size: int, strict: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    raw = f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with RawClient(strict.port) as client:
        response = client.request(raw + b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size))
        if size == 1000:
            assert response.status == 200
        else:
            check_refusal(response, 413, "body_too_large", strict)
            assert not any(seen.whole for seen in upstream.requests(path))
            assert client.fate() == "closed"


def test_a_large_expected_body_is_refused_before_it_is_sent(strict: GatewayProcess) -> None:
    raw = "POST /proxy/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n"
    with RawClient(strict.port) as client:
        response = client.request(raw.encode())
        assert (response.status, response.interim) == (413, [])


@pytest.mark.parametrize("status", [429, 503])
def test_shedding(status: int, start_gateway: Start, upstream: ProgrammedUpstream) -> None:
    release = threading.Event()

    def wait(peer: Peer, seen: Seen) -> None:
        release.wait(PATIENCE)
        peer.send(ok())

    upstream.on(path := fresh(), wait)
    gateway = start_gateway(
        plain(upstream.url, MAX_INFLIGHT="2", LOAD_SHED_STATUS=str(status), LOAD_SHED_RETRY_AFTER="7")
    )
    busy = [RawClient(gateway.port).send(GET.format(path).encode()) for _ in range(2)]
    upstream.wait_for(path, 2)
    with RawClient(gateway.port) as client:
        problem = check_refusal(client.request(GET.format(fresh()).encode()), status, "overloaded", gateway)
        assert 7 <= problem["retry_after"] <= 8
        told = {client.request(GET.format(fresh()).encode()).get("Retry-After") for _ in range(40)}
        assert told == {"7", "8"}, "those who obey come back as one wave"
        release.set()
        assert [one.read_response().status for one in busy] == [200, 200]
        assert client.request(GET.format(fresh()).encode()).status == 200
    assert 'load_shed_total{reason="' in gateway.get("/metrics").body.decode()
    for one in busy:
        one.close()


def test_the_bulkhead_and_its_queue(start_gateway: Start, upstream: ProgrammedUpstream) -> None:
    release = threading.Event()

    def wait(peer: Peer, seen: Seen) -> None:
        release.wait(PATIENCE)
        peer.send(ok())

    upstream.on(path := fresh(), wait)
    gateway = start_gateway(
        plain(upstream.url, BULKHEAD_LIMIT="1", BULKHEAD_QUEUE="1", BULKHEAD_QUEUE_TIMEOUT_SECONDS="4")
    )
    clients = [RawClient(gateway.port) for _ in range(4)]
    clients[0].send(GET.format(path).encode())
    upstream.wait_for(path)
    clients[1].send(GET.format(fresh()).encode())  # waits in the queue, in vain
    gateway.wait_for_metric(IN_FLIGHT, 2)
    started = time.monotonic()
    full = check_refusal(clients[2].request(GET.format(fresh()).encode()), 503, "bulkhead_full", gateway)
    assert time.monotonic() - started < 3.0, "it waited too"
    assert 1 <= full["retry_after"] <= 2
    told = {clients[2].request(GET.format(fresh()).encode()).get("Retry-After") for _ in range(40)}
    assert told == {"1", "2"}, "those who obey come back as one wave"
    check_refusal(clients[1].read_response(), 503, "bulkhead_full", gateway)
    clients[3].send(GET.format(fresh()).encode())  # waits, and gets its turn
    gateway.wait_for_metric(IN_FLIGHT, 2)
    release.set()
    assert clients[0].read_response().status == 200
    assert clients[3].read_response().status == 200
    for client in clients:
        client.close()


def test_a_client_that_leaves_the_queue_leaves_no_hole(start_gateway: Start, upstream: ProgrammedUpstream) -> None:
    release = threading.Event()

    def wait(peer: Peer, seen: Seen) -> None:
        release.wait(PATIENCE)
        peer.send(ok())

    upstream.on(path := fresh(), wait)
    gateway = start_gateway(
        plain(upstream.url, BULKHEAD_LIMIT="1", BULKHEAD_QUEUE="5", BULKHEAD_QUEUE_TIMEOUT_SECONDS="30")
    )
    first = RawClient(gateway.port).send(GET.format(path).encode())
    upstream.wait_for(path)
    for _ in range(5):
        with RawClient(gateway.port) as client:
            client.send(GET.format(fresh()).encode())
            gateway.wait_for_metric(IN_FLIGHT, 2)
        gateway.wait_for_metric(IN_FLIGHT, 1)
    last = RawClient(gateway.port).send(GET.format(fresh()).encode())
    gateway.wait_for_metric(IN_FLIGHT, 2)
    release.set()
    assert first.read_response().status == 200
    assert last.read_response().status == 200
    for client in (first, last):
        client.close()


def test_unreachable(start_gateway: Start, upstream: ProgrammedUpstream) -> None:
    gateway = start_gateway(plain("http://127.0.0.1:1"))
    with RawClient(gateway.port) as client:
        response = client.request(GET.format("/x").encode())
        check_refusal(response, 502, "upstream_unreachable", gateway)
        assert "connection_refused" in (response.get("Proxy-Status") or "")


def test_an_upstreams_own_rate_limit_is_told_only_where_the_gateway_has_none(
    start_gateway: Start, upstream: ProgrammedUpstream
) -> None:
    upstream.on("/limits", ok(b"", b"X-RateLimit-Limit: 7", b"RateLimit: theirs", b"X-RateLimit-Other: kept"))
    for enabled, limit, told in (("true", "50", 1), ("false", "7", 1)):
        gateway = start_gateway(plain(upstream.url, RATE_LIMIT_ENABLED=enabled, RATE_LIMIT_CAPACITY="50"))
        with RawClient(gateway.port) as client:
            response = client.request(GET.format("/limits").encode())
        assert (response.all("X-RateLimit-Limit"), len(response.all("RateLimit"))) == ([limit], told)
        assert response.get("X-RateLimit-Other") == "kept"


def test_rate_limited(start_gateway: Start, upstream: ProgrammedUpstream) -> None:
    gateway = start_gateway(
        plain(upstream.url, RATE_LIMIT_ENABLED="true", RATE_LIMIT_CAPACITY="3", RATE_LIMIT_REFILL_RATE="0.5")
    )
    with RawClient(gateway.port) as client:
        for left in ("2", "1", "0"):
            response = client.request(GET.format(fresh()).encode())
            assert (response.status, response.get("X-RateLimit-Remaining")) == (200, left)
        response = client.request(GET.format(fresh()).encode())
        assert check_refusal(response, 429, "rate_limited", gateway)["retry_after"] == 2
        assert response.get("RateLimit-Policy") is not None
        assert response.get("Connection") is None


def test_without_redis_closed_does_not_pretend_to_know_the_client(
    start_gateway: Start, upstream: ProgrammedUpstream
) -> None:
    gone = f"redis://127.0.0.1:{free_port()}"
    gateway = start_gateway(
        plain(upstream.url, RATE_LIMIT_ENABLED="true", RATE_LIMIT_ON_REDIS_FAILURE="closed", REDIS_URL=gone)
    )
    with RawClient(gateway.port) as client:
        for _ in range(2):
            problem = check_refusal(client.request(GET.format(fresh()).encode()), 429, "rate_limited", gateway)
            assert "cannot be checked" in problem["detail"]
            assert "used up" not in problem["detail"]
    explained = gateway.get("/api/resilience/explain?path=/proxy/x&client=192.0.2.1").json()
    assert "cannot be checked" in explained["refusal"]["detail"]
