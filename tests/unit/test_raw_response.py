"""The tests' own response parser: what it accepts, what it refuses, and how it says that a body was cut short."""

import pytest

from tests.support.raw_response import Buffer, Ending, NoResponse, ProtocolViolation, RawResponse, parse_response


def parse(octets: bytes, ended: Ending = "closed", method: str = "GET", step: int | None = None) -> RawResponse:
    buffer = Buffer()
    pieces = [octets[at : at + (step or len(octets))] for at in range(0, len(octets), step or len(octets) or 1)]
    parsing = parse_response(buffer, method)
    while True:
        try:
            next(parsing)
        except StopIteration as finished:
            response: RawResponse = finished.value
            return response
        if pieces:
            buffer.feed(pieces.pop(0))
        else:
            buffer.ended = ended


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("step", [None, 1, 2, 7])
@pytest.mark.parametrize(
    ("octets", "framing", "body"),
    [
        (OK + b"Content-Length: 3\r\n\r\nabc", "length", b"abc"),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\nA\r\n0123456789\r\n0\r\n\r\n",
            "chunked",
            b"ab0123456789",
        ),
        (OK + b"\r\nuntil the end", "close", b"until the end"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", "none", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "none", b""),
    ],
)
def test_reads_every_framing_under_every_split(octets: bytes, framing: str, body: bytes, step: int | None) -> None:
    response = parse(octets, step=step)
    assert (response.framing, response.body, response.ending) == (framing, body, "complete")


def test_a_response_to_head_has_no_body() -> None:
    response = parse(OK + b"Content-Length: 3\r\n\r\n", method="HEAD")
    assert (response.framing, response.body) == ("none", b"")


def test_keeps_order_case_duplicates_and_interim_responses() -> None:
    response = parse(
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
        + OK
        + b"sEt-Cookie: a\r\nSet-cookie:b \r\nContent-Length: 0\r\n\r\n"
    )
    assert response.headers[:2] == [("sEt-Cookie", "a"), ("Set-cookie", "b")]
    assert response.all("SET-COOKIE") == ["a", "b"]
    assert [interim.headers for interim in response.interim] == [[("Link", "a")]]
    with pytest.raises(AssertionError, match="appears 2 times"):
        response.get("Set-Cookie")


def test_reads_trailers_apart_from_headers() -> None:
    response = parse(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: 1\r\n\r\n")
    assert response.trailers == [("X-T", "1")]
    assert response.get("X-T") is None


@pytest.mark.parametrize("ended", ["closed", "reset", "timeout"])
@pytest.mark.parametrize(
    "octets",
    [
        OK + b"Content-Length: 3\r\n\r\nab",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nab",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
    ],
)
def test_tells_how_a_body_was_cut_short(octets: bytes, ended: Ending) -> None:
    response = parse(octets, ended)
    assert (response.body, response.ending) == (b"ab", ended)


def test_only_fin_completes_a_body_that_ends_with_the_connection() -> None:
    assert parse(OK + b"\r\nab", "reset").ending == "reset"


@pytest.mark.parametrize("octets", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_no_head_is_no_response(octets: bytes) -> None:
    with pytest.raises(NoResponse) as caught:
        parse(octets, "reset")
    assert (caught.value.ending, caught.value.received) == ("reset", octets)


@pytest.mark.parametrize(
    "octets",
    [
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 600 Odd\r\n\r\n",
        b"\x00HTTP/1.1 200 OK\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"Spaced : 1\r\n\r\n",
        OK + b"A: 1\r\n folded\r\n\r\n",
        OK + b"A: 1\nB: 2\r\n\r\n",
        OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab",
        OK + b"Content-Length: +2\r\n\r\nab",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\nab\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_refuses_what_a_server_may_not_send(octets: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        parse(octets)
