"""MAX_CONNECTIONS and the limit of open files hold against every client that only connects."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, fresh, ok
from tests.integration.test_open_files import LimitedGateway
from tests.support.certificates import Certificate
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

Start = Callable[..., GatewayProcess]
GET = "GET /proxy{} HTTP/1.1\r\nHost: a\r\n\r\n"
PATIENCE = 2.0

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def upstream() -> Iterator[ProgrammedUpstream]:
    with ProgrammedUpstream() as running:
        yield running


def files(gateway: GatewayProcess) -> int:
    return len(list(Path(f"/proc/{gateway.worker}/fd").iterdir()))


def tls_status(gateway: GatewayProcess, certificate: Certificate, target: str = "/proxy/ok") -> int:
    """Of one request over TLS; 0 when it did not get an answer."""
    context = ssl.create_default_context(cafile=str(certificate.cert))
    try:
        with RawClient(gateway.port) as client:
            client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
            return client.request(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).status
    except OSError:
        return 0


def silent(sock: socket.socket) -> None:
    """Nothing is ever said."""


def plain_text(sock: socket.socket) -> None:
    sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


def first_bytes(sock: socket.socket) -> None:
    """A handshake record that is never completed."""
    sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")


def middle(sock: socket.socket) -> None:
    """Leave in the middle of the handshake, by a reset."""
    first_bytes(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()


def drip(sock: socket.socket) -> None:
    """A byte of the handshake now and then, for as long as anybody listens."""

    def run() -> None:
        with suppress(OSError):
            for octet in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200):
                sock.sendall(bytes([octet]))
                time.sleep(0.2)

    threading.Thread(target=run, daemon=True).start()


@pytest.mark.parametrize("manner", [silent, plain_text, first_bytes, middle, drip])
def test_handshakes_that_do_not_end_take_neither_files_nor_places_for_long(
    manner: Callable[[socket.socket], None],
    certificate: Certificate,
    stub: StubProcess,
    stack: ExitStack,
    tmp_path: Path,
) -> None:
    """envoyproxy/envoy#11426, python/cpython#74156."""
    limits = {"MAX_CONNECTIONS": "50", "UPSTREAM_MAX_CONNECTIONS": "20", "MAX_WEBSOCKET_CONNECTIONS": "10"}
    settings = {**limits, **certificate.variables, "HEADER_TIMEOUT_SECONDS": str(PATIENCE), "UPSTREAM_URL": stub.url}
    gateway = stack.enter_context(LimitedGateway(300, 300, tmp_path, settings, ready=False))
    gateway.wait_for_line("listening on")
    assert tls_status(gateway, certificate) == 200
    before = files(gateway)
    for _ in range(120 if manner is drip else 400):
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=5.0))
        with suppress(OSError):
            manner(sock)
    # 50 places, 75 more that wait for one, and what a gateway needs for itself.
    assert files(gateway) < 300
    eventually(lambda: files(gateway) <= before + 130, "no more files than that")
    eventually(lambda: tls_status(gateway, certificate) == 200, "served again")
    eventually(lambda: files(gateway) <= before + 5, "every file given back")
    assert tls_status(gateway, certificate) == 200


def test_a_silent_flood_leaves_files_for_upstreams(stack: ExitStack, stub: StubProcess, tmp_path: Path) -> None:
    """Without TLS: 2000 connections that say nothing, 300 files."""
    settings = {"MAX_CONNECTIONS": "5000", "UPSTREAM_MAX_CONNECTIONS": "20", "RATE_LIMIT_ENABLED": "false"}
    gateway = stack.enter_context(LimitedGateway(300, 300, tmp_path, {**settings, "UPSTREAM_URL": stub.url}))
    for _ in range(2000):
        stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=5.0))
    assert files(gateway) < 300

    def all_served() -> bool:
        statuses = []
        for _ in range(5):
            with RawClient(gateway.port) as client, suppress(AssertionError, OSError):
                statuses.append(client.request(GET.format("/ok").encode()).status)
        return statuses == [200] * 5

    # Whoever has said nothing for a second gives way.
    eventually(all_served, "served")


def test_at_the_cap_the_longest_idle_gives_way(start_gateway: Start, upstream: ProgrammedUpstream) -> None:
    gateway = start_gateway(plain(upstream.url, MAX_CONNECTIONS="3"))
    with ExitStack() as stack:
        kept = [stack.enter_context(RawClient(gateway.port)) for _ in range(3)]
        for client in (kept[1], kept[0], kept[2]):
            assert client.request(GET.format(fresh()).encode()).status == 200
            time.sleep(0.1)
        late = stack.enter_context(RawClient(gateway.port))
        assert late.request(GET.format(fresh()).encode()).status == 200
        assert kept[1].fate() == "closed"
        for client in (kept[0], kept[2], late):
            assert client.request(GET.format(fresh()).encode()).status == 200
    gateway.wait_for_metric("gateway_connections_evicted_total", 1)


def test_nobody_gives_way_within_a_request(start_gateway: Start, upstream: ProgrammedUpstream) -> None:
    release = threading.Event()

    def wait(peer: Peer, seen: Seen) -> None:
        release.wait(60.0)
        peer.send(ok())

    upstream.on(path := fresh(), wait)
    gateway = start_gateway(plain(upstream.url, MAX_CONNECTIONS="4"))
    with ExitStack() as stack:
        busy = [stack.enter_context(RawClient(gateway.port)) for _ in range(4)]
        busy[0].send(GET.format(path).encode())
        busy[1].send(GET.format(path).encode())
        busy[2].send(b"GET /proxy/x HTTP/1.1\r\nHost:")
        busy[3].send(b"POST /proxy/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
        upstream.wait_for(path, 2)
        time.sleep(1.2)
        with RawClient(gateway.port) as late:
            response = late.request(GET.format(fresh()).encode())
            assert (response.status, json.loads(response.body)["reason"]) == (429, "overloaded")
            assert response.get("Connection") == "close"
            assert late.fate() == "closed"
        for target, status in (("/livez", 200), ("/readyz", 200), ("/health?x=1", 200), ("/metrics", 429)):
            assert gateway.get(target).status == status, target
        release.set()
        busy[2].send(b" a\r\n\r\n")
        busy[3].send(b"cde")
        assert [client.read_response().status for client in busy] == [200] * 4


def test_probes_are_answered_while_a_flood_of_connections_says_nothing(
    start_gateway: Start, upstream: ProgrammedUpstream
) -> None:
    """openshift/router#737: at the limit the orchestrator killed a healthy process."""
    gateway = start_gateway(plain(upstream.url, MAX_CONNECTIONS="20"))
    with ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=5.0))
        assert [gateway.get("/livez").status for _ in range(5)] == [200] * 5
