"""How tunnels end: nothing that was sent before the end is lost to a reader that is slow, on either side
(envoyproxy/envoy#6392, abhinavsingh/proxy.py#1362)."""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, fresh
from tests.conftest import StartGateway
from tests.support.certificates import Certificate
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.waiting import eventually

UPGRADE = (
    "GET /proxy{} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"
)
FRAME = b"\x82\x7e" + (8000).to_bytes(2) + b"m" * 8000
COUNT = 1000
CLOSE = b"\x88\x02\x03\xe8"
MASKED_CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"


@pytest.fixture(scope="module")
def gateway(upstream: ProgrammedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(plain(upstream.url), tmp_path_factory.mktemp("gateway")) as process:
        yield process


def take_slowly(receive: Callable[[int], bytes], pause_after: float) -> tuple[int, bytes]:
    """Read to the end, with a pause in the beginning that is longer than the time a Close has; how many bytes, and the
    last ones."""
    total, last = 0, b""
    paused = False
    with contextlib.suppress(ConnectionError):
        while octets := receive(65_536):
            total += len(octets)
            last = (last + octets)[-8:]
            if not paused:
                paused = True
                time.sleep(pause_after)
            time.sleep(0.002)
    return total, last


def open_tunnel(client: RawClient, path: str) -> bytes:
    """Send the upgrade; what came after the head of the answer."""
    client.send(UPGRADE.format(path).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.socket.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return head


def small_buffer(gateway: GatewayProcess) -> RawClient:
    client = RawClient(gateway.port)
    client.socket.close()
    client.socket = socket.socket()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    client.socket.settimeout(30.0)
    client.socket.connect(("127.0.0.1", gateway.port))
    return client


def flood_and_end(peer: Peer, seen: Seen) -> None:
    peer.send(SWITCH)
    for _ in range(COUNT):
        peer.send(FRAME)
    peer.send(CLOSE)
    peer.close()


def test_a_slow_client_gets_all_that_the_upstream_sent(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), flood_and_end)
    with small_buffer(gateway) as client:
        open_tunnel(client, path)
        total, last = take_slowly(client.socket.recv, 3.0)
    assert (total, last[-4:]) == (len(FRAME) * COUNT + len(CLOSE), CLOSE)


def test_over_tls_too(
    start_gateway: StartGateway, certificate: Certificate, upstream: ProgrammedUpstream, tmp_path: Path
) -> None:
    gateway = start_gateway(plain(upstream.url, **certificate.variables), ready=False)
    gateway.wait_for_line("listening on")
    context = ssl.create_default_context(cafile=str(certificate.cert))
    upstream.on(path := fresh(), flood_and_end)
    with small_buffer(gateway) as client:
        client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
        open_tunnel(client, path)
        total, last = take_slowly(client.socket.recv, 3.0)
    assert (total, last[-4:]) == (len(FRAME) * COUNT + len(CLOSE), CLOSE)


def test_a_client_that_goes_on_sending_gets_the_end_too(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    """What it sends while the end is on its way must not become a reset that overtakes it."""

    def flood_and_half_close(peer: Peer, seen: Seen) -> None:
        peer.send(SWITCH)
        for _ in range(COUNT):
            peer.send(FRAME)
        peer.send(CLOSE)
        peer.finish_sending()
        peer.wait_for_end(20.0)

    upstream.on(path := fresh(), flood_and_half_close)
    with small_buffer(gateway) as client:
        open_tunnel(client, path)

        def receive(count: int) -> bytes:
            with contextlib.suppress(OSError):
                client.socket.sendall(b"\x89\x80\x00\x00\x00\x00")
            return client.socket.recv(count)

        total, last = take_slowly(receive, 0.5)
    assert (total, last[-4:]) == (len(FRAME) * COUNT + len(CLOSE), CLOSE)


def test_a_slow_upstream_gets_all_that_the_client_sent(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    got: list[tuple[int, bytes]] = []

    def take(peer: Peer, seen: Seen) -> None:
        peer.send(SWITCH)
        got.append(take_slowly(peer.socket.recv, 3.0))
        peer.close()

    upstream.on(path := fresh(), take)
    with RawClient(gateway.port) as client:
        open_tunnel(client, path)
        for _ in range(COUNT):
            client.send(FRAME)
        client.send(MASKED_CLOSE)
    eventually(lambda: bool(got), "the upstream having read to the end")
    assert got == [(len(FRAME) * COUNT + len(MASKED_CLOSE), MASKED_CLOSE)]


def test_an_answer_to_a_close_crosses_a_half_closed_tunnel(
    gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    got: list[bytes] = []

    def close_first(peer: Peer, seen: Seen) -> None:
        peer.send(SWITCH + CLOSE)
        peer.finish_sending()
        got.append(peer.exactly(len(MASKED_CLOSE)))
        got.append(peer.wait_for_end().encode())

    upstream.on(path := fresh(), close_first)
    with RawClient(gateway.port) as client:
        open_tunnel(client, path)
        assert client.read_rest(5.0) == (CLOSE, "closed")
        client.send(MASKED_CLOSE)
    eventually(lambda: len(got) == 2, "the answer to the Close")
    assert got == [MASKED_CLOSE, b"closed"]
