"""Answers of the upstream: how they are framed for clients of both versions, and what is made of nonsense."""

import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conformance.wire.conftest import PLAIN
from tests.conformance.wire.upstream import Answer, Peer, ProgrammedUpstream, Seen, framed, fresh, ok
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.waiting import PATIENCE, eventually

HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def hasty(upstream: ProgrammedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that does not wait long for an upstream."""
    variables = {**PLAIN, "UPSTREAM_URL": upstream.url, "UPSTREAM_TIMEOUT": "1.5", "UPSTREAM_IDLE_TIMEOUT": "1.5"}
    with GatewayProcess(variables, tmp_path_factory.mktemp("gateway")) as process:
        yield process


def get(client: RawClient, path: str, minor: int = 1, method: str = "GET") -> None:
    client.send(f"{method} /proxy{path} HTTP/1.{minor}\r\nHost: a\r\n\r\n".encode())


def still_alive(client: RawClient) -> bool:
    return client.request(b"GET /proxy/alive HTTP/1.1\r\nHost: a\r\n\r\n").status == 200


@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize(
    "answer",
    [
        ok(b"hello"),
        ok(b""),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-T: 1\r\nContent-Length: 9\r\n\r\n",
        framed(HEAD + b"\r\n", b"he", b"llo", delay=0.01),
        framed(b"HTTP/1.0 200 OK\r\n\r\nhello"),
        framed(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        framed(HEAD + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello"),
    ],
    ids=["length", "empty", "chunked", "close-delimited", "1.0", "1.0 length", "close with length"],
)
def test_a_good_answer(minor: int, answer: Answer, client: RawClient, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), answer)
    get(client, path, minor)
    response = client.read_response()
    assert (response.status, response.ending) == (200, "complete")
    assert response.body == (b"" if response.get("Content-Length") == "0" else b"hello")
    assert response.trailers == []
    if minor:
        assert still_alive(client)
    else:
        assert response.get("Transfer-Encoding") is None
        assert client.fate() == "closed"


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("line", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_statuses_without_a_body(status: int, line: bytes, client: RawClient, upstream: ProgrammedUpstream) -> None:
    """RFC 9110 section 8.6: a 204 carries no Content-Length, whatever the upstream says."""
    upstream.on(path := fresh(), b"HTTP/1.1 %d X\r\n%b\r\n" % (status, line))
    get(client, path)
    response = client.read_response()
    assert (response.status, response.body) == (status, b"")
    assert still_alive(client)
    assert client.unread == b""


@pytest.mark.parametrize("line", [b"Content-Length: 500\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_head(line: bytes, client: RawClient, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), HEAD + line + b"X-A: b\r\n\r\n")
    get(client, path, method="HEAD")
    response = client.read_response("HEAD")
    assert (response.status, response.body, response.get("X-A")) == (200, b"", "b")
    if b"Length" in line:
        assert response.get("Content-Length") == "500"
    assert still_alive(client)


def test_head_of_a_refusal_has_no_body(client: RawClient) -> None:
    client.send(b"HEAD /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.read_response("HEAD").status == 404
    assert still_alive(client)


def test_interim_answers_are_forwarded(client: RawClient, upstream: ProgrammedUpstream) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nConnection: x\r\nX: y\r\n\r\n"
    upstream.on(path := fresh(), b"HTTP/1.1 100 Continue\r\n\r\n" + early + early + ok(b"hello"))
    get(client, path)
    response = client.read_response()
    assert response.body == b"hello"
    assert [interim.status for interim in response.interim] == [103, 103]
    assert response.interim[0].headers == [("Link", "</a>; rel=preload")]
    assert still_alive(client)


def test_interim_answers_are_not_for_http_10(client: RawClient, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), b"HTTP/1.1 103 Early Hints\r\n\r\n" + ok(b"hello"))
    get(client, path, 0)
    response = client.read_response()
    assert (response.interim, response.body) == ([], b"hello")


def test_an_interim_answer_arrives_before_the_final_one_is_there(
    client: RawClient, upstream: ProgrammedUpstream
) -> None:
    has_come = threading.Event()

    def early(peer: Peer, seen: Seen) -> None:
        peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        assert has_come.wait(PATIENCE)
        peer.send(ok(b"hello"))

    upstream.on(path := fresh(), early)
    get(client, path)
    client.socket.settimeout(PATIENCE / 2)
    assert client.socket.recv(1000).startswith(b"HTTP/1.1 103")
    has_come.set()
    assert client.read_response().status == 200


NONSENSE: dict[str, bytes] = {
    "binary": b"\x16\x03\x01\x00\xff\r\n\r\n",
    "http/2 frames": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\n\r\n",
    "version 3.7": b"HTTP/3.7 200 OK\r\nContent-Length: 0\r\n\r\n",
    "version 2": b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "space first": b" HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no colon": HEAD + b"nonsense\r\nContent-Length: 0\r\n\r\n",
    "space before the colon": HEAD + b"Content-Length : 0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "negative length": HEAD + b"Content-Length: -2\r\n\r\n",
    "length and coding": HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "gzip coding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "obs-fold": HEAD + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "lf alone": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "cr in a value": HEAD + b"X: a\rSet-Cookie: evil=1\r\nContent-Length: 0\r\n\r\n",
    "nul in a value": HEAD + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "300 fields": HEAD + b"X: y\r\n" * 300 + b"Content-Length: 0\r\n\r\n",
    "head of 100,000 bytes": HEAD + b"X: " + b"y" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "unwanted 101": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "head cut off": HEAD + b"X: y\r\nConte",
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_502(nonsense: bytes, client: RawClient, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), framed(nonsense, close=True))
    get(client, path)
    response = client.read_response()
    assert response.status == 502
    assert json.loads(response.body)["reason"] in {"upstream_protocol_error", "upstream_unreachable"}
    assert b"evil" not in response.body
    assert response.get("Proxy-Status") is not None
    assert still_alive(client)


@pytest.mark.parametrize("silent", [True, False], ids=["nothing", "half a head"])
def test_silence_is_504(silent: bool, hasty: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    def say_little(peer: Peer, seen: Seen) -> None:
        if not silent:
            peer.send(b"HTTP/1.1 200 O")
        peer.wait_for_end()

    upstream.on(path := fresh(), say_little)
    with RawClient(hasty.port) as client:
        started = time.monotonic()
        get(client, path)
        response = client.read_response()
        assert response.status == 504
        assert json.loads(response.body)["reason"] == "upstream_timeout"
        assert 1.2 < time.monotonic() - started < 15.0
        assert still_alive(client)


@pytest.mark.parametrize("reset", [True, False], ids=["rst", "fin"])
def test_no_answer_is_502(reset: bool, client: RawClient, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), framed(reset=reset))
    get(client, path)
    response = client.read_response()
    assert response.status == 502
    assert json.loads(response.body)["reason"] == "upstream_unreachable"


def then_silence(octets: bytes) -> Answer:
    def answer(peer: Peer, seen: Seen) -> None:
        peer.send(octets)
        peer.wait_for_end()

    return answer


TRUNCATED: dict[str, Answer] = {
    "length, fin": framed(HEAD + b"Content-Length: 100\r\n\r\nhello"),
    "length, rst": framed(HEAD + b"Content-Length: 100\r\n\r\nhello", reset=True),
    "chunked, fin": framed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    "chunked, fin before the last crlf": framed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"),
    "chunked, rst": framed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", reset=True),
    "chunked, malformed": framed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"zz\r\n", delay=0.05),
    "close-delimited, rst": framed(HEAD + b"\r\nhello", reset=True),
}
SILENT: dict[str, Answer] = {
    "length": then_silence(HEAD + b"Content-Length: 100\r\n\r\nhello"),
    "no length": then_silence(HEAD + b"\r\nhello"),
}


@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize("answer", TRUNCATED.values(), ids=TRUNCATED.keys())
def test_truncation_is_visible(minor: int, answer: Answer, client: RawClient, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), answer)
    get(client, path, minor)
    response = client.read_response()
    assert response.status == 200
    assert response.ending in {"closed", "reset"}, "the body looks complete"
    assert not response.complete


@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize("answer", SILENT.values(), ids=SILENT.keys())
def test_silence_within_a_body_is_a_truncation(
    minor: int, answer: Answer, hasty: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    with RawClient(hasty.port) as client:
        test_truncation_is_visible(minor, answer, client, upstream)


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"hello") + b"surplus",
        ok(b"hello") + ok(b"poison"),
        b"HTTP/1.1 204 No\r\n\r\nsurplus",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nsurplus",
        b"HTTP/1.1 304 X\r\nContent-Length: 6\r\n\r\npoison",
    ],
)
def test_bytes_after_an_answer_poison_the_connection(
    answer: bytes, client: RawClient, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), answer)
    get(client, path)
    response = client.read_response()
    assert response.status in {200, 204, 304}
    assert b"poison" not in response.body
    number = upstream.only(path).connection
    get(client, after := fresh())
    assert client.read_response().body == b"ok\n"
    assert upstream.only(after).connection != number


def test_an_answer_that_comes_late_on_an_idle_connection_is_nobodys(
    client: RawClient, upstream: ProgrammedUpstream
) -> None:
    def late(peer: Peer, seen: Seen) -> None:
        peer.send(ok(b"hello"))
        time.sleep(0.1)
        peer.send(ok(b"poison"))

    upstream.on(path := fresh(), late)
    get(client, path)
    assert client.read_response().body == b"hello"
    number = upstream.only(path).connection
    eventually(lambda: number in upstream.endings, "the gateway has ended that connection")
    get(client, after := fresh())
    assert client.read_response().body == b"ok\n"
    assert upstream.only(after).connection != upstream.only(path).connection


def test_a_good_connection_is_used_again(client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    for _ in range(3):
        get(client, path)
        assert client.read_response().status == 200
    assert len({seen.connection for seen in upstream.requests(path)}) == 1


@pytest.mark.parametrize("status", [200, 413])
@pytest.mark.parametrize("body", [1000, 50_000_000], ids=["little left", "much left"])
def test_an_answer_before_the_end_of_the_request(
    status: int, body: int, client: RawClient, upstream: ProgrammedUpstream
) -> None:
    """It is passed on, the body stops, and neither connection is taken for what it is not."""

    def early(peer: Peer, seen: Seen) -> None:
        peer.send(ok(b"enough", status=status))
        peer.wait_for_end()

    upstream.on(path := fresh(), early)
    client.send(b"POST /proxy%b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (path.encode(), body))
    client.send(b"x" * 500)
    response = client.read_response()
    assert (response.status, response.body) == (status, b"enough")
    if body == 1000 and response.get("Connection") != "close":
        client.send(b"y" * 500)
        get(client, after := fresh())
        assert client.read_response().body == b"ok\n"
        assert upstream.only(after).connection != upstream.only(path).connection
    else:
        assert response.get("Connection") == "close"
        assert client.fate() == "closed"


def test_an_early_answer_and_a_close_while_the_client_uploads(
    connect: Callable[[], RawClient], upstream: ProgrammedUpstream
) -> None:
    def early(peer: Peer, seen: Seen) -> None:
        peer.send(ok(b"enough", b"Connection: close", status=413))
        peer.finish_sending()
        peer.wait_for_end()

    upstream.on(path := fresh(), early)
    client = connect()
    client.send(b"POST /proxy%b HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" % path.encode())
    try:
        client.send(b"x" * 3_000_000)
    except OSError:
        pytest.fail("the upload was cut off instead of being taken and thrown away")
    assert client.read_response().status == 413


def test_an_answer_byte_by_byte(client: RawClient, upstream: ProgrammedUpstream) -> None:
    raw = (
        b"HTTP/1.1 103 E\r\nA: b\r\n\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n"
    )
    pieces = [raw[at : at + 1] for at in range(len(raw))]
    upstream.on(path := fresh(), framed(*pieces, close=False, delay=0.0005))
    get(client, path)
    response = client.read_response()
    assert (response.status, response.body, len(response.interim)) == (200, b"hello", 1)


def test_an_answer_that_nobody_finishes_reading_does_not_hold_a_connection_for_ever(
    client: RawClient, upstream: ProgrammedUpstream
) -> None:
    """The client leaves in the middle of the answer: the upstream sees the end of its connection."""
    ended: list[str] = []

    def endless(peer: Peer, seen: Seen) -> None:
        peer.send(HEAD + b"Content-Length: 1000000\r\n\r\nhello")
        ended.append(peer.wait_for_end())

    upstream.on(path := fresh(), endless)
    get(client, path)
    assert client.socket.recv(100)
    client.close()
    eventually(lambda: bool(ended), "the upstream sees the end")
    assert ended[0] in {"closed", "reset"}
