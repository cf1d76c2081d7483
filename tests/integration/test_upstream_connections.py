"""Which pooled connections are used again, and which are not (h2o/h2o#281, haproxy/haproxy#1423, golang/go#32310)."""

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, fresh, ok
from tests.conftest import StartGateway
from tests.support.certificates import make_certificate
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.waiting import PATIENCE, eventually

IDLE_END = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"


def shut(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_RDWR)


def unasked(octets: bytes) -> Callable[[socket.socket], None]:
    return lambda sock: sock.sendall(octets)


def unasked_and_end(sock: socket.socket) -> None:
    sock.sendall(IDLE_END)
    sock.shutdown(socket.SHUT_WR)


class Kept:
    """An upstream whose last connection the test has in its hand."""

    def __init__(self, wrap: Callable[[socket.socket], socket.socket] | None = None) -> None:
        self.upstream = ProgrammedUpstream(wrap=wrap)
        self.path = fresh()
        self.peers: list[Peer] = []
        self.upstream.on(self.path, self._answer)

    def _answer(self, peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        self.peers.append(peer)
        peer.send(ok(b"ok"))


def closed(gateway: GatewayProcess, cause: str) -> int:
    text = gateway.get("/metrics").body.decode()
    pattern = rf'^upstream_connections_closed_total\{{upstream="default",cause="{cause}"\}} (\d+)'
    found = re.search(pattern, text, re.MULTILINE)
    assert found, text
    return int(found[1])


def request(method: str, path: str, body: str = "") -> bytes:
    return f"{method} /proxy{path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    kept = Kept()
    with kept.upstream:
        yield kept


@pytest.fixture(scope="module")
def gateway(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(plain(kept.upstream.url), tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("request_first", [True, False])
@pytest.mark.parametrize(
    ("happens", "cause"),
    [
        (shut, "closed_by_upstream"),
        (unasked(IDLE_END), "unasked_bytes"),
        (unasked_and_end, "unasked_bytes"),
        (unasked(FORGED), "unasked_bytes"),
    ],
    ids=["end", "408", "408 and end", "an answer to nothing"],
)
def test_a_connection_that_has_got_something_is_not_used(
    happens: Callable[[socket.socket], None],
    cause: str,
    request_first: bool,
    method: str,
    kept: Kept,
    gateway: GatewayProcess,
) -> None:
    """The process is stopped while both arrive, as if its loop were busy or it had no processor."""
    for _ in range(2):
        with RawClient(gateway.port) as client:
            assert client.request(request("GET", kept.path)).status == 200
            before = closed(gateway, cause)
            gateway.pause()
            try:
                if request_first:
                    client.send(request(method, kept.path, "y" if method == "POST" else ""))
                happens(kept.peers[-1].socket)
                time.sleep(0.05)
                if not request_first:
                    client.send(request(method, kept.path, "y" if method == "POST" else ""))
                    time.sleep(0.05)
            finally:
                gateway.resume()
            response = client.read_response(method)
            assert (response.status, response.body) == (200, b"ok")
        eventually(lambda: closed(gateway, cause) == before + 1, "counted")  # noqa: B023 - called at once


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("close_notify", [True, False])
def test_over_tls_too(close_notify: bool, version: ssl.TLSVersion, start_gateway: StartGateway, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    context.minimum_version = context.maximum_version = version
    kept = Kept(wrap=lambda sock: context.wrap_socket(sock, server_side=True))
    may_end, ended, over = threading.Event(), threading.Event(), threading.Event()

    def end(peer: Peer, seen: Seen) -> None:
        """Answer, and end the connection when told to. In its own thread: two in one TLS connection disturb another."""
        kept._answer(peer, seen)
        assert may_end.wait(PATIENCE)
        if close_notify:
            assert isinstance(peer.socket, ssl.SSLSocket)
            peer.socket.settimeout(0.05)
            with contextlib.suppress(OSError):
                peer.socket.unwrap()
        else:
            peer.socket.shutdown(socket.SHUT_RDWR)
        ended.set()
        over.wait(PATIENCE)
        peer.close()

    kept.upstream.on(kept.path, kept._answer, kept._answer, end, kept._answer)
    with kept.upstream:
        url = kept.upstream.url.replace("http:", "https:")
        gateway = start_gateway(plain(url, UPSTREAM_VERIFY_SSL="false"))
        with RawClient(gateway.port) as client:
            for _ in range(3):
                assert client.request(request("GET", kept.path)).status == 200
            assert len({peer.number for peer in kept.peers}) == 1, "a healthy connection is used again"
            gateway.pause()
            try:
                may_end.set()
                assert ended.wait(PATIENCE)
                client.send(request("POST", kept.path, "y"))
                time.sleep(0.05)
            finally:
                gateway.resume()
            assert client.read_response("POST").status == 200
            over.set()


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("PUT", 200), ("POST", 502)])
def test_a_408_that_crosses_with_a_request_is_not_its_answer(
    method: str, status: int, start_gateway: StartGateway
) -> None:
    """It was on its way when the request was written. A GET is repeated for free; a POST may not be."""
    with ProgrammedUpstream() as upstream:

        def idle_end(peer: Peer, seen: Seen) -> None:
            peer.send(IDLE_END)
            peer.close()

        gateway = start_gateway(plain(upstream.url, CIRCUIT_BREAKER_FAILURE_THRESHOLD="1", RETRY_MAX_ATTEMPTS="1"))
        upstream.on(path := fresh(), ok(b"first"), idle_end, ok(b"second"))
        with RawClient(gateway.port) as client:
            assert client.request(request("GET", path)).status == 200
            response = client.request(request(method, path), method)
            assert response.status == status
        assert len(upstream.requests(path)) == (3 if status == 200 else 2)
        assert gateway.get("/status/breakers").json()["default"]["state"] == "closed"


def test_a_408_on_a_new_connection_is_an_answer(start_gateway: StartGateway) -> None:
    with ProgrammedUpstream() as upstream:
        gateway = start_gateway(plain(upstream.url))
        upstream.on(path := fresh(), IDLE_END)
        with RawClient(gateway.port) as client:
            assert client.request(request("GET", path)).status == 408
        assert len(upstream.requests(path)) == 1


def connections_used(gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, count: int) -> list[int]:
    """How many of so many requests each connection has carried, in order."""
    with RawClient(gateway.port) as client:
        for _ in range(count):
            assert client.request(request("GET", path)).status == 200
    numbers = [seen.connection for seen in upstream.requests(path)]
    return [numbers.count(number) for number in sorted(set(numbers))]


def test_a_longest_number_of_requests(start_gateway: StartGateway) -> None:
    with ProgrammedUpstream() as upstream:
        gateway = start_gateway(plain(upstream.url, UPSTREAM_MAX_REQUESTS_PER_CONNECTION="20"))
        upstream.on(path := fresh(), ok())
        used = connections_used(gateway, upstream, path, 100)
        assert all(18 <= each <= 20 for each in used[:-1])
        assert len(used) >= 5
        eventually(lambda: closed(gateway, "requests") in {len(used) - 1, len(used)}, "counted")


def test_a_longest_age_even_without_a_pause(start_gateway: StartGateway) -> None:
    with ProgrammedUpstream() as upstream:
        gateway = start_gateway(plain(upstream.url, UPSTREAM_MAX_CONNECTION_AGE_SECONDS="1"))
        upstream.on(path := fresh(), ok())
        with RawClient(gateway.port) as client:
            deadline = time.monotonic() + PATIENCE
            while len({seen.connection for seen in upstream.requests(path)}) < 2:
                assert time.monotonic() < deadline
                assert client.request(request("GET", path)).status == 200
                time.sleep(0.02)
        eventually(lambda: closed(gateway, "age") >= 1, "counted")


@pytest.mark.parametrize("counts_down", [True, False])
def test_the_number_of_requests_that_an_upstream_announces(counts_down: bool, start_gateway: StartGateway) -> None:
    """Some servers count down, some say the same each time. The last one allowed is not used."""
    with ProgrammedUpstream() as upstream:
        served: dict[int, int] = {}

        def answer(peer: Peer, seen: Seen) -> None:
            number = served[peer.number] = served.get(peer.number, 0) + 1
            left = 6 - number if counts_down else 5
            peer.send(ok(b"ok", b"Keep-Alive: timeout=60, max=%d" % left))

        gateway = start_gateway(plain(upstream.url))
        upstream.on(path := fresh(), answer)
        assert connections_used(gateway, upstream, path, 20) == [5, 5, 5, 5]


def test_the_pause_that_an_upstream_announces(start_gateway: StartGateway) -> None:
    with ProgrammedUpstream() as upstream:
        gateway = start_gateway(plain(upstream.url))
        upstream.on(path := fresh(), ok(b"ok", b"Keep-Alive: timeout=2"))
        with RawClient(gateway.port) as client:
            first = client.request(request("GET", path))
            assert (first.status, first.get("Keep-Alive")) == (200, None)
            eventually(lambda: closed(gateway, "idle") == 1, "closing the connection before the upstream does")
            assert client.request(request("POST", path)).status == 200
        assert len({seen.connection for seen in upstream.requests(path)}) == 2
