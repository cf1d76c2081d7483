"""The stub through real sockets: what it promises to send, byte for byte, and how it ends connections."""

import base64
import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support import plain_http
from tests.support.ports import is_listening
from tests.support.processes import ChildProcess, clean_environment
from tests.support.raw_http import RawClient
from tests.support.raw_response import NoResponse, ProtocolViolation, RawResponse
from tests.support.stub_process import StubProcess

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def ask(stub: StubProcess, target: str, method: str = "GET", body: bytes = b"") -> RawResponse:
    head = f"{method} {target} HTTP/1.1\r\nHost: stub\r\nContent-Length: {len(body)}\r\n\r\n"
    with RawClient(stub.port) as client:
        return client.request(head.encode() + body, method)


def ask_json(stub: StubProcess, target: str, method: str = "GET", body: bytes | None = None) -> dict[str, object]:
    answer: dict[str, object] = plain_http.request(stub.port, target, method=method, body=body).json()
    return answer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/ok", 200),
        ("/fail", 500),
        ("/health", 200),
        ("/slow?seconds=0", 200),
        ("/status/204", 204),
        ("/status/304", 304),
        ("/status/418", 418),
        ("/status/599", 599),
        ("/bytes/3", 200),
        ("/stream?chunks=2&bytes=3", 200),
        ("/sse?events=1", 200),
        ("/flaky?rate=0", 200),
        ("/flaky?rate=1", 500),
        ("/flaky?rate=1&status=503", 503),
        ("/nowhere", 404),
    ],
)
def test_answers_every_method_and_keeps_the_connection(
    stub: StubProcess, method: str, target: str, status: int
) -> None:
    request = f"{method} {target} HTTP/1.1\r\nHost: stub\r\nContent-Length: 2\r\n\r\nhi".encode()
    with RawClient(stub.port) as client:
        for _ in range(2):
            response = client.request(request, method)
            assert (response.status, response.ending) == (status, "complete")
        assert client.unread == b""


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/slow?seconds=soon", "seconds must be a number from 0 to 3600, not 'soon'"),
        ("/slow?seconds=-1", "seconds must be a number from 0 to 3600, not '-1'"),
        ("/slow?seconds=nan", "seconds must be a number from 0 to 3600, not 'nan'"),
        ("/flaky?rate=2", "rate must be a number from 0 to 1, not '2'"),
        ("/status/99", "the status must be a whole number from 200 to 599, not '99'"),
        ("/bytes/many", "the number of bytes must be a whole number from 0 to 1099511627776, not 'many'"),
        ("/stream?bytes=0", "bytes must be a whole number from 1 to 262144, not '0'"),
        ("/fault/close-body?framing=magic", "framing must be one of length, chunked, not 'magic'"),
        ("/fault/informational?codes=101", "codes must be at most 100 of 100, 102, 103, 110, with commas between them"),
    ],
)
def test_says_what_is_wrong_with_a_parameter(stub: StubProcess, target: str, message: str) -> None:
    answer = plain_http.request(stub.port, target)
    assert answer.status == 400
    assert answer.json() == {"error": message}


def test_slow_waits_for_two_seconds_by_default(stub: StubProcess) -> None:
    started = time.monotonic()
    assert ask(stub, "/slow").status == 200
    assert 2.0 <= time.monotonic() - started < 20.0


def test_status_carries_retry_after(stub: StubProcess) -> None:
    assert ask(stub, "/status/503?retry_after=7").get("Retry-After") == "7"


@pytest.mark.parametrize(
    "target",
    [
        "/echo?x=%2F..%2f&y=1+2",
        "/echo/../a/./b//c%2e%2E?",
        "/echo/%00%ff%zz?;=&&",
        '/echo?q="<>\\^`{|}',
        "http://elsewhere:99/echo?absolute=form",
    ],
)
def test_echo_shows_the_target_byte_for_byte(stub: StubProcess, target: str) -> None:
    with RawClient(stub.port) as client:
        response = client.request(b"GET " + target.encode("iso-8859-1") + b" HTTP/1.1\r\nHost: stub\r\n\r\n")
    assert response.status == 200
    assert json.loads(response.body)["target"] == target


def test_echo_shows_headers_in_order_and_case(stub: StubProcess) -> None:
    lines = [
        ["hOsT", "stub"],
        ["X-b", "1"],
        ["x-A", "two  words"],
        ["X-B", "2"],
        ["X-Empty", ""],
        ["X-High", "\xe9\xff"],
    ]
    head = "".join(f"{name}: {value}\r\n" for name, value in lines).encode("iso-8859-1")
    with RawClient(stub.port) as client:
        response = client.request(b"PATCH /echo HTTP/1.0\r\n" + head + b"\r\n")
    shown = json.loads(response.body)
    assert shown["headers"] == lines
    assert (shown["method"], shown["http_version"]) == ("PATCH", "1.0")


@pytest.mark.parametrize("chunked", [False, True])
def test_echo_digests_the_body_as_sent(stub: StubProcess, chunked: bool) -> None:
    body = os.urandom(300_000)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    payload = b"%x;ext=1\r\n%b\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(body), body) if chunked else body
    with RawClient(stub.port) as client:
        head = b"POST /echo HTTP/1.1\r\nHost: stub\r\nContent-Encoding: gzip\r\n" + framing + b"\r\n\r\n"
        response = client.request(head + payload)
    shown = json.loads(response.body)
    assert shown["body_length"] == len(body)
    assert shown["body_sha256"] == hashlib.sha256(body).hexdigest()


def test_echo_asks_for_an_expected_body(stub: StubProcess) -> None:
    with RawClient(stub.port) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: stub\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        while not client.unread:
            client.fate(0.01)
        response = client.send(b"hi").read_response()
    assert [interim.status for interim in response.interim] == [100]
    assert json.loads(response.body)["body_length"] == 2


def test_bytes_are_deterministic(stub: StubProcess) -> None:
    response = ask(stub, "/bytes/300001")
    assert response.framing == "length"
    assert response.body == (bytes(range(256)) * 1172)[:300_001]


def test_a_large_body_costs_flat_memory_behind_a_slow_reader(stub: StubProcess) -> None:
    before = stub.memory_bytes()
    with RawClient(stub.port) as client:
        client.send(b"GET /bytes/1000000000 HTTP/1.1\r\nHost: stub\r\n\r\n")
        time.sleep(0.3)
        received = 0
        while received < 1_000_000_000:
            received += len(client.socket.recv(1 << 20))
    assert stub.memory_bytes() - before < 8 << 20


def test_stream_is_chunked(stub: StubProcess) -> None:
    response = ask(stub, "/stream?chunks=3&bytes=1000&delay=0.01")
    assert (response.framing, len(response.body)) == ("chunked", 3000)


def test_events_are_numbered(stub: StubProcess) -> None:
    response = ask(stub, "/sse?events=2&delay=0.01")
    assert response.get("Content-Type") == "text/event-stream"
    assert response.body.split(b"\n\n") == [
        b'id: 0\nevent: tick\ndata: {"tick": 0}',
        b'id: 1\nevent: tick\ndata: {"tick": 1}',
        b"",
    ]


def upgrade(client: RawClient, target: str = "/ws") -> RawResponse:
    key = base64.b64encode(b"0123456789abcdef").decode()
    return client.request(
        f"GET {target} HTTP/1.1\r\nHost: stub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: chat, other\r\n\r\n".encode()
    )


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame with the mask 0, which leaves the payload readable (RFC 6455 section 5.2)."""
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


def test_websocket_echoes_text_and_binary_and_closes(stub: StubProcess) -> None:
    with RawClient(stub.port) as client:
        response = upgrade(client)
        assert (response.status, response.get("Sec-WebSocket-Protocol")) == (101, "chat")
        client.send(frame(1, b"hello") + frame(2, b"\x00\xff") + frame(8, b"\x03\xe8"))
        rest, ending = client.read_rest()
    assert rest == b"\x81\x05hello" + b"\x82\x02\x00\xff" + b"\x88\x02\x03\xe8"
    assert ending == "closed"


def test_websocket_can_be_dropped_without_a_handshake(stub: StubProcess) -> None:
    with RawClient(stub.port) as client:
        upgrade(client, "/ws?ending=drop")
        rest, ending = client.send(frame(1, b"hello")).read_rest()
    assert rest == b""
    assert ending in {"closed", "reset"}


def test_stats_count_what_arrives_at_the_same_time(stub: StubProcess) -> None:
    clients = [RawClient(stub.port) for _ in range(3)]
    for client in clients:
        client.send(b"GET /slow?seconds=0.3 HTTP/1.1\r\nHost: stub\r\n\r\n")
    stub.wait_until(lambda: stub.stats()["in_flight"] == 3, "serving three requests")
    for client in clients:
        client.read_response()
        client.close()
    stats = stub.stats()
    assert stats["requests"] == {"/slow": 3}
    assert (stats["in_flight"], stats["max_in_flight"], stats["max_in_flight_by_path"]) == (0, 3, {"/slow": 3})
    assert stats["connections"] >= 3
    stub.reset_stats()
    assert stub.requests("/slow") == 0
    assert stub.stats()["total"] == 0


def test_a_client_that_leaves_is_no_longer_in_flight(stub: StubProcess) -> None:
    with RawClient(stub.port) as client:
        client.send(b"GET /slow?seconds=60 HTTP/1.1\r\nHost: stub\r\n\r\n")
        stub.wait_until(lambda: stub.stats()["in_flight"] == 1, "serving")
    stub.wait_until(lambda: stub.stats()["in_flight"] == 0, "done")


def test_stats_memory_is_bounded(stub: StubProcess) -> None:
    with RawClient(stub.port) as client:
        for start in range(0, 1200, 100):
            client.send(b"".join(b"GET /p/%d HTTP/1.1\r\nHost: s\r\n\r\n" % n for n in range(start, start + 100)))
            for _ in range(100):
                client.read_response()
    requests = stub.stats()["requests"]
    assert len(requests) == 1001
    assert requests["_other"] == 200


class TestFaults:
    def test_refuses_connections_and_comes_back(self, stub: StubProcess) -> None:
        with RawClient(stub.port) as idle:
            idle.request(b"GET /ok HTTP/1.1\r\nHost: stub\r\n\r\n")
            assert ask(stub, "/fault/refuse?seconds=0.4").status == 200
            assert idle.fate() == "closed"
        with pytest.raises(ConnectionRefusedError):
            RawClient(stub.port)
        stub.wait_until(lambda: is_listening(stub.port), "listening again")
        assert ask(stub, "/ok").status == 200

    @pytest.mark.parametrize("method", METHODS)
    def test_resets_before_the_head(self, stub: StubProcess, method: str) -> None:
        with pytest.raises(NoResponse) as caught:
            ask(stub, "/fault/reset", method, b"body")
        assert (caught.value.ending, caught.value.received) == ("reset", b"")

    def test_closes_before_the_head(self, stub: StubProcess) -> None:
        with pytest.raises(NoResponse) as caught:
            ask(stub, "/fault/close")
        assert (caught.value.ending, caught.value.received) == ("closed", b"")

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize(("fault", "ending"), [("reset-body", "reset"), ("close-body", "closed")])
    @pytest.mark.parametrize("after", [0, 50, 100_000])
    def test_ends_inside_the_body(self, stub: StubProcess, framing: str, fault: str, ending: str, after: int) -> None:
        response = ask(stub, f"/fault/{fault}?framing={framing}&after={after}")
        assert (response.status, response.framing, response.ending) == (200, framing, ending)
        assert response.body == b"x" * after

    def test_stalls_then_closes(self, stub: StubProcess) -> None:
        started = time.monotonic()
        with pytest.raises(NoResponse) as caught:
            ask(stub, "/fault/stall?seconds=0.3")
        assert caught.value.ending == "closed"
        assert time.monotonic() - started >= 0.3

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_stalls_inside_the_body(self, stub: StubProcess, framing: str) -> None:
        with RawClient(stub.port) as client:
            client.send(b"GET /fault/stall-body?seconds=30&framing=%b HTTP/1.1\r\nHost: s\r\n\r\n" % framing.encode())
            response = client.read_response(timeout=0.3)
        assert (response.body, response.ending) == (b"x" * 50, "timeout")

    @pytest.mark.parametrize("kind", ["bytes", "status", "version", "header", "two-lengths", "both-framings", "chunk"])
    def test_sends_garbage(self, stub: StubProcess, kind: str) -> None:
        with pytest.raises(ProtocolViolation):
            ask(stub, f"/fault/garbage?kind={kind}")

    def test_sends_an_unasked_switch_and_oversized_heads(self, stub: StubProcess) -> None:
        assert ask(stub, "/fault/garbage?kind=upgrade").status == 101
        assert len(ask(stub, "/fault/garbage?kind=long-head").get("X-Long") or "") == 1 << 20
        assert len(ask(stub, "/fault/garbage?kind=many-headers").all("X-Many")) == 20_000

    def test_declares_more_than_it_sends(self, stub: StubProcess) -> None:
        response = ask(stub, "/fault/wrong-length?declared=100&sent=50")
        assert (len(response.body), response.ending) == (50, "closed")

    def test_declares_less_than_it_sends(self, stub: StubProcess) -> None:
        with RawClient(stub.port) as client:
            response = client.request(b"GET /fault/wrong-length?declared=5&sent=9 HTTP/1.1\r\nHost: s\r\n\r\n")
            assert (response.body, response.ending) == (b"xxxxx", "complete")
            assert client.fate(0.1) == "open"
            assert client.unread == b"xxxx"

    @pytest.mark.parametrize(("part", "least"), [("body", 10), ("head", 60), ("all", 70)])
    def test_trickles(self, stub: StubProcess, part: str, least: int) -> None:
        started = time.monotonic()
        response = ask(stub, f"/fault/trickle?part={part}&bytes=10&delay=0.002")
        assert (response.body, response.ending) == (b"x" * 10, "complete")
        assert time.monotonic() - started >= least * 0.002

    def test_answers_early_and_drains(self, stub: StubProcess) -> None:
        with RawClient(stub.port) as client:
            client.send(b"POST /fault/early?status=422 HTTP/1.1\r\nHost: s\r\nContent-Length: 1000000\r\n")
            client.send(b"Expect: 100-continue\r\n\r\n")
            response = client.read_response()
            assert (response.status, response.interim, response.ending) == (422, [], "complete")
            client.send(b"x" * 1_000_000)
            assert client.request(b"GET /ok HTTP/1.1\r\nHost: s\r\n\r\n").status == 200

    def test_answers_early_and_closes(self, stub: StubProcess) -> None:
        with RawClient(stub.port) as client:
            client.send(b"POST /fault/early?then=close HTTP/1.1\r\nHost: s\r\nContent-Length: 1000000\r\n\r\n")
            response = client.read_response()
            assert (response.status, response.get("Connection")) == (413, "close")
            assert client.fate() in {"closed", "reset"}

    def test_answers_early_and_ignores_the_rest(self, stub: StubProcess) -> None:
        with RawClient(stub.port) as client:
            head = b"POST /fault/early?then=ignore&seconds=30 HTTP/1.1\r\nHost: s\r\nContent-Length: 100000000\r\n\r\n"
            assert client.request(head).status == 413
            client.timeout = 0.3
            with pytest.raises(TimeoutError):
                client.send(b"x" * 100_000_000)

    def test_sends_interim_answers(self, stub: StubProcess) -> None:
        response = ask(stub, "/fault/informational?codes=103,100,103")
        assert [interim.status for interim in response.interim] == [103, 100, 103]
        assert response.interim[0].get("Link") == "</style.css>; rel=preload"
        assert (response.status, response.body) == (200, b"final\n")

    def test_sends_trailers(self, stub: StubProcess) -> None:
        response = ask(stub, "/fault/trailers")
        assert response.body == b"hello"
        assert response.trailers == [("X-Checksum", "5d41402a"), ("Content-Length", "99")]

    def test_health_fails_for_a_while(self, stub: StubProcess) -> None:
        assert ask_json(stub, "/health") == {"status": "healthy"}
        ask(stub, "/fault/unhealthy?seconds=0.3")
        assert ask(stub, "/health").status == 503
        stub.wait_until(lambda: ask(stub, "/health").status == 200, "healthy again")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0_whatever_is_in_flight(number: signal.Signals, tmp_path: Path) -> None:
    with StubProcess(tmp_path) as stub, RawClient(stub.port) as idle, RawClient(stub.port) as stalled:
        idle.request(b"GET /ok HTTP/1.1\r\nHost: s\r\n\r\n")
        stalled.send(b"GET /fault/stall HTTP/1.1\r\nHost: s\r\n\r\n")
        stub.wait_until(lambda: stub.stats()["in_flight"] == 1, "serving")
        stub.send_signal(number)
        assert stub.wait(5.0) == 0
        assert len(stub.lines) == 1, stub.output


def test_websockets_are_told_when_it_stops(tmp_path: Path) -> None:
    with StubProcess(tmp_path) as stub, RawClient(stub.port) as client:
        upgrade(client)
        stopping = threading.Thread(target=stub.stop)
        stopping.start()
        client.fate(2.0 if client.unread else 0.5)
        assert client.unread.startswith(b"\x88\x02\x03\xe9")
        client.close()
        stopping.join()
        assert stub.returncode == 0


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PORT": "{taken}"}, "upstream stub: cannot listen on 127.0.0.1 port {taken}: Address already in use"),
        ({"PORT": "http"}, "upstream stub: PORT must be a whole number from 0 to 65535, not 'http'"),
        ({"PORT": "65536"}, "upstream stub: PORT must be a whole number from 0 to 65535, not '65536'"),
    ],
)
def test_a_start_that_fails_says_why_in_one_line(
    stub: StubProcess, tmp_path: Path, variables: dict[str, str], message: str
) -> None:
    environment = clean_environment(**{name: value.format(taken=stub.port) for name, value in variables.items()})
    with ChildProcess("stub", [sys.executable, "-m", "upstream_stub"], env=environment, cwd=tmp_path) as child:
        assert child.wait() == 1
        assert child.lines == [message.format(taken=stub.port)]
