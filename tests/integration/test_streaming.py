"""Bodies of any size in flat memory, backpressure from end to end, promptness, and clients that leave."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, fresh
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.waiting import PATIENCE, eventually, stands_still

MIB = 1 << 20
BIG = 200 * MIB
ROOM = 24 * MIB  # what the process may grow by while one body of BIG passes
BLOCK = bytes(range(256)) * 1024


@pytest.fixture(scope="module")
def gateway(upstream: ProgrammedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    variables = plain(upstream.url, UPSTREAM_IDLE_TIMEOUT="60", UPSTREAM_TIMEOUT="60", UPSTREAM_TOTAL_TIMEOUT="120")
    with GatewayProcess(variables, tmp_path_factory.mktemp("gateway")) as process:
        yield process


class Watch:
    """The gateway's largest resident size while the context is entered, above what it was."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._stop = threading.Event()
        self._before = gateway.memory_bytes()
        self.growth = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self.growth = max(self.growth, self._gateway.memory_bytes() - self._before)


def send_big(framing: str, sent: list[int], size: int = BIG) -> Callable[[Peer, Seen], None]:
    """An answer of `size` bytes; `sent` is kept up to date."""

    def answer(peer: Peer, seen: Seen) -> None:
        head = {
            "length": b"Content-Length: %d\r\n" % size,
            "chunked": b"Transfer-Encoding: chunked\r\n",
            "close": b"",
        }[framing]
        peer.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        sent.append(0)
        while sent[-1] < size:
            piece = BLOCK[: size - sent[-1]]
            peer.send(b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece)
            sent[-1] += len(piece)
        if framing == "chunked":
            peer.send(b"0\r\n\r\n")
        elif framing == "close":
            peer.close()

    return answer


def take_slowly(client: RawClient, pause: float) -> int:
    """Read until the gateway closes; every 8 MiB a pause. The number of bytes, head included."""
    client.socket.settimeout(PATIENCE)
    total = mark = 0
    while octets := client.socket.recv(MIB):
        total += len(octets)
        if total - mark > 8 * MIB:
            mark = total
            time.sleep(pause)
    return total


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_large_answer_to_a_slow_reader(framing: str, gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), send_big(framing, []))
    with Watch(gateway) as watch, RawClient(gateway.port) as client:
        client.send(f"GET /proxy{path} HTTP/1.0\r\nHost: a\r\n\r\n".encode())
        total = take_slowly(client, 0.03)
    assert BIG <= total < BIG + 1000
    assert watch.growth < ROOM


@pytest.mark.parametrize("chunked", [True, False])
def test_a_large_upload_to_a_slow_upstream(
    chunked: bool, gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    digest = hashlib.sha256()

    def take(peer: Peer, seen: Seen) -> None:
        mark = total = 0
        left = BIG
        if chunked:
            peer.until(b"\r\n")
        while left:
            data = peer.buffer or peer.receive()
            peer.buffer = b""
            total += len(data)
            left -= min(left, len(data))
            if not chunked:
                digest.update(data)
            if total - mark > 8 * MIB:
                mark = total
                time.sleep(0.03)
        peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        peer.wait_for_end()

    upstream.on(path := fresh(), take)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {BIG}"
    with Watch(gateway) as watch, RawClient(gateway.port) as client:
        client.send(f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
        for _ in range(BIG // len(BLOCK)):
            client.send(b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK) if chunked else BLOCK)
        if chunked:
            client.send(b"0\r\n\r\n")
        assert client.read_response().status == 200
    assert watch.growth < ROOM
    if not chunked:
        expected = hashlib.sha256()
        for _ in range(BIG // len(BLOCK)):
            expected.update(BLOCK)
        assert digest.digest() == expected.digest()


def test_a_client_that_reads_nothing_stops_the_upstream(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    sent: list[int] = []
    upstream.on(path := fresh(), send_big("length", sent))
    with Watch(gateway) as watch, RawClient(gateway.port) as client:
        client.send(f"GET /proxy{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert stands_still(lambda: sent[-1] if sent else 0) < BIG // 4, "the upstream is still being read"
        client.socket.settimeout(PATIENCE)
        total = 0
        while total < BIG:
            total += len(client.socket.recv(MIB))
    assert watch.growth < ROOM


def test_an_upstream_that_reads_nothing_stops_the_client(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    go_on = threading.Event()

    def wait(peer: Peer, seen: Seen) -> None:
        go_on.wait(PATIENCE)
        peer.read_body(seen)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    upstream.on(path := fresh(), wait)
    size = 64 * MIB
    with Watch(gateway) as watch, RawClient(gateway.port) as client:
        client.send(f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        client.socket.settimeout(2.0)
        sent = 0
        try:
            while sent < size:
                sent += client.socket.send(BLOCK[: size - sent])
        except TimeoutError:
            pass
        assert sent < size // 2
        go_on.set()
        client.socket.settimeout(PATIENCE)
        while sent < size:
            sent += client.socket.send(BLOCK[: size - sent])
        assert client.read_response().status == 200
    assert watch.growth < ROOM


def test_events_arrive_as_they_are_sent(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    step = threading.Event()

    def events(peer: Peer, seen: Seen) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for n in range(5):
            event = b"data: %d\n\n" % n
            peer.send(b"%x\r\n%b\r\n" % (len(event), event))
            assert step.wait(PATIENCE)
            step.clear()
        peer.send(b"0\r\n\r\n")

    upstream.on(path := fresh(), events)
    with RawClient(gateway.port) as client:
        client.send(f"GET /proxy{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.socket.settimeout(PATIENCE)
        received = b""
        for n in range(5):
            # The upstream sends no more before the test has this one: what held it back would hold it for ever.
            while b"data: %d\n\n" % n not in received:
                received += client.socket.recv(1000)
            step.set()
        while not received.endswith(b"0\r\n\r\n"):
            received += client.socket.recv(1000)


def test_an_upload_is_passed_on_as_it_comes(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    arrived: list[bytes] = []

    def listen(peer: Peer, seen: Seen) -> None:
        while len(arrived) < 4:
            arrived.append(peer.exactly(5))
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    upstream.on(path := fresh(), listen)
    with RawClient(gateway.port) as client:
        client.send(f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n".encode())
        for n in range(4):
            client.send(b"01234")
            eventually(lambda n=n: len(arrived) == n + 1, "the piece to arrive")  # type: ignore[misc]
        assert client.read_response().status == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("reset", [True, False], ids=["rst", "fin"])
@pytest.mark.parametrize("pooled", [True, False])
def test_a_client_that_leaves_cancels_the_upstream_request(
    method: str, reset: bool, pooled: bool, shared_gateway: Callable[..., GatewayProcess], upstream: ProgrammedUpstream
) -> None:
    # No other test uses this one, and each of these leaves it without a connection to the upstream.
    gateway = shared_gateway(plain(upstream.url, UPSTREAM_TIMEOUT="60", UPSTREAM_TOTAL_TIMEOUT="120"))
    ended: list[str] = []

    def wait(peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        ended.append(peer.wait_for_end())

    upstream.on(path := fresh(), wait)
    if pooled:
        assert gateway.get(f"/proxy{fresh()}").status == 200
    client = RawClient(gateway.port)
    body = b"Content-Length: 4\r\n\r\nbody" if method == "POST" else b"\r\n"
    client.send(f"{method} /proxy{path} HTTP/1.1\r\nHost: a\r\nX-Request-ID: left-{path[1:]}\r\n".encode() + body)
    upstream.wait_for(path)
    if reset:
        client.reset()
    else:
        client.close()
    eventually(lambda: bool(ended), "the upstream to see the end")
    assert ended[0] in {"closed", "reset"}
    record = json.loads(gateway.wait_for_line(f"left-{path[1:]}"))
    assert (record["status"], record["reason"]) == (499, "client_closed")
    metrics = gateway.get("/metrics").body.decode()
    errors = [line for line in metrics.splitlines() if line.startswith("downstream_errors_total{")]
    assert [line for line in errors if float(line.rpartition(" ")[2]) and "Cancellation" not in line] == []


def test_a_client_that_leaves_in_the_middle_of_its_upload(
    gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    ended: list[str] = []

    def wait(peer: Peer, seen: Seen) -> None:
        ended.append(peer.wait_for_end())

    upstream.on(path := fresh(), wait)
    with RawClient(gateway.port) as client:
        client.send(f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf".encode())
        upstream.wait_for(path)
    eventually(lambda: bool(ended), "the upstream to see the end")


def test_many_clients_that_leave_do_not_trip_the_circuit(
    start_gateway: Callable[..., GatewayProcess], upstream: ProgrammedUpstream
) -> None:
    gateway = start_gateway(plain(upstream.url, CIRCUIT_BREAKER_FAILURE_THRESHOLD="3"))

    def wait(peer: Peer, seen: Seen) -> None:
        peer.wait_for_end()

    upstream.on(path := fresh(), wait)
    for n in range(10):
        with RawClient(gateway.port) as client:
            client.send(f"GET /proxy{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            upstream.wait_for(path, n + 1)
    assert gateway.get(f"/proxy{fresh()}").status == 200
