"""When the parts of an answer come: a head long before its body, an answer before the end of the request, the end of
a connection before that of the body (golang/go#31125, envoyproxy/envoy#2929, dotnet/yarp#1501)."""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, PeerGone, ProgrammedUpstream, Seen, fresh
from tests.conftest import StartGateway
from tests.support.certificates import Certificate
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.waiting import PATIENCE

SIZE = 3_500_000
TRUSTING = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "3", "RETRY_MAX_ATTEMPTS": "1", "UPSTREAM_VERIFY_SSL": "false"}


@pytest.fixture(scope="module", params=["plain", "TLS 1.2", "TLS 1.3"])
def upstream(request: pytest.FixtureRequest, certificate: Certificate) -> Iterator[ProgrammedUpstream]:
    if request.param == "plain":
        with ProgrammedUpstream() as running:
            yield running
        return
    version = ssl.TLSVersion.TLSv1_2 if request.param == "TLS 1.2" else ssl.TLSVersion.TLSv1_3
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    context.minimum_version = context.maximum_version = version
    with ProgrammedUpstream(wrap=lambda sock: context.wrap_socket(sock, server_side=True)) as running:
        yield running


@pytest.fixture(scope="module")
def tls(request: pytest.FixtureRequest, upstream: ProgrammedUpstream) -> bool:
    return upstream._wrap is not None


@pytest.fixture(scope="module")
def gateway(
    upstream: ProgrammedUpstream, tls: bool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    url = upstream.url.replace("http:", "https:") if tls else upstream.url
    with GatewayProcess(plain(url, **TRUSTING), tmp_path_factory.mktemp("gateway")) as process:
        yield process


def get(path: str, version: str = "1.1") -> bytes:
    return f"GET /proxy{path} HTTP/{version}\r\nHost: a\r\n\r\n".encode()


def head_of(client: RawClient) -> bytes:
    """What has come up to the end of a head, by single bytes so that no more is taken."""
    head = b""
    client.socket.settimeout(PATIENCE)
    while not head.endswith(b"\r\n\r\n"):
        octet = client.socket.recv(1)
        assert octet, head
        head += octet
    return head


def await_bytes(client: RawClient, mark: bytes) -> None:
    """Read until these have come, whether the connection ends after them or not."""
    seen = b""
    client.socket.settimeout(PATIENCE)
    while mark not in seen:
        octets = client.socket.recv(65_536)
        assert octets, seen
        seen += octets


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n", b"6\r\nhello\n\r\n0\r\n\r\n"),
        (b"Content-Type: text/event-stream\r\nConnection: close\r\n", b"hello\n"),
        (b"Content-Length: 6\r\n", b"hello\n"),
    ],
    ids=["chunked", "to the end of the connection", "known length"],
)
def test_a_head_goes_out_before_its_body_comes(
    head: bytes, body: bytes, version: str, gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    may_go_on = threading.Event()

    def answer(peer: Peer, seen: Seen) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        assert may_go_on.wait(PATIENCE)
        peer.send(body)
        # Only where this ends the body: the end of a kept connection could meet the request of the next test.
        if b"close" in head:
            end(peer)

    upstream.on(path := fresh(), answer)
    with RawClient(gateway.port) as client:
        client.send(get(path, version))
        assert head_of(client).startswith(b"HTTP/1.1 200 OK\r\n")
        may_go_on.set()
        await_bytes(client, b"hello\n")


def test_a_refusal_reaches_a_client_that_is_still_uploading(
    gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    may_go_on = threading.Event()

    def answer(peer: Peer, seen: Seen) -> None:
        peer.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 6\r\n\r\n")
        assert may_go_on.wait(PATIENCE)
        peer.send(b"hello\n")

    upstream.on(path := fresh(), answer)
    with RawClient(gateway.port) as client:
        client.send(f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12".encode())
        assert head_of(client).startswith(b"HTTP/1.1 401 ")
        may_go_on.set()


def test_early_hints_go_out_before_the_head(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    may_go_on = threading.Event()

    def answer(peer: Peer, seen: Seen) -> None:
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
        assert may_go_on.wait(PATIENCE)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    upstream.on(path := fresh(), answer)
    with RawClient(gateway.port) as client:
        client.send(get(path))
        assert head_of(client).startswith(b"HTTP/1.1 103 ")
        may_go_on.set()
        assert head_of(client).startswith(b"HTTP/1.1 200 ")


def end(peer: Peer) -> None:
    """End the connection in order; over TLS with a close_notify."""
    if isinstance(peer.socket, ssl.SSLSocket):
        peer.socket.settimeout(5.0)
        with contextlib.suppress(OSError):
            peer.socket = peer.socket.unwrap()
    peer.close()


def leave(peer: Peer) -> None:
    """End the connection; over TLS without a close_notify."""
    peer.close()


def early(answer: bytes, ending: Callable[[Peer], None], after: int = 0) -> Callable[[Peer, Seen], None]:
    """Answer when that many bytes of the body have come, and end the connection without reading the rest."""

    def play(peer: Peer, seen: Seen) -> None:
        peer.exactly(after)
        peer.send(answer)
        ending(peer)

    return play


def upload(gateway: GatewayProcess, path: str, *, chunked: bool) -> tuple[int, bytes]:
    """Status and body of the answer to a large upload; the client reads while it sends."""
    with RawClient(gateway.port) as client:
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {SIZE}"
        piece = b"z" * 50_000

        def send() -> None:
            try:
                client.socket.sendall(f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
                for _ in range(SIZE // len(piece)):
                    client.socket.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            except OSError:
                pass

        sending = threading.Thread(target=send)
        sending.start()
        try:
            response = client.read_response()
            assert response.status != 502, response.body
            return response.status, response.body
        finally:
            with contextlib.suppress(OSError):
                client.socket.shutdown(socket.SHUT_RDWR)
            sending.join(PATIENCE)


LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbig!"
EARLY = {
    "413": (LARGE, 413, b"big!"),
    "413 that keeps alive": (LARGE.replace(b"Connection: close\r\n", b""), 413, b"big!"),
    "413, chunked": (
        b"HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbig!\r\n0\r\n\r\n",
        413,
        b"big!",
    ),
    "200": (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine", 200, b"fine"),
    "302": (b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", 302, b""),
    "413 of a megabyte": (
        b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n" + b"b" * 1_000_000,
        413,
        b"b" * 1_000_000,
    ),
}


@pytest.mark.parametrize("chunked", [False, True], ids=["known length", "chunked"])
@pytest.mark.parametrize("after", [0, 300_000])
@pytest.mark.parametrize("kind", EARLY)
def test_an_answer_to_a_large_upload_outlives_the_connection(
    kind: str, after: int, chunked: bool, gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    answer, status, body = EARLY[kind]
    before = gateway.get("/status/breakers").json()["default"]["failures"]
    for _ in range(4):
        # A kernel that closes with unread bytes drops what it has not sent: so the large answer waits to be taken.
        ending = drained if kind == "413 of a megabyte" else leave
        upstream.on(path := fresh(), early(answer, ending, after))
        answered, got = upload(gateway, path, chunked=chunked)
        assert (answered, len(got)) == (status, len(body))
        assert got == body
    circuit = gateway.get("/status/breakers").json()["default"]
    assert (circuit["state"], circuit["failures"]) == ("closed", before)


@pytest.mark.parametrize("status", [b"302 Found", b"413 Too Large"])
def test_an_early_answer_that_is_cut_off_is_not_held_against_the_upstream(
    status: bytes, gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    """A kernel that closes with unread bytes resets the connection: such an answer comes without its end, every time,
    and whoever uploads too much could open the circuit for everybody."""
    before = gateway.get("/status/breakers").json()["default"]["failures"]
    for _ in range(4):
        upstream.on(path := fresh(), early(b"HTTP/1.1 " + status + b"\r\nContent-Length: 9\r\n\r\nhalf", leave))
        answered, body = upload(gateway, path, chunked=False)
        assert (answered, body) == (int(status[:3]), b"half")
    circuit = gateway.get("/status/breakers").json()["default"]
    assert (circuit["state"], circuit["failures"]) == ("closed", before)


def test_the_rest_of_an_upload_that_was_redirected_goes_nowhere(
    gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    answered, came = threading.Event(), []

    def answer(peer: Peer, seen: Seen) -> None:
        peer.send(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /there\r\nContent-Length: 6\r\n\r\n")
        assert answered.wait(PATIENCE)
        peer.socket.settimeout(1.0)
        try:
            came.append(peer.receive())
        except PeerGone:
            came.append(b"")
        peer.send(b"there\n")

    upstream.on(path := fresh(), answer)
    with RawClient(gateway.port) as client:
        client.send(f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n".encode())
        assert head_of(client).startswith(b"HTTP/1.1 307 ")
        client.send(b"12345")
        answered.set()
        assert client.socket.recv(100) == b"there\n"
    assert came == [b""]


def test_a_connection_with_an_upload_that_nobody_took_is_not_used_again(
    upstream: ProgrammedUpstream, gateway: GatewayProcess
) -> None:
    """The answer came early, the request lies in the kernels' buffers to its end: the next one would wait behind it."""
    size = 1_500_000
    numbers, over = [], threading.Event()

    def answer(peer: Peer, seen: Seen) -> None:
        numbers.append(peer.number)
        if seen.head.startswith(b"POST"):
            sent.wait(PATIENCE)
            peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nbig!")
            over.wait(PATIENCE)
            peer.close()
        else:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")

    sent = threading.Event()
    upstream.on(path := fresh(), answer, answer)
    try:
        with RawClient(gateway.port) as client:
            client.send(
                f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode() + b"z" * size
            )
            sent.set()
            assert client.read_response().status == 413
        with RawClient(gateway.port) as client:
            assert client.request(get(path)).body == b"fine"
        assert numbers[0] != numbers[1]
    finally:
        over.set()


@pytest.mark.parametrize("late", [False, True], ids=["reads slowly", "reads when all is sent"])
def test_an_early_answer_is_taken_to_its_end_however_much_comes_meanwhile(
    late: bool, gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    """The gateway throws away what comes after its answer, up to a bound, and does not give up its answer for that."""
    head = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n"
    upstream.on(path := fresh(), early(head + b"b" * 1_000_000, drained))
    with RawClient(gateway.port, receive_buffer=65_536) as client:
        client.send(f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n".encode())
        sent = threading.Event()

        def send() -> None:
            with contextlib.suppress(OSError):
                for _ in range(300):
                    client.socket.sendall(b"z" * 100_000)
            sent.set()

        sending = threading.Thread(target=send)
        sending.start()
        try:
            if late:
                assert sent.wait(PATIENCE)
            taken = bytearray()
            while len(taken) < 1_000_000:
                octets = client.socket.recv(32_768)
                assert octets, len(taken)
                taken += octets
                if not sent.is_set():
                    sent.wait(0.01)
            assert taken.startswith(b"HTTP/1.1 413 ")
        finally:
            with contextlib.suppress(OSError):
                client.socket.shutdown(socket.SHUT_RDWR)
            sending.join(PATIENCE)


def drained(peer: Peer) -> None:
    """Read what still comes, for a while."""
    peer.wait_for_end()


def answer_and_half_close(peer: Peer, seen: Seen) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
    peer.finish_sending()
    peer.wait_for_end()


def test_an_upstream_that_half_closes_after_its_answer(start_gateway: StartGateway) -> None:
    with ProgrammedUpstream() as upstream:
        gateway = start_gateway(plain(upstream.url, **TRUSTING))
        upstream.on(path := fresh(), answer_and_half_close)
        with RawClient(gateway.port) as client:
            response = client.send(
                f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n1".encode()
            ).read_response()
            assert (response.status, response.body, response.complete) == (200, b"hello", True)


@pytest.mark.parametrize("orderly", [True, False])
def test_only_an_orderly_end_completes_a_body_without_length(
    orderly: bool, tls: bool, gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    """RFC 9112 section 8: over TLS, a close without close_notify leaves such a body incomplete."""
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"
    upstream.on(path := fresh(), early(answer, end if orderly else leave))
    with RawClient(gateway.port) as client:
        response = client.request(get(path))
        assert (response.status, response.body) == (200, b"hello")
        assert response.complete == (orderly or not tls)
    if not response.complete:
        record = json.loads(gateway.wait_for_line(f'"{response.get("X-Request-ID")}"'))
        assert record["reason"] == "upstream_truncated"


def test_a_slow_reader_gets_the_end_of_an_answer_whose_upstream_has_closed(
    gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    """What had come while the client did not take it is not dropped with the upstream's connection."""
    size = 20_000_000
    done = threading.Event()

    def answer(peer: Peer, seen: Seen) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"y" * size)
        end(peer)
        done.set()

    upstream.on(path := fresh(), answer)
    with RawClient(gateway.port) as client:
        client.send(get(path))
        head_of(client)
        total = 0
        while total < size:
            if not done.wait(0.01):
                pass
            taken = client.socket.recv(400_000)
            assert taken, total
            total += len(taken)
        assert total == size
