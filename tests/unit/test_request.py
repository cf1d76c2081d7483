import pytest

from gateway.proxy.answers.own_answer import is_about_the_gateway
from gateway.wire.message.request import Limits, Request, RequestError, check, parse_fields, parse_request_line


def request(line: bytes, block: bytes = b"Host: h\r\n\r\n") -> Request:
    method, target, minor = parse_request_line(line)
    made = Request(method, target, minor, parse_fields(block, Limits()))
    check(made)
    return made


@pytest.mark.parametrize(
    ("line", "method", "target", "minor"),
    [
        (b"GET / HTTP/1.1", "GET", b"/", 1),
        (b"GET / HTTP/1.0", "GET", b"/", 0),
        (b"get /%00?#".replace(b"#", b"") + b" HTTP/1.1", "get", b"/%00?", 1),
        (b"M-SEARCH * HTTP/1.1", "M-SEARCH", b"*", 1),
        (b"GET /\xff\x80 HTTP/1.1", "GET", b"/\xff\x80", 1),
    ],
)
def test_request_lines(line: bytes, method: str, target: bytes, minor: int) -> None:
    assert parse_request_line(line) == (method, target, minor)


@pytest.mark.parametrize(
    "line",
    [b"", b"GET", b"GET /", b"GET  / HTTP/1.1", b"GET / HTTP/1.1 ", b"GET / http/1.1", b"GET /\x7f HTTP/1.1"]
    + [b"GET / HTTP/%b" % version for version in (b"0.9", b"1.2", b"2.0", b"1", b"1.11", b"")]
    + [b"GET /%c HTTP/1.1" % octet for octet in [*range(33), 0x23, 0x7F]],
)
def test_malformed_request_lines(line: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        parse_request_line(line)
    assert (refused.value.status, refused.value.reason) == (400, "bad_request")


@pytest.mark.parametrize(
    ("target", "path", "authority", "host"),
    [
        (b"/a?b", b"/a?b", b"h", b"h"),
        (b"http://X.example:8/a?b", b"/a?b", b"X.example:8", b"x.example"),
        (b"HTTPS://x", b"/", b"x", b"x"),
        (b"http://x?q", b"/?q", b"x", b"x"),
        (b"http://[2001:DB8::1]:80/", b"/", b"[2001:DB8::1]:80", b"2001:db8::1"),
        (b"http://X.example./", b"/", b"X.example.", b"x.example"),
    ],
)
def test_target_and_authority(target: bytes, path: bytes, authority: bytes, host: bytes) -> None:
    made = request(b"GET %b HTTP/1.1" % target)
    assert (made.path, made.authority, made.host) == (path, authority, host)


@pytest.mark.parametrize(
    ("target", "path"), [(b"*", b"*"), (b"http://x:8", b"*"), (b"http://x/", b"/"), (b"http://x?", b"/?"), (b"/", b"/")]
)
def test_options_of_a_url_without_path_is_about_the_gateway(target: bytes, path: bytes) -> None:
    """RFC 9112 section 3.2.4."""
    made = request(b"OPTIONS %b HTTP/1.1" % target)
    assert made.path == path
    assert is_about_the_gateway(made) == (path == b"*")


@pytest.mark.parametrize(
    ("line", "block", "status"),
    [
        (b"GET / HTTP/1.1", b"\r\n", 400),
        (b"GET / HTTP/1.1", b"Host: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.0", b"Host: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1", b"Host: a b\r\n\r\n", 400),
        (b"GET http://a/ HTTP/1.1", b"Host: a b\r\n\r\n", 400),
        (b"GET http://u@a/ HTTP/1.1", b"Host: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1", b"Host: u@a\r\n\r\n", 400),
        (b"GET / HTTP/1.1", b"Host: %61dmin.test\r\n\r\n", 400),
        (b"GET / HTTP/1.1", b"Host: [fe80::1%25eth0]\r\n\r\n", 400),
        (b"GET / HTTP/1.1", b"Host: [:::]\r\n\r\n", 400),
        (b"GET / HTTP/1.1", b"Host: a:65536\r\n\r\n", 400),
        (b"GET * HTTP/1.1", b"Host: a\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1", b"Host: a\r\n\r\n", 501),
        (b"CONNECT /a HTTP/1.1", b"Host: a\r\n\r\n", 501),
        (b"POST / HTTP/1.0", b"Transfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1", b"Host: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1", b"Host: a\r\nExpect: x\r\n\r\n", 417),
    ],
)
def test_what_only_the_whole_tells(line: bytes, block: bytes, status: int) -> None:
    with pytest.raises(RequestError) as refused:
        request(line, block)
    assert refused.value.status == status


def test_keep_alive() -> None:
    assert request(b"GET / HTTP/1.1").keep_alive
    assert not request(b"GET / HTTP/1.1", b"Host: h\r\nConnection: a, CLOSE\r\n\r\n").keep_alive
    assert not request(b"GET / HTTP/1.0").keep_alive
    assert request(b"GET / HTTP/1.0", b"Connection: keep-alive\r\n\r\n").keep_alive


def test_an_expectation_counts_only_with_a_body_and_in_http_11() -> None:
    block = b"Host: h\r\nExpect: 100-Continue\r\nContent-Length: %d\r\n\r\n"
    assert request(b"PUT / HTTP/1.1", block % 1).expect_continue
    assert not request(b"PUT / HTTP/1.1", block % 0).expect_continue
    assert not request(b"PUT / HTTP/1.0", block % 1).expect_continue


def test_websocket() -> None:
    block = b"Host: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n%b\r\n"
    assert request(b"GET / HTTP/1.1", block % b"").wants_websocket
    assert not request(b"POST / HTTP/1.1", block % b"").wants_websocket
    assert not request(b"GET / HTTP/1.1", block % b"Content-Length: 1\r\n").wants_websocket
    assert not request(b"GET / HTTP/1.1", b"Host: h\r\nUpgrade: websocket\r\n\r\n").wants_websocket
    assert not request(b"GET / HTTP/1.0", block % b"").wants_websocket


def test_too_many_fields() -> None:
    with pytest.raises(RequestError) as refused:
        parse_fields(b"Host: h\r\n" + b"X: y\r\n" * 100 + b"\r\n", Limits())
    assert (refused.value.status, refused.value.reason) == (431, "headers_too_large")
