"""Retries as clients and upstreams see them: how many attempts, with which body, to which endpoint, how long."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, framed, fresh, ok
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.raw_http import RawClient
from tests.support.waiting import eventually

RETRYING = {
    "RETRY_MAX_ATTEMPTS": "3",
    "RETRY_BASE_DELAY_SECONDS": "0.01",
    "RETRY_BUDGET_RATIO": "1",
    "RETRY_BUDGET_MIN_PER_SECOND": "1000",
    "UPSTREAM_TIMEOUT": "1",
    "UPSTREAM_TOTAL_TIMEOUT": "20",
}
UNAVAILABLE = ok(b"no\n", status=503)


def reset(peer: Peer, seen: Seen) -> None:
    peer.read_body(seen)
    peer.reset()


def silence(peer: Peer, seen: Seen) -> None:
    peer.wait_for_end()


@pytest.fixture(scope="module")
def gateway(upstream: ProgrammedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(plain(upstream.url, **RETRYING), tmp_path_factory.mktemp("gateway")) as process:
        yield process


def record_of(gateway: GatewayProcess, request_id: str | None) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(gateway.wait_for_line(f'"{request_id}"'))
    return record


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"])
@pytest.mark.parametrize("failure", [UNAVAILABLE, reset, silence], ids=["503", "reset", "silence"])
def test_idempotent_requests_are_repeated(
    method: str, failure: Any, gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), failure, ok(b"good"))
    answer = gateway.request(method, f"/proxy{path}")
    assert answer.status == 200
    sent = len(upstream.requests(path))
    attempts = record_of(gateway, answer.headers["X-Request-ID"])["attempts"]
    if failure is reset:
        # A reset on a pooled connection is repeated once for free, and is not counted as an attempt then.
        assert (sent, attempts) in {(2, 1), (2, 2)}
    else:
        assert (sent, attempts) == (2, 2)


def test_as_often_as_configured_and_then_the_last_answer(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), UNAVAILABLE)
    answer = gateway.get(f"/proxy{path}")
    assert (answer.status, answer.body) == (503, b"no\n")
    assert len(upstream.requests(path)) == 3
    assert record_of(gateway, answer.headers["X-Request-ID"])["attempts"] == 3


@pytest.mark.parametrize("status", [400, 404, 429, 500, 501])
def test_other_statuses_are_answers(status: int, gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), ok(status=status))
    assert gateway.get(f"/proxy{path}").status == status
    assert len(upstream.requests(path)) == 1


@pytest.mark.parametrize("method", ["POST", "PATCH", "get"])
@pytest.mark.parametrize(
    ("failure", "status"), [(UNAVAILABLE, 503), (reset, 502), (silence, 504)], ids=["503", "reset", "silence"]
)
def test_other_methods_are_not_repeated(
    method: str, failure: Any, status: int, gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), failure, ok(b"good"))
    assert gateway.request(method, f"/proxy{path}", b"x").status == status
    assert len(upstream.requests(path)) == 1


def test_a_post_with_a_key_is_sent_once_to_who_may_ignore_it(
    gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), UNAVAILABLE, ok(b"good"))
    assert gateway.request("POST", f"/proxy{path}", b"body", {"Idempotency-Key": "k"}).status == 503
    assert [seen.get("Idempotency-Key") for seen in upstream.requests(path)] == ["k"]


@pytest.fixture(scope="module")
def honouring(upstream: ProgrammedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Before an upstream that honours idempotency keys."""
    env = plain(upstream.url, **RETRYING, UPSTREAM_HONOURS_IDEMPOTENCY_KEY="true")
    with GatewayProcess(env, tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.mark.parametrize("key", ["k", '"8e03978e"'])
def test_a_post_with_a_key_is_repeated_for_who_honours_it(
    key: str, honouring: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), UNAVAILABLE, ok(b"good"))
    answer = honouring.request("POST", f"/proxy{path}", b"body", {"Idempotency-Key": key})
    assert (answer.status, answer.body) == (200, b"good")
    assert [seen.body for seen in upstream.requests(path)] == [b"body"] * 2
    assert [seen.get("Idempotency-Key") for seen in upstream.requests(path)] == [key] * 2


@pytest.mark.parametrize("key", ["", '""', '" "', '"', ",", "a,b", "a b", '"a";p=1'])
def test_an_empty_or_malformed_key_is_none(key: str, honouring: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), UNAVAILABLE, ok(b"good"))
    assert honouring.request("POST", f"/proxy{path}", b"body", {"Idempotency-Key": key}).status == 503
    assert len(upstream.requests(path)) == 1


def test_two_keys_are_none(honouring: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), UNAVAILABLE, ok(b"good"))
    with RawClient(honouring.port) as client:
        lines = b"Host: a\r\nContent-Length: 1\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\n\r\nx"
        assert client.request(b"POST /proxy%b HTTP/1.1\r\n%b" % (path.encode(), lines)).status == 503
    assert len(upstream.requests(path)) == 1


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [1, 1000, 65_536])
def test_the_body_is_replayed_intact(
    size: int, chunked: bool, gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), UNAVAILABLE, reset, ok(b"good"))
    body = (bytes(range(256)) * 257)[:size]
    head = f"PUT /proxy{path} HTTP/1.1\r\nHost: a\r\n".encode()
    with RawClient(gateway.port) as client:
        if chunked:
            client.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for at in range(0, size, 5000):
                piece = body[at : at + 5000]
                client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            client.send(b"0\r\n\r\n")
        else:
            client.send(head + b"Content-Length: %d\r\n\r\n" % size + body)
        assert client.read_response().status == 200
    bodies = [seen.body for seen in upstream.requests(path)]
    assert len(bodies) >= 3
    assert set(bodies) == {body}


def test_a_larger_body_is_sent_once(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), UNAVAILABLE, ok(b"good"))
    assert gateway.request("PUT", f"/proxy{path}", b"x" * 65_537).status == 503
    assert len(upstream.requests(path)) == 1


def test_a_reset_in_the_middle_of_a_small_upload(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    """What was sent is sent again, and what comes after it follows."""

    def reset_early(peer: Peer, seen: Seen) -> None:
        peer.exactly(5)
        peer.reset()

    upstream.on(path := fresh(), reset_early, ok(b"good"))
    with RawClient(gateway.port) as client:
        client.send(f"PUT /proxy{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n".encode() + b"01234")
        upstream.wait_for(path, 2)
        assert client.request(b"56789").status == 200
    assert upstream.requests(path)[-1].body == b"0123456789"


def test_a_large_body_whose_upstream_resets_is_not_repeated(
    gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    def reset_early(peer: Peer, seen: Seen) -> None:
        peer.exactly(100_000)
        peer.reset()

    upstream.on(path := fresh(), reset_early, ok(b"good"))
    with RawClient(gateway.port) as client:
        client.send(f"PUT /proxy{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n".encode() + b"x" * 200_000)
        assert client.read_response().status == 502
    assert len(upstream.requests(path)) == 1


def test_nothing_is_repeated_after_the_head_went_out(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), framed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"), ok(b"good"))
    with RawClient(gateway.port) as client:
        response = client.request(f"GET /proxy{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (response.body, response.complete) == (b"hello", False)
    assert len(upstream.requests(path)) == 1


def test_a_stale_connection_costs_nothing(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    """The upstream closes a kept connection just as a request arrives on it."""

    def close_now(peer: Peer, seen: Seen) -> None:
        peer.close()

    upstream.on(warm := fresh(), ok())
    upstream.on(path := fresh(), close_now, ok(b"good"))
    assert gateway.get(f"/proxy{warm}").status == 200
    answer = gateway.get(f"/proxy{path}")
    assert (answer.status, answer.body) == (200, b"good")
    record = record_of(gateway, answer.headers["X-Request-ID"])
    assert (len(upstream.requests(path)), record["attempts"]) == (2, 1)


def test_retry_after_is_a_floor(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), ok(b"no", b"Retry-After: 1", status=503), ok(b"good"))
    started = time.monotonic()
    assert gateway.get(f"/proxy{path}").status == 200
    assert 1.0 <= time.monotonic() - started < 15.0


def test_retry_after_beyond_the_deadline_gives_up_at_once(
    gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), ok(b"no", b"Retry-After: 60", status=503), ok(b"good"))
    started = time.monotonic()
    answer = gateway.get(f"/proxy{path}")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
    assert time.monotonic() - started < 15.0
    assert len(upstream.requests(path)) == 1


def test_the_total_deadline_bounds_all_attempts(start_gateway: Any, upstream: ProgrammedUpstream) -> None:
    changes = {**RETRYING, "RETRY_MAX_ATTEMPTS": "20", "UPSTREAM_TOTAL_TIMEOUT": "2.5"}
    gateway = start_gateway(plain(upstream.url, **changes))
    upstream.on(path := fresh(), silence)
    started = time.monotonic()
    assert gateway.get(f"/proxy{path}").status == 504
    assert 2.0 < time.monotonic() - started < 15.0
    assert len(upstream.requests(path)) in {2, 3}


def test_a_post_to_a_port_that_refuses_is_repeated(start_gateway: Any, upstream: ProgrammedUpstream) -> None:
    """No byte was sent: any request may go to the other endpoint."""
    dead = f"http://127.0.0.1:{free_port()}"
    gateway = start_gateway(plain(f"{dead},{upstream.url}", **RETRYING, UPSTREAM_BALANCE="round_robin"))
    path = fresh()
    statuses = {gateway.request("POST", f"/proxy{path}", b"x").status for _ in range(6)}
    assert statuses == {200}
    assert [seen.body for seen in upstream.requests(path)] == [b"x"] * 6


def test_another_endpoint_is_tried_first(start_gateway: Any) -> None:
    with ProgrammedUpstream() as bad, ProgrammedUpstream() as good:
        path = fresh()
        bad.on(path, UNAVAILABLE)
        gateway = start_gateway(
            plain(
                f"{bad.url},{good.url}",
                **RETRYING,
                UPSTREAM_BALANCE="round_robin",
                EJECTION_CONSECUTIVE_FAILURES="10000",
            )
        )
        answers = [gateway.get(f"/proxy{path}").status for _ in range(20)]
        assert answers == [200] * 20
        assert len(good.requests(path)) == 20
        assert len(bad.requests(path)) >= 5


def test_the_budget_bounds_retries(start_gateway: Any, upstream: ProgrammedUpstream) -> None:
    changes = {**RETRYING, "RETRY_BUDGET_RATIO": "0.2", "RETRY_BUDGET_MIN_PER_SECOND": "0"}
    gateway = start_gateway(plain(upstream.url, **changes))
    upstream.on(path := fresh(), UNAVAILABLE)
    answers = [gateway.get(f"/proxy{path}") for _ in range(50)]
    assert {answer.status for answer in answers} == {503}
    assert {answer.body for answer in answers} == {b"no\n"}
    assert 50 < len(upstream.requests(path)) <= 60
    metrics = gateway.get("/metrics").body.decode()
    assert 'retry_budget_exhausted_total{upstream="default"}' in metrics


def test_refused_answers_that_never_end_do_not_use_up_the_connections(
    start_gateway: Any, upstream: ProgrammedUpstream
) -> None:
    """A 503 that is dropped for another attempt, whose body never comes, must not keep its connection for ever."""

    def never_ends(peer: Peer, seen: Seen) -> None:
        peer.send(b"HTTP/1.1 503 No\r\nContent-Length: 10\r\n\r\n")
        peer.wait_for_end(120.0)

    upstream.on(path := fresh(), never_ends, never_ends, ok(b"good"))
    gateway = start_gateway(plain(upstream.url, **RETRYING, UPSTREAM_MAX_CONNECTIONS="2", UPSTREAM_IDLE_TIMEOUT="0.5"))
    gateway.get(f"/proxy{path}")
    eventually(lambda: gateway.get(f"/proxy{fresh()}").status == 200, "a connection is free")
