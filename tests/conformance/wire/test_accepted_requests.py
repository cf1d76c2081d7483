"""Requests at the edge of what is allowed: they are forwarded, and the connection lives on."""

import pytest

from tests.conformance.wire.upstream import ProgrammedUpstream, fresh
from tests.support.raw_http import RawClient

H = b"Host: a\r\n"


@pytest.mark.parametrize(
    ("before", "line", "rest"),
    [
        (b"", b"GET /proxy%b HTTP/1.1", H),
        (b"\r\n", b"GET /proxy%b HTTP/1.1", H),
        (b"\r\n\r\n\r\n\r\n", b"GET /proxy%b HTTP/1.1", H),
        (b"", b"GET http://a/proxy%b HTTP/1.1", H),
        (b"", b"GET HTTP://A:80/proxy%b HTTP/1.1", b"Host: b\r\n"),
        (b"", b"get /proxy%b HTTP/1.1", H),
        (b"", b"PROPFIND /proxy%b HTTP/1.1", H),
        (b"", b"M-SEARCH /proxy%b HTTP/1.1", H),
        (b"", b"PATCH /proxy%b HTTP/1.1", H),
        (b"", b"OPTIONS /proxy%b HTTP/1.1", H),
        (b"", b"TRACE /proxy%b HTTP/1.1", H),
        (b"", b"GET /proxy%b HTTP/1.1", b"hOsT:a\r\n"),
        (b"", b"GET /proxy%b HTTP/1.1", b"Host:   a:80\t\r\n"),
        (b"", b"GET /proxy%b HTTP/1.1", b"Host: [::1]:80\r\n"),
        (b"", b"GET /proxy%b HTTP/1.1", H + b"X-Empty:\r\n"),
        (b"", b"GET /proxy%b HTTP/1.1", H + b"X-Latin: \xe4\xf6\r\n"),
        (b"", b"GET /proxy%b HTTP/1.1", H + b"X-Tab: a\tb\r\n"),
        (b"", b"GET /proxy%b HTTP/1.1", H + b"".join(b"X-%d: a\r\n" % n for n in range(99))),
        (b"", b"GET /proxy%b HTTP/1.1", H + b"Content-Length: 0\r\n"),
        (
            b"",
            b"GET /proxy%b HTTP/1.1",
            H + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n",
        ),
        (b"", b"GET /proxy%b HTTP/1.1", H + b"Upgrade: websocket\r\n"),
        (b"", b"DELETE /proxy%b HTTP/1.1", H + b"Expect: 100-continue\r\n"),
    ],
)
def test_it_is_forwarded(
    before: bytes, line: bytes, rest: bytes, client: RawClient, upstream: ProgrammedUpstream
) -> None:
    path = fresh("good")
    response = client.request(before + line % path.encode() + b"\r\n" + rest + b"\r\n")
    assert response.status == 200
    assert response.body == b"ok\n"
    seen = upstream.only(path)
    assert seen.line == line.split(b" ")[0] + b" " + path.encode() + b" HTTP/1.1"
    assert seen.get("Upgrade") is None
    assert seen.get("Connection") is None
    assert seen.get("HTTP2-Settings") is None
    assert seen.get("Expect") is None
    again = client.request(b"GET /proxy/again HTTP/1.1\r\nHost: a\r\n\r\n")
    assert again.status == 200


@pytest.mark.parametrize("length", [8191, 8192])
def test_a_request_line_up_to_the_limit(length: int, client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh("long") + "/"
    path += "x" * (length - len(b"GET /proxy HTTP/1.1") - len(path))
    assert client.request(b"GET /proxy" + path.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
    assert upstream.only(path).path == path


def test_a_header_section_of_exactly_the_limit(client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh("section")
    block = b"Host: a\r\nX-A: %b\r\n\r\n"
    block %= b"a" * (32_768 - len(block) + 2)
    assert len(block) == 32_768
    assert client.request(b"GET /proxy" + path.encode() + b" HTTP/1.1\r\n" + block).status == 200
    upstream.only(path)


@pytest.mark.parametrize(
    "target",
    [
        b"/...%2f%2e%2E.%2f/a%20b%2F",
        b"//double//slashes/",
        b"/a/.../.b/..c/d.",
        b"/q?x=%2F..%2f&y=1+2&z=a?b/c",
        b"/q?",
        b"/;p=1,2:@!$&'()*+=~",
        b"/raw\xc3\xa4\xff",
        b'/"<>[\\]^`{|}',
        b"/%zz%",
        b"/",
        b"/?only=query",
    ],
)
def test_the_target_travels_byte_for_byte(target: bytes, client: RawClient, upstream: ProgrammedUpstream) -> None:
    before = len(upstream.seen)
    assert client.request(b"GET /proxy" + target + b" HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
    assert upstream.seen[before].line == b"GET " + target + b" HTTP/1.1"


def test_leading_empty_lines_byte_by_byte(client: RawClient, upstream: ProgrammedUpstream) -> None:
    """RFC 9112 section 2.2; how they are cut into segments must not matter."""
    path = fresh("empty-lines")
    client.send_slowly(b"\r\n\r\n", 0.02)
    response = client.request(b"GET /proxy" + path.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert response.status == 200
    upstream.only(path)


def test_a_request_byte_by_byte(client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh("slowly")
    raw = b"POST /proxy%b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: x\r\n\r\n"
    client.send_slowly(raw % path.encode(), 0.0005)
    assert client.read_response().status == 200
    assert upstream.only(path).body == b"abc"


def test_http_10_without_host(client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh("old")
    response = client.request(b"GET /proxy" + path.encode() + b" HTTP/1.0\r\n\r\n")
    assert (response.status, response.body) == (200, b"ok\n")
    assert client.fate() == "closed"
    assert upstream.only(path).line.endswith(b"HTTP/1.1")


def test_http_10_keep_alive(client: RawClient) -> None:
    for _ in range(3):
        response = client.request(b"GET /proxy/old HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
        assert response.status == 200
        assert (response.get("Connection") or "").lower() == "keep-alive"


def test_http_10_ignores_an_expectation_and_an_upgrade(client: RawClient, upstream: ProgrammedUpstream) -> None:
    """RFC 9110 sections 10.1.1 and 7.8."""
    path = fresh("old")
    raw = b"GET /proxy%b HTTP/1.0\r\nExpect: nonsense\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert client.request(raw % path.encode()).status == 200
    assert upstream.only(path).get("Upgrade") is None


def test_connection_close_is_honoured(client: RawClient) -> None:
    response = client.request(b"GET /proxy/close HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n")
    assert response.status == 200
    assert response.get("Connection") == "close"
    assert client.fate() == "closed"


def test_nothing_after_connection_close_is_taken(client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh("after-close")
    raw = b"GET /proxy/close HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /proxy%b HTTP/1.1\r\nHost: a\r\n\r\n"
    assert client.request(raw % path.encode()).status == 200
    assert client.fate() == "closed"
    assert client.unread == b""
    assert upstream.requests(path) == []


def test_an_upgrade_with_a_body_is_an_ordinary_request(client: RawClient, upstream: ProgrammedUpstream) -> None:
    path = fresh("upgrade-body")
    raw = (
        b"GET /proxy%b HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Content-Length: 5\r\n\r\nhello"
    )
    assert client.request(raw % path.encode()).status == 200
    seen = upstream.only(path)
    assert (seen.body, seen.get("Upgrade")) == (b"hello", None)
    assert client.request(b"GET /proxy/again HTTP/1.1\r\nHost: a\r\n\r\n").status == 200


@pytest.mark.parametrize("forwards", [b"", b"Max-Forwards: 0\r\n", b"Max-Forwards: 3\r\n"])
def test_options_asterisk_is_answered_by_the_gateway(forwards: bytes, client: RawClient) -> None:
    response = client.request(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n" + forwards + b"\r\n", "OPTIONS")
    assert (response.status, response.body) == (200, b"")
    assert client.request(b"GET /proxy/again HTTP/1.1\r\nHost: a\r\n\r\n").status == 200


@pytest.mark.parametrize("path", [b"/nowhere", b"/proxyx", b"/proxy", b"/%70roxy/ok", b"//"])
def test_what_matches_no_route_is_404_and_the_connection_lives(path: bytes, client: RawClient) -> None:
    response = client.request(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert response.status == 404
    assert response.get("Content-Type") == "application/problem+json"
    assert client.request(b"GET /proxy/again HTTP/1.1\r\nHost: a\r\n\r\n").status == 200


def test_a_control_path_on_a_connection_that_proxied(client: RawClient) -> None:
    assert client.request(b"GET /proxy/again HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
    response = client.request(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /proxy/smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert response.status == 200
    assert response.get("Connection") == "close"
    assert client.fate() == "closed"
    assert client.unread == b""
