import pytest

from gateway.wire.message.response import Framing, Response, ResponseError, parse_fields, parse_status_line


def response(status: int, *lines: bytes, minor: int = 1, to_head: bool = False) -> Response:
    block = b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    made = Response(status, b"", minor, parse_fields(block))
    made.frame(to_head)
    return made


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"HTTP/1.1 200 OK", (1, 200, b"OK")),
        (b"HTTP/1.0 404 Not Found", (0, 404, b"Not Found")),
        (b"HTTP/1.1 200 ", (1, 200, b"")),
        (b"HTTP/1.1 200", (1, 200, b"")),
        (b"HTTP/1.1 599 \xe4", (1, 599, b"\xe4")),
    ],
)
def test_status_lines(line: bytes, expected: tuple[int, int, bytes]) -> None:
    assert parse_status_line(line) == expected


@pytest.mark.parametrize(
    "line", [b"", b"HTTP/2 200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 099 x", b"HTTP/1.1  200 OK", b"HTTP/1.1 200 a\0b"]
)
def test_malformed_status_lines(line: bytes) -> None:
    with pytest.raises(ResponseError):
        parse_status_line(line)


@pytest.mark.parametrize("line", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X: y"])
def test_no_body_whatever_the_fields_say(line: bytes) -> None:
    for status, to_head in ((204, False), (304, False), (200, True), (103, False)):
        made = response(status, line, to_head=to_head)
        assert (made.framing, made.keep_alive) == (Framing.NONE, True)


def test_framing() -> None:
    assert response(200, b"Content-Length: 5").length == 5
    assert response(200, b"Content-Length: 5").framing is Framing.LENGTH
    assert response(200, b"Content-Length: 0").framing is Framing.NONE
    assert response(200, b"Transfer-Encoding: chunked").framing is Framing.CHUNKED
    assert response(200).framing is Framing.CLOSE


def test_keep_alive() -> None:
    assert response(200, b"Content-Length: 1").keep_alive
    assert not response(200).keep_alive
    assert not response(200, b"Content-Length: 1", b"Connection: close").keep_alive
    assert not response(200, b"Content-Length: 1", minor=0).keep_alive
    assert response(200, b"Content-Length: 1", b"Connection: keep-alive", minor=0).keep_alive


def test_codings_that_are_not_understood() -> None:
    for lines, minor in (((b"Transfer-Encoding: gzip, chunked",), 1), ((b"Transfer-Encoding: chunked",), 0)):
        with pytest.raises(ResponseError):
            response(200, *lines, minor=minor)
