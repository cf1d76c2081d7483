"""What is polled is answered before aiohttp, in the same words, however often and however oddly it is asked."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from gateway.control.app import MAX_CONNECTIONS
from tests.conftest import StartGateway
from tests.support.callers import TOKEN
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

# A request whose body does not come, but for further fields.
WAITING = b"POST /api/admin/cleanup/alerts HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: 9\r\n\r\n"


@pytest.fixture
def gateway(shared_gateway: StartGateway, stub: StubProcess) -> GatewayProcess:
    return shared_gateway({"UPSTREAM_URL": stub.url, "MAX_INFLIGHT": "1"})


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/metrics"])
def test_the_quick_answer_is_that_of_aiohttp(gateway: GatewayProcess, path: str) -> None:
    # A query takes the slow way.
    quick = gateway.get(path, {"X-Request-ID": "poll-1"})
    slow = gateway.get(f"{path}?slow", {"X-Request-ID": "poll-1"})
    assert quick.status == slow.status == 200
    varying = {"Date", "Content-Length"}
    assert {name: value for name, value in quick.headers.items() if name not in varying} == {
        name: value for name, value in slow.headers.items() if name not in varying
    }
    assert quick.headers["Content-Length"] == str(len(quick.body))
    if path != "/metrics":
        assert quick.json().keys() == slow.json().keys()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /health HTTP/1.0\r\nHost: x\r\n\r\n", 200),
        (b"GET http://x/health HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 405),
        (b"PATCH /health HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"FOO /health HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"QUERY /health HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GETS /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"get /api/resilience/health HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"G(T /health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 200),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n", 200),
    ],
)
def test_other_ways_to_ask_for_it(gateway: GatewayProcess, head: bytes, status: int) -> None:
    with RawClient(gateway.port) as client:
        answer = client.send(head).read_response(head.split(b" ")[0].decode())
        assert answer.status == status
        assert client.fate() == "closed"


def test_a_head_that_comes_in_pieces(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send_slowly(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 0.01, step=8)
        assert client.read_response().status == 200


def test_a_client_that_ends_its_side_still_gets_its_scrape(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        answer = client.read_response()
        assert answer.status == 200
        assert b"http_requests_total" in answer.body


def test_health_answers_while_everything_else_is_shed(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as holder:
        holder.send(b"GET /proxy/slow?seconds=20 HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: gateway.get("/proxy/ok").status == 429, "shedding")
        for _ in range(20):
            answer = gateway.get("/health")
            assert answer.status == 200
            assert gateway.get("/metrics").status == 200
        eventually(lambda: gateway.get("/health").json()["status"] == "degraded", "degraded")
        assert "1 of 1 requests" in gateway.get("/health").json()["reasons"][0]


def test_a_flood_of_polls_costs_little(gateway: GatewayProcess) -> None:
    for _ in range(300):
        assert gateway.get("/health").status == 200
        assert gateway.get("/metrics").status == 200
    # The last scrape is of now again as soon as the polls come slowly.
    before = gateway.get("/metrics").body
    gateway.get("/proxy/ok")
    eventually(lambda: gateway.get("/metrics").body != before, "a new exposition")


def test_silent_connections_do_not_keep_a_health_check_out(start_gateway: StartGateway, stub: StubProcess) -> None:
    # An operator is never refused, so that all of these are let in, at whatever speed they come.
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "ADMIN_TOKEN": TOKEN})
    with connections(gateway, MAX_CONNECTIONS + 50) as held:
        for client in held:
            client.send(WAITING % f"Authorization: Bearer {TOKEN}\r\n".encode())
        assert gateway.get("/health").status == 200
        # The health check needs a place, too. Those that have been open for longest make room.
        eventually(lambda: all(has_ended(client) for client in held[:51]), "the oldest are closed")
        # Later ones are not, unless they have already taken too long.
        assert all(b" 408 " in client.unread for client in held[51:] if has_ended(client))


def test_of_requests_that_come_at_once_most_are_told_that_too_many_wait(
    start_gateway: StartGateway, stub: StubProcess
) -> None:
    gateway = start_gateway({"UPSTREAM_URL": stub.url})
    with connections(gateway, 400) as held:
        eventually(lambda: gateway.metric('gateway_connections{side="client"}') >= len(held), "all are open")
        # All requests are there when the gateway looks, however slowly they are sent.
        gateway.pause()
        for client in held:
            client.send(WAITING % b"")
        gateway.resume()
        assert gateway.get("/health").status == 200
        eventually(lambda: sum(has_ended(client) for client in held) > 200, "most are refused")
        assert all(b" 429 " in client.unread for client in held if has_ended(client))


@contextlib.contextmanager
def connections(gateway: GatewayProcess, count: int) -> Iterator[list[RawClient]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(RawClient(gateway.port)) for _ in range(count)]


def has_ended(client: RawClient) -> bool:
    return client.fate(0.001) != "open"
