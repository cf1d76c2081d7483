"""A connection to an upstream, without a socket: bytes in, bytes out, and what its sink and its pool are told."""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from gateway.wire.client.connection import ConnectionOwner, UpstreamConnection
from gateway.wire.client.lifetime import Closed
from gateway.wire.client.response_sink import Loss, ResponseSink
from gateway.wire.message.response import Response
from tests.support.certificates import make_certificate
from tests.support.fake_transport import FakeTransport
from tests.support.raw_http import LINGER_ZERO
from tests.support.waiting import PATIENCE

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


class Sink(ResponseSink):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def informational(self, response: Response) -> None:
        self.told.append(("informational", response.status))

    def response_head(self, response: Response) -> None:
        self.told.append(repr(response))

    def response_body(self, data: bytes) -> None:
        self.told.append(data)

    def response_pause(self) -> None:
        self.told.append("pause")

    def response_end(self) -> None:
        self.told.append("end")

    def response_whole(self, response: Response, body: bytes) -> None:
        self.told.append((repr(response), body))

    def switched(self, response: Response, early: bytes) -> None:
        self.told.append(("switched", early))

    def upstream_lost(self, loss: Loss, detail: str) -> None:
        self.told.append((loss, detail))

    def request_blocked(self) -> None:
        self.told.append("blocked")

    def request_ready(self) -> None:
        self.told.append("ready")


class Pool(ConnectionOwner):
    """Writes down what its connections tell it."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def release(self, connection: UpstreamConnection) -> None:
        self.told.append("released")

    def forget(self, connection: UpstreamConnection) -> None:
        self.told.append("forgotten")

    def retired(self, cause: Closed) -> None:
        self.told.append(cause)


class Scene:
    """One connection, its pool, its transport and a sink."""

    def __init__(self, transport: FakeTransport) -> None:
        self.transport = transport
        self.pool = Pool()
        self.sink = Sink()
        self.connection = UpstreamConnection(self.pool, "192.0.2.7")
        self.connection.connection_made(transport)

    def ask(self, *, to_head: bool = False, more: bool = False) -> None:
        """Send a request."""
        self.connection.send(self.sink, GET, to_head=to_head, more=more)

    def answer(self, *pieces: bytes) -> list[object]:
        """Let bytes arrive; what the sink was told meanwhile."""
        self.sink.told.clear()
        for piece in pieces:
            self.connection.data_received(piece)
        return self.sink.told


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    with FakeTransport() as transport:
        yield Scene(transport)


async def test_a_response_in_one_piece_frees_the_connection_first(scene: Scene) -> None:
    scene.ask()
    assert scene.transport.sent() == GET
    assert repr(scene.connection) == "<UpstreamConnection 192.0.2.7 busy uses=1>"
    assert scene.answer(OK + b"ok") == [("<Response 200 length>", b"ok")]
    assert scene.pool.told == ["released"]
    assert repr(scene.connection) == "<UpstreamConnection 192.0.2.7 idle uses=1>"


async def test_the_same_head_again_is_the_same_response(scene: Scene) -> None:
    for body in (b"ok", b"no", b""):
        scene.ask()
        head = OK if body else b"HTTP/1.1 204 No Content\r\n\r\n"
        told = scene.answer(head + body)
        assert told == [(f"<Response {200 if body else 204} {'length' if body else 'none'}>", body)]
    assert scene.connection.reused
    assert repr(scene.connection) == "<UpstreamConnection 192.0.2.7 idle uses=3>"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ((OK, b"o", b"k"), ["<Response 200 length>", "pause", b"o", "pause", b"k", "end"]),
        ((OK[:9], OK[9:] + b"ok"), [("<Response 200 length>", b"ok")]),
        ((OK + b"o", b"k"), ["<Response 200 length>", b"o", "pause", b"k", "end"]),
        ((CHUNKED + b"2\r\nok\r\n", b"0\r\n\r\n"), ["<Response 200 chunked>", b"ok", "pause", "end"]),
        (
            (b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK, b"ok"),
            [("informational", 103), "<Response 200 length>", "pause", b"ok", "end"],
        ),
        ((b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\nearly",), [("switched", b"early")]),
    ],
)
async def test_what_a_sink_is_told(scene: Scene, pieces: tuple[bytes, ...], told: list[object]) -> None:
    scene.ask()
    assert scene.answer(*pieces) == told


async def test_a_body_that_lasts_until_the_end_needs_an_orderly_one(scene: Scene) -> None:
    scene.ask()
    assert scene.answer(b"HTTP/1.1 200 OK\r\n\r\nall") == ["<Response 200 close>", b"all", "pause"]
    scene.connection.eof_received()
    assert scene.sink.told[-1] == "end"
    assert scene.pool.told == ["forgotten"]
    assert repr(scene.connection) == "<UpstreamConnection 192.0.2.7 closed uses=1>"


@pytest.mark.parametrize(
    ("received", "loss"),
    [
        (b"", Loss.RESET),
        (b"HTTP/1.1 20", Loss.PROTOCOL),
        (OK + b"o", Loss.TRUNCATED),
        (b"HTTP/1.1 200 OK\r\n\r\npart", Loss.TRUNCATED),
    ],
)
async def test_a_connection_that_breaks_is_lost_once(scene: Scene, received: bytes, loss: Loss) -> None:
    scene.ask()
    if received:
        scene.connection.data_received(received)
    scene.connection.connection_lost(ConnectionResetError(errno.ECONNRESET, "reset"))
    scene.connection.connection_lost(None)
    losses = [each for each in scene.sink.told if isinstance(each, tuple)]
    assert [each[0] for each in losses] == [loss]
    assert scene.pool.told == ["forgotten"]


@pytest.mark.parametrize(
    "octets",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 99 No\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + bytes(70_000),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 17,
    ],
)
async def test_what_is_not_a_response_is_never_passed_on(scene: Scene, octets: bytes) -> None:
    scene.ask()
    told = scene.answer(octets)
    assert [each[0] for each in told if isinstance(each, tuple) and each[0] != "informational"] == [Loss.PROTOCOL]
    assert scene.transport.calls == ["abort"]


async def test_a_malformed_chunk_truncates(scene: Scene) -> None:
    scene.ask()
    told = scene.answer(CHUNKED + b"2\r\nok\r\n", b"nonsense\r\n")
    assert told[:3] == ["<Response 200 chunked>", b"ok", "pause"]
    assert cast(tuple[Loss, str], told[3])[0] is Loss.TRUNCATED


async def test_bytes_that_nobody_asked_for_close_the_connection(scene: Scene) -> None:
    scene.connection.data_received(OK)
    assert scene.pool.told == [Closed.UNASKED, "forgotten"]
    assert scene.transport.calls == ["close"]


@pytest.mark.parametrize("rest", [b"HTTP/1.1 200 OK\r\n", b""])
async def test_a_connection_out_of_step_is_not_used_again(scene: Scene, rest: bytes) -> None:
    """The response left bytes over, or the request is not complete: where the next response begins is not known."""
    scene.ask(more=not rest)
    scene.answer(OK, b"ok" + rest)
    assert scene.sink.told[-1] == "end"
    assert scene.pool.told == ["forgotten"]


async def test_the_answer_to_a_head_has_no_body_and_is_not_kept(scene: Scene) -> None:
    scene.ask(to_head=True)
    assert scene.answer(OK) == [("<Response 200 none>", b"")]
    scene.ask()
    assert scene.answer(OK, b"ok") == ["<Response 200 length>", "pause", b"ok", "end"]


async def test_an_unwanted_answer_is_read_to_its_end_if_it_is_short(scene: Scene) -> None:
    scene.ask()
    scene.answer(b"HTTP/1.1 503 No\r\nContent-Length: 70000\r\n\r\n")
    scene.connection.discard()
    assert scene.answer(bytes(60_000)) == []
    assert scene.pool.told == []
    scene.connection.data_received(bytes(10_000))
    assert (scene.pool.told, scene.transport.calls) == (["forgotten"], ["abort"])
    again = Scene(scene.transport)
    again.ask()
    again.answer(b"HTTP/1.1 503 No\r\nContent-Length: 60000\r\n\r\n")
    again.connection.discard()
    assert again.answer(bytes(60_000)) == []
    assert again.pool.told == ["released"]


@pytest.mark.parametrize(
    ("size", "status", "kept"),
    [(65_536, 401, True), (65_537, 401, False), (65_537, 302, False), (1_000_000, 200, True)],
)
async def test_who_refuses_a_large_upload_may_not_have_read_it(
    size: int, status: int, kept: bool, scene: Scene
) -> None:
    """The kernels have taken all of it, and the next request would wait behind it."""
    scene.ask(more=True)
    scene.connection.write(bytes(size))
    scene.connection.end_request()
    scene.transport.sent()
    scene.answer(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
    assert scene.pool.told == (["released"] if kept else ["forgotten"])


async def test_what_the_upstream_announces_bounds_the_use(scene: Scene) -> None:
    now = asyncio.get_running_loop().time()
    scene.ask()
    scene.answer(b"HTTP/1.1 204 No\r\nKeep-Alive: timeout=5, max=3\r\n\r\n")
    assert scene.connection.max_uses == 3
    assert scene.connection.usable_until is not None
    assert now + 3.0 < scene.connection.usable_until < now + 60.0


async def test_an_idle_connection_is_looked_at_before_its_use(scene: Scene) -> None:
    assert scene.connection.fault() is None
    scene.connection.usable_until = 0.0
    assert scene.connection.fault() is Closed.IDLE
    scene.connection.usable_until = None
    scene.transport.socket.arrive(b"x")
    assert scene.connection.fault() is Closed.UNASKED
    with FakeTransport() as transport:
        other = Scene(transport)
        transport.socket.end()
        assert other.connection.fault() is Closed.UPSTREAM


async def test_a_reset_over_tls_is_seen_before_the_connection_is_told(tmp_path: Path) -> None:
    """uvloop has no socket for a TLS transport from one turn of the loop before it calls `connection_lost`."""
    certificate = make_certificate(tmp_path)
    serves = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serves.load_cert_chain(certificate.cert, certificate.key)
    peers: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: peers.put_nowait(writer), "127.0.0.1", 0, ssl=serves)
    trusts = ssl.create_default_context(cafile=certificate.cert)
    pool = Pool()
    async with server, asyncio.timeout(PATIENCE):
        transport, connection = await asyncio.get_running_loop().create_connection(
            lambda: UpstreamConnection(pool, "127.0.0.1"),
            *server.sockets[0].getsockname(),
            ssl=trusts,
            server_hostname="localhost",
        )
        peer = await peers.get()
        peer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        peer.transport.abort()
        while transport.get_extra_info("socket") is not None:
            assert pool.told == []
            await asyncio.sleep(0)
        assert connection.fault() is Closed.UPSTREAM
        while not connection.closed:
            await asyncio.sleep(0)


async def test_backpressure_goes_both_ways(scene: Scene) -> None:
    scene.ask(more=True)
    scene.connection.pause_writing()
    scene.connection.resume_writing()
    assert scene.sink.told == ["blocked", "ready"]
    scene.connection.pause_reading()
    scene.connection.resume_reading()
    assert scene.transport.calls == ["pause_reading", "resume_reading"]
    scene.connection.write(b"body")
    scene.connection.end_request()
    assert scene.transport.sent() == GET + b"body"
    assert scene.answer(OK + b"ok") == [("<Response 200 length>", b"ok")]
    assert scene.pool.told == ["released"]
