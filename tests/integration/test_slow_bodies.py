"""Clients that send or take a body more slowly than anybody needs; and those that are slow for a good reason."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, fresh, ok
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.waiting import PATIENCE

Start = Callable[..., GatewayProcess]
# Long enough to be told from a machine that stalls, and from each other.
GRACE, IDLE = 1.5, 8.0


@pytest.fixture(scope="module")
def gateway(upstream: ProgrammedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    # Pauses of the upstream are nothing to this gateway; those of clients are.
    variables = plain(
        upstream.url,
        UPSTREAM_IDLE_TIMEOUT="60",
        UPSTREAM_TIMEOUT="60",
        UPSTREAM_TOTAL_TIMEOUT="120",
        CLIENT_IDLE_TIMEOUT_SECONDS=str(IDLE),
        DATA_RATE_GRACE_SECONDS=str(GRACE),
        MIN_REQUEST_BODY_DATA_RATE="1000",
        MIN_RESPONSE_DATA_RATE="1000",
    )
    with GatewayProcess(variables, tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_a_dripped_upload_ends(framing: str, gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    """caddyserver/caddy#6663, jetty/jetty.project#1973: every byte moved every deadline."""
    path = fresh()
    piece = b"1\r\nz\r\n" if "chunked" in framing else b"z"
    with RawClient(gateway.port) as client:
        started = time.monotonic()
        client.send(f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
        while client.fate(0.1) == "open" and not client.unread:
            assert time.monotonic() - started < PATIENCE
            client.send(piece)
        response = client.read_response()
        assert (response.status, response.get("Connection")) == (408, "close")
        problem = json.loads(response.body)
        assert (problem["reason"], "1000 bytes a second" in problem["detail"]) == ("request_timeout", True)
        assert time.monotonic() - started > GRACE
    assert upstream.requests(path) == [] or not upstream.only(path).whole
    gateway.wait_for_metric("http_requests_in_flight", 0)


def test_a_client_that_pauses_is_served(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    with RawClient(gateway.port) as client:
        client.send(f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n".encode())
        time.sleep(GRACE / 2)
        client.send(bytes(20_000))
        # Longer than the grace, less than the longest silence.
        time.sleep(2 * GRACE)
        client.send(bytes(20_000))
        assert client.read_response().status == 200
    assert len(upstream.only(path).body) == 40_000


def test_an_upload_that_the_upstream_does_not_take_is_not_the_clients_fault(
    start_gateway: Start, upstream: ProgrammedUpstream
) -> None:
    size = 40_000_000
    taken: list[int] = []

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                time.sleep(2 * GRACE + 2.5)
                received = bytearray()
                while len(received) - (received.find(b"\r\n\r\n") + 4) < size:
                    received += sock.recv(1 << 20)
                taken.append(len(received))
                sock.sendall(ok())

        thread = threading.Thread(target=serve)
        thread.start()
        settings = {"DATA_RATE_GRACE_SECONDS": str(GRACE), "CLIENT_IDLE_TIMEOUT_SECONDS": "2.5"}
        settings |= {"UPSTREAM_TIMEOUT": "60", "UPSTREAM_TOTAL_TIMEOUT": "120"}
        gateway = start_gateway(plain(f"http://127.0.0.1:{listener.getsockname()[1]}", **settings))
        with RawClient(gateway.port) as client:
            client.send(f"POST /proxy/x HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode() + bytes(size))
            assert client.read_response().status == 200
        thread.join(PATIENCE)
    assert taken[0] >= size


def test_a_long_upload_has_a_longest_time_if_one_is_set(start_gateway: Start, upstream: ProgrammedUpstream) -> None:
    gateway = start_gateway(plain(upstream.url, REQUEST_BODY_TIMEOUT_SECONDS="1"))
    with RawClient(gateway.port) as client:
        client.send(f"POST /proxy{fresh()} HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n".encode())
        started = time.monotonic()
        while client.fate(0.05) == "open" and not client.unread:
            assert time.monotonic() - started < PATIENCE
            client.send(bytes(10_000))
        response = client.read_response()
        assert (response.status, json.loads(response.body)["reason"]) == (408, "request_timeout")


def test_an_answer_that_is_taken_too_slowly_is_cut(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    def flood(peer: Peer, seen: Seen) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(100):
            peer.send(bytes(1_000_000))

    upstream.on(path := fresh(), flood)
    with RawClient(gateway.port) as client:
        # Small windows, so that each little read lets the gateway send a little more.
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.send(f"GET /proxy{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        gateway.wait_for_metric("http_requests_in_flight", 1)
        ended = threading.Event()

        def drip() -> None:
            client.socket.settimeout(PATIENCE)
            try:
                while not ended.is_set() and client.socket.recv(8):
                    ended.wait(0.1)
            except OSError:
                return

        thread = threading.Thread(target=drip)
        thread.start()
        record = json.loads(gateway.wait_for_line('"response_timeout"'))
        ended.set()
        thread.join(PATIENCE)
    assert (record["status"], record["target"]) == (200, f"/proxy{path}")
    gateway.wait_for_metric("http_requests_in_flight", 0)


def test_a_response_with_nothing_to_send_is_left_alone(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    def events(peer: Peer, seen: Seen) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            peer.send(b"9\r\ndata: x\n\n\r\n")
            time.sleep(GRACE + 1.0)
        peer.send(b"0\r\n\r\n")

    upstream.on(path := fresh(), events)
    with RawClient(gateway.port) as client:
        response = client.request(f"GET /proxy{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (response.status, response.complete, response.body) == (200, True, b"data: x\n\n" * 3)


def test_one_client_cannot_take_every_place_in_flight(start_gateway: Start, upstream: ProgrammedUpstream) -> None:
    """With uploads that are just fast enough. Clients are told apart as the rate limit does."""
    gateway = start_gateway(plain(upstream.url, MAX_INFLIGHT="10", TRUSTED_PROXIES="127.0.0.1"))

    def head(client: str, body: int = 0) -> bytes:
        method = "POST" if body else "GET"
        line = f"{method} /proxy{fresh()} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n"
        return (line + (f"Content-Length: {body}\r\n\r\n" if body else "\r\n")).encode()

    clients = [RawClient(gateway.port).send(head("192.0.2.1", 1000)) for _ in range(8)]
    try:
        gateway.wait_for_metric("http_requests_in_flight", 8)
        with RawClient(gateway.port) as client:
            refused = client.request(head("192.0.2.1"))
            assert (refused.status, json.loads(refused.body)["reason"]) == (429, "overloaded")
            assert "one client" in json.loads(refused.body)["detail"]
            assert client.request(head("192.0.2.2")).status == 200
            for each in clients:
                each.send(bytes(1000))
                assert each.read_response().status == 200
            assert client.request(head("192.0.2.1")).status == 200
    finally:
        for each in clients:
            each.close()
    gateway.wait_for_metric('load_shed_total{reason="client_share"}', 1)
