"""What the upstream is told, and what the client gets back, field by field."""

import json
import re
from collections.abc import Callable

import pytest

from tests.conformance.wire.upstream import ProgrammedUpstream, fresh, ok
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient

ADDED = {
    "host",
    "via",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-real-ip",
    "x-request-id",
    "x-correlation-id",
    "traceparent",
}


def ask(client: RawClient, path: str, *lines: bytes, method: bytes = b"GET", body: bytes = b"") -> None:
    head = [method + b" /proxy" + path.encode() + b" HTTP/1.1", b"Host: client.example:8080", *lines]
    client.send(b"\r\n".join(head) + b"\r\n\r\n" + body)


def test_end_to_end_fields_keep_order_case_and_duplicates(client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    ask(client, path, b"B: 1", b"a: 2", b"Cookie: x=1", b"b: 3", b"Cookie: y=2", b"A:4", b"X-Empty:", b"X-L: \xe4")
    assert client.read_response().status == 200
    kept = [(name, value) for name, value in upstream.only(path).fields if name.lower() not in ADDED]
    assert kept == [
        ("B", "1"),
        ("a", "2"),
        ("Cookie", "x=1"),
        ("b", "3"),
        ("Cookie", "y=2"),
        ("A", "4"),
        ("X-Empty", ""),
        ("X-L", "\xe4"),
    ]


def test_hop_by_hop_fields_and_those_that_connection_names_are_removed(
    client: RawClient, upstream: ProgrammedUpstream
) -> None:
    path = fresh()
    ask(
        client,
        path,
        b"Connection: X-One, keep-alive",
        b"X-One: 1",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive",
        b"TE: trailers",
        b"Trailer: X-T",
        b"Proxy-Authorization: Basic eA==",
        b"Upgrade: h2c",
        b"connection: x-two",
        b"X-Two: 2",
        b"X-Kept: 3",
    )
    assert client.read_response().status == 200
    kept = [name.lower() for name, _ in upstream.only(path).fields if name.lower() not in ADDED]
    assert kept == ["x-kept"]


@pytest.mark.parametrize("name", [b"Content-Length", b"Host", b"X-Request-ID", b"Via", b"X-Forwarded-For"])
def test_connection_cannot_name_away_what_matters(name: bytes, client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    ask(client, path, b"Connection: " + name, b"Content-Length: 3", b"X-Request-ID: r", method=b"POST", body=b"abc")
    assert client.read_response().status == 200
    seen = upstream.only(path)
    assert seen.body == b"abc"
    assert seen.get(name.decode()) is not None


def test_host_and_forwarding_fields(client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    ask(client, path, b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: evil.example")
    assert client.read_response().status == 200
    seen = upstream.only(path)
    assert seen.get("Host") == f"127.0.0.1:{upstream.port}"
    assert seen.get("X-Forwarded-For") == "127.0.0.1"
    assert seen.get("X-Forwarded-Proto") == "http"
    assert seen.get("X-Forwarded-Host") == "client.example:8080"
    assert seen.get("Via") == "1.1 gateway"


def test_the_authority_of_an_absolute_target_wins_over_host(client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    client.send(b"GET http://Real.example:81/proxy%b HTTP/1.1\r\nHost: other\r\n\r\n" % path.encode())
    assert client.read_response().status == 200
    assert upstream.only(path).get("X-Forwarded-Host") == "Real.example:81"


def test_ids_are_made_and_equal(client: RawClient, upstream: ProgrammedUpstream, gateway: GatewayProcess) -> None:
    path = fresh()
    ask(client, path)
    response = client.read_response()
    seen = upstream.only(path)
    request_id = seen.get("X-Request-ID")
    assert request_id is not None
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert response.get("X-Request-ID") == request_id
    assert seen.get("X-Correlation-ID") == request_id
    parts = (seen.get("traceparent") or "").split("-")
    assert [len(part) for part in parts] == [2, 32, 16, 2]
    assert set(parts[1]) != {"0"}
    assert set(parts[2]) != {"0"}
    record = json.loads(gateway.wait_for_line(f'"{request_id}"'))
    assert (record["status"], record["attempts"], record["bytes_out"]) == (200, 1, 3)
    assert record["target"] == f"/proxy{path}"


def test_given_ids_pass_through(client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    ask(client, path, b"X-Request-ID: req-1", b"X-Correlation-ID: cor-1", b"traceparent: " + trace)
    assert client.read_response().get("X-Request-ID") == "req-1"
    seen = upstream.only(path)
    assert seen.get("X-Request-ID") == "req-1"
    assert seen.get("X-Correlation-ID") == "cor-1"
    assert seen.get("traceparent") == trace.decode()


@pytest.mark.parametrize("value", [b'a"b', b"a b", b"\xe4", b"x" * 200, b"", b"a\\b"])
def test_ids_that_could_break_a_log_are_replaced(value: bytes, client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    ask(client, path, b"X-Request-ID: " + value)
    assert client.read_response().status == 200
    assert re.fullmatch("[0-9a-f]{32}", upstream.only(path).get("X-Request-ID") or "")


def test_our_own_name_in_via_is_a_loop(client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    ask(client, path, b"Via: 1.0 other, 1.1 GateWay (x)")
    response = client.read_response()
    assert response.status == 508
    assert json.loads(response.body)["reason"] == "loop_detected"
    assert upstream.requests(path) == []


def test_via_of_others_is_kept_before_ours(client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    ask(client, path, b"Via: 1.0 fred, 1.1 gateway-2")
    assert client.read_response().status == 200
    assert upstream.only(path).all("Via") == ["1.0 fred, 1.1 gateway-2", "1.1 gateway"]


def test_via_tells_that_a_request_came_in_http_10(client: RawClient, upstream: ProgrammedUpstream) -> None:
    """RFC 9110 section 7.6.3. On one connection requests may have different versions."""
    path = fresh()
    for minor in (0, 1, 0):
        client.send(f"GET /proxy{path} HTTP/1.{minor}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n".encode())
        assert client.read_response().status == 200
    assert [seen.all("Via") for seen in upstream.requests(path)] == [["1.0 gateway"], ["1.1 gateway"], ["1.0 gateway"]]


@pytest.mark.parametrize("size", [1, 1000, 65_536, 65_537, 1_000_000])
def test_body_bytes_are_intact(size: int, client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    ask(client, path, b"Content-Length: %d" % size, method=b"POST", body=body)
    assert client.read_response().status == 200
    seen = upstream.only(path)
    assert seen.body == body
    assert seen.get("Transfer-Encoding") is None


def test_a_chunked_body_stays_chunked_without_its_extensions_and_trailers(
    client: RawClient, upstream: ProgrammedUpstream
) -> None:
    path = fresh()
    raw = b"3;secret=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-T: 1\r\nContent-Length: 7\r\nHost: evil\r\n\r\n"
    ask(client, path, b"Transfer-Encoding: Chunked", b"Trailer: X-T", method=b"POST", body=raw)
    assert client.read_response().status == 200
    seen = upstream.only(path)
    assert seen.body == b"abc0123456789"
    assert b"secret" not in seen.raw_body
    assert b"X-T" not in seen.raw_body
    assert b"evil" not in seen.raw_body
    assert seen.all("Transfer-Encoding") == ["chunked"]
    assert seen.get("Trailer") is None


def test_an_empty_chunked_body(client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    ask(client, path, b"Transfer-Encoding: chunked", method=b"POST", body=b"0\r\n\r\n")
    assert client.read_response().status == 200
    assert upstream.only(path).raw_body == b"0\r\n\r\n"


def test_set_cookie_is_never_folded_and_response_fields_keep_their_order(
    client: RawClient, upstream: ProgrammedUpstream
) -> None:
    path = fresh()
    upstream.on(
        path,
        ok(
            b"x",
            b"Set-Cookie: a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
            b"B: 1",
            b"Set-Cookie: b=2",
            b"a: 2",
            b"Connection: X-Secret, keep-alive",
            b"X-Secret: 3",
            b"Keep-Alive: timeout=1",
            b"Proxy-Authenticate: Basic",
            b"Trailer: X-T",
            b"Upgrade: h2c",
        ),
    )
    ask(client, path)
    response = client.read_response()
    names = [name for name, _ in response.headers if name != "X-Request-ID"]
    # The upstream sent no Date: the gateway adds one (RFC 9110 section 6.6.1).
    assert names == ["Set-Cookie", "B", "Set-Cookie", "a", "Content-Length", "Date"]
    assert response.all("Set-Cookie") == ["a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "b=2"]


def test_alternating_field_blocks_on_one_connection_are_not_mixed_up(
    client: RawClient, upstream: ProgrammedUpstream
) -> None:
    """Connections keep their last block; whoever comes after must not inherit it."""
    path = fresh()
    for n in range(6):
        ask(client, path, b"X-N: %d" % (n // 2), *([b"X-Odd: 1"] if n % 2 else []))
        assert client.read_response().status == 200
    assert [seen.get("X-N") for seen in upstream.requests(path)] == ["0", "0", "1", "1", "2", "2"]
    assert [seen.get("X-Odd") for seen in upstream.requests(path)] == [None, "1"] * 3


def test_expect_is_answered_and_the_body_follows(client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    for _ in range(2):  # on a new and on a pooled upstream connection
        ask(client, path, b"Expect: 100-Continue", b"Content-Length: 5", method=b"PUT")
        client.socket.settimeout(2.0)
        assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert client.request(b"hello").status == 200
    assert [seen.body for seen in upstream.requests(path)] == [b"hello"] * 2
    assert upstream.requests(path)[0].get("Expect") is None


def test_expect_with_the_body_already_sent(client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    ask(client, path, b"Expect: 100-continue", b"Content-Length: 5", method=b"PUT", body=b"hello")
    assert client.read_response().status == 200
    assert upstream.only(path).body == b"hello"


def test_expect_on_a_refused_request_is_answered_without_100(
    client: RawClient, connect: Callable[[], RawClient]
) -> None:
    client.send(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    response = client.read_response()
    assert response.status == 404
    assert response.interim == []
    assert response.get("Connection") == "close"
    assert client.fate() == "closed"


@pytest.mark.parametrize(
    "fields",
    [
        (b"Expect: 100-continue", b"Expect: 100-Continue"),
        (b"Expect: 100-continue, 100-Continue",),
        (b"Expect: ,100-continue ,",),
        (b"Expect: ",),
        (b"Expect: , ,",),
    ],
)
def test_expect_is_a_list(fields: tuple[bytes, ...], client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    ask(client, path, *fields, b"Content-Length: 5", method=b"PUT", body=b"hello")
    assert client.read_response().status == 200
    assert upstream.only(path).body == b"hello"


def test_close_counts_even_beside_keep_alive(client: RawClient) -> None:
    client.send(b"GET %b HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n" % (b"/proxy" + fresh().encode()))
    assert client.read_response().get("Connection") == "close"
    assert client.fate() == "closed"
