"""One peer that does its worst at full speed, and what everybody else sees of it."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.stub_process import StubProcess
from tests.support.turn_time import assert_fair, waits

_SECONDS = 2.0
_UPGRADE = (
    b"GET /hostile/tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_UPLOAD = b"POST /proxy/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def tiny_chunks(peer: Peer, seen: Seen) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with contextlib.suppress(OSError):
        while True:
            peer.send(b"1\r\na\r\n" * 20_000)


def swallow(peer: Peer, seen: Seen) -> None:
    peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    with contextlib.suppress(OSError):
        while peer.receive():
            pass


@pytest.fixture(scope="module")
def gateway(stub_process: StubProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    directory = tmp_path_factory.mktemp("gateway")
    with ProgrammedUpstream() as hostile:
        hostile.on("/hostile", tiny_chunks)
        hostile.on("/hostile/tunnel", swallow)
        routes = directory / "routes.yaml"
        routes.write_text(
            f"upstreams:\n  stub: {{endpoints: ['127.0.0.1:{stub_process.port}']}}\n"
            f"  hostile: {{endpoints: ['127.0.0.1:{hostile.port}']}}\n"
            "routes:\n"
            "  - {name: hostile, prefix: /hostile, upstream: hostile, websocket: true, rate_limit: null}\n"
            "  - {name: stub, prefix: /proxy/, upstream: stub, strip_prefix: true, rate_limit: null}\n"
        )
        with GatewayProcess({"GATEWAY_CONFIG": str(routes)}, directory) as process:
            yield process


def send_until(port: int, begin: bytes, again: bytes, end: float, *, reconnect: bool = False) -> None:
    """Send `begin`, wait for nothing, and `again` without a pause."""
    while time.monotonic() < end:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client, contextlib.suppress(OSError):
            client.sendall(begin)
            while time.monotonic() < end:
                client.sendall(again)
                if reconnect:
                    client.recv(65_536)
                    break


def read_until(port: int, request: bytes, end: float) -> None:
    """Send requests without a pause, one connection each, and read what comes."""
    while time.monotonic() < end:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client, contextlib.suppress(OSError):
            client.sendall(request)
            while time.monotonic() < end and client.recv(1 << 20):
                pass


def pipeline_until(port: int, end: float) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        reading = threading.Thread(target=drain, args=(client,), daemon=True)
        reading.start()
        with contextlib.suppress(OSError):
            while time.monotonic() < end:
                client.sendall(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n" * 2000)
            client.shutdown(socket.SHUT_RDWR)
        reading.join(5)


def drain(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while client.recv(1 << 20):
            pass


def upgraded(port: int, again: bytes, end: float) -> None:
    with RawClient(port) as client:
        client.send(_UPGRADE)
        time.sleep(0.2)
        assert client.socket.recv(4096).startswith(b"HTTP/1.1 101")
        with contextlib.suppress(OSError):
            while time.monotonic() < end:
                client.socket.sendall(again)


Attack = Callable[[int, float], None]
ATTACKS: dict[str, Attack] = {
    "empty frames": lambda port, end: upgraded(port, b"\x8a\x80\0\0\0\0" * 10_000, end),
    "pings": lambda port, end: upgraded(port, b"\x89\x80\0\0\0\0" * 10_000, end),
    "frames of a size in a longer form": lambda port, end: upgraded(port, b"\x8a\xfe\0\x01\0\0\0\0a" * 10_000, end),
    "tiny chunks up": lambda port, end: send_until(port, _UPLOAD, b"1\r\na\r\n" * 10_000, end),
    "tiny chunks with zeros": lambda port, end: send_until(port, _UPLOAD, b"0000000000000001\r\na\r\n" * 3000, end),
    "tiny chunks down": lambda port, end: read_until(port, b"GET /hostile HTTP/1.1\r\nHost: a\r\n\r\n", end),
    "empty lines": lambda port, end: send_until(port, b"", b"\r\n" * 100_000, end, reconnect=True),
    "tiny header lines": lambda port, end: send_until(
        port, b"GET / HTTP/1.1\r\n", b"a:b\r\n" * 50_000, end, reconnect=True
    ),
    "pipelining": pipeline_until,
    "reads of the control plane": lambda port, end: read_until(
        port, b"GET /api/resilience/errors/recent?count=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n", end
    ),
}


@pytest.mark.parametrize("kind", ATTACKS)
def test_others_are_served(gateway: GatewayProcess, kind: str) -> None:
    end = time.monotonic() + _SECONDS
    attack = threading.Thread(target=ATTACKS[kind], args=(gateway.port, end), daemon=True)
    attack.start()
    time.sleep(0.3)
    proxied = waits(gateway.port, gateway.worker, "/proxy/ok", end - 0.5)
    alive = waits(gateway.port, gateway.worker, "/livez", end)
    attack.join(20)
    assert not attack.is_alive()
    assert_fair(proxied)
    assert_fair(alive)
