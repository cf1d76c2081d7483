"""Requests that must not be forwarded: the answer, the end of the connection, and nothing behind them gets through.

Every case is followed, in the same write, by a well-formed request for /proxy/smuggled. If the gateway and a client in
front of it disagree about where the refused request ends, that is the request which slips through.
"""

import json

import pytest

from tests.conformance.wire.upstream import ProgrammedUpstream
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient

H = b"Host: a\r\n"
SMUGGLED = b"GET /proxy/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def get(*lines: bytes, line: bytes = b"GET /proxy/refused HTTP/1.1", host: bytes = H) -> bytes:
    return line + b"\r\n" + host + b"".join(one + b"\r\n" for one in lines) + b"\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return get(*lines, line=b"POST /proxy/refused HTTP/1.1") + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


LINES: dict[str, tuple[bytes, int]] = {
    "http/0.9": (b"GET /proxy/refused\r\n\r\n", 400),
    "no version but a space": (b"GET /proxy/refused \r\n\r\n", 400),
    "http/1.2": (get(line=b"GET /proxy/refused HTTP/1.2"), 400),
    "http/2.0": (get(line=b"GET /proxy/refused HTTP/2.0"), 400),
    "http/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "http/1": (get(line=b"GET /proxy/refused HTTP/1"), 400),
    "http/1.10": (get(line=b"GET /proxy/refused HTTP/1.10"), 400),
    "http/01.1": (get(line=b"GET /proxy/refused HTTP/01.1"), 400),
    "lower-case http": (get(line=b"GET /proxy/refused http/1.1"), 400),
    "two spaces": (get(line=b"GET  /proxy/refused HTTP/1.1"), 400),
    "space after the version": (get(line=b"GET /proxy/refused HTTP/1.1 "), 400),
    "tab as separator": (get(line=b"GET\t/proxy/refused\tHTTP/1.1"), 400),
    "vertical tab as separator": (get(line=b"GET\x0b/proxy/refused HTTP/1.1"), 400),
    "space in the target": (get(line=b"GET /proxy/ref used HTTP/1.1"), 400),
    "nul in the target": (get(line=b"GET /proxy/ref\0used HTTP/1.1"), 400),
    "del in the target": (get(line=b"GET /proxy/ref\x7fused HTTP/1.1"), 400),
    "cr in the line": (get(line=b"GET /proxy/ref\rused HTTP/1.1"), 400),
    "lf in the line": (get(line=b"GET /proxy/ref\nused HTTP/1.1"), 400),
    "lf ends the line": (b"GET /proxy/refused HTTP/1.1\nHost: a\r\n\r\n", 400),
    "space before the line": (b" " + get(), 400),
    "tab before the line": (b"\t" + get(), 400),
    "method with a colon": (get(line=b"GE:T /proxy/refused HTTP/1.1"), 400),
    "method with a slash": (get(line=b"GE/T /proxy/refused HTTP/1.1"), 400),
    "no method": (get(line=b" /proxy/refused HTTP/1.1"), 400),
    "very long method": (get(line=b"M" * 4096 + b" /proxy/refused HTTP/1.1"), 400),
    "fragment": (get(line=b"GET /proxy/refused#top HTTP/1.1"), 400),
    "relative target": (get(line=b"GET proxy/refused HTTP/1.1"), 400),
    "query as target": (get(line=b"GET ?x HTTP/1.1"), 400),
    "asterisk with get": (get(line=b"GET * HTTP/1.1"), 400),
    "absolute with userinfo": (get(line=b"GET http://u:p@a/proxy/refused HTTP/1.1"), 400),
    "absolute without authority": (get(line=b"GET http:///proxy/refused HTTP/1.1"), 400),
    "absolute with another scheme": (get(line=b"GET ftp://a/proxy/refused HTTP/1.1"), 400),
    "absolute with a bad authority": (get(line=b"GET http://a<b/proxy/refused HTTP/1.1"), 400),
    "connect": (get(line=b"CONNECT a:443 HTTP/1.1"), 501),
    "connect with a path": (get(line=b"CONNECT /proxy/refused HTTP/1.1"), 501),
    "tls on the plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "five empty lines": (b"\r\n" * 5 + get(), 400),
    "line of 8193 bytes": (get(line=b"GET /proxy/" + b"r" * (8193 - 20) + b" HTTP/1.1"), 414),
    "line of 60,000 bytes": (get(line=b"GET /proxy/" + b"r" * 60_000 + b" HTTP/1.1"), 414),
}

FIELDS: dict[str, tuple[bytes, int]] = {
    "no host": (get(host=b""), 400),
    "two hosts": (get(b"Host: a"), 400),
    "two different hosts": (get(b"Host: b"), 400),
    "host with a space": (get(host=b"Host: a b\r\n"), 400),
    "host with userinfo": (get(host=b"Host: u@a\r\n"), 400),
    "host with a path": (get(host=b"Host: a/b\r\n"), 400),
    "host with a bad port": (get(host=b"Host: a:x\r\n"), 400),
    "host with an open bracket": (get(host=b"Host: [::1\r\n"), 400),
    "host with a scheme": (get(host=b"Host: http://a\r\n"), 400),
    "host with a broken escape": (get(host=b"Host: a%zz\r\n"), 400),
    "bad host under an absolute target": (
        get(line=b"GET http://a/proxy/refused HTTP/1.1", host=b"Host: a b\r\n"),
        400,
    ),
    "two hosts under an absolute target": (get(b"Host: b", line=b"GET http://a/proxy/refused HTTP/1.1"), 400),
    "no host under an absolute target": (get(line=b"GET http://a/proxy/refused HTTP/1.1", host=b""), 400),
    "space before the colon": (get(b"X-A : b"), 400),
    "space before the colon of content-length": (post(b"Content-Length : 3", body=b"abc"), 400),
    "tab before the colon": (get(b"X-A\t: b"), 400),
    "empty name": (get(b": b"), 400),
    "no colon": (get(b"X-A"), 400),
    "space in the name": (get(b"X A: b"), 400),
    "nul in the name": (get(b"X\0A: b"), 400),
    "bytes above ascii in the name": (get(b"X-\xe4: b"), 400),
    "nul in the value": (get(b"X-A: b\0c"), 400),
    "cr in the value": (get(b"X-A: b\rc"), 400),
    "lf ends a field": (b"GET /proxy/refused HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n", 400),
    "lf ends the section": (b"GET /proxy/refused HTTP/1.1\r\nHost: a\r\n\n\r\n\r\n", 400),
    "bell in the value": (get(b"X-A: b\x07c"), 400),
    "del in the value": (get(b"X-A: b\x7fc"), 400),
    "obs-fold": (get(b"X-A: b\r\n c"), 400),
    "obs-fold of the first field": (get(host=b" Host: a\r\n"), 400),
    "101 fields": (get(*[b"X-%d: a" % n for n in range(100)]), 431),
    "section too large": (get(b"X-A: " + b"a" * 32_768), 431),
    "section far too large": (get(b"X-A: " + b"a" * 200_000), 431),
    "expectation unknown": (post(b"Expect: 200-ok", b"Content-Length: 0"), 417),
}

FRAMING: dict[str, tuple[bytes, int]] = {
    "length and coding": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "coding and length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), 400),
    "two lengths": (post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd"), 400),
    "two equal lengths": (post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"), 400),
    "list of lengths": (post(b"Content-Length: 3, 3", body=b"abc"), 400),
    "negative length": (post(b"Content-Length: -1"), 400),
    "length with a plus": (post(b"Content-Length: +3", body=b"abc"), 400),
    "hexadecimal length": (post(b"Content-Length: 0x3", body=b"abc"), 400),
    "length with a space": (post(b"Content-Length: 1 1", body=b"abcdefghijk"), 400),
    "length with a point": (post(b"Content-Length: 3.0", body=b"abc"), 400),
    "empty length": (post(b"Content-Length:"), 400),
    "underscore in the length": (post(b"Content-Length: 1_0", body=b"abcdefghij"), 400),
    "length beyond 64 bits": (post(b"Content-Length: 99999999999999999999999"), 400),
    "length of 2^64": (post(b"Content-Length: 18446744073709551616"), 400),
    "quoted length": (post(b'Content-Length: "3"', body=b"abc"), 400),
    "coding in http/1.0": (
        get(b"Transfer-Encoding: chunked", line=b"POST /proxy/refused HTTP/1.0") + b"0\r\n\r\n",
        400,
    ),
    "gzip": (post(b"Transfer-Encoding: gzip"), 400),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
    "chunked, gzip": (post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"), 400),
    "chunked twice in a list": (post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), 400),
    "chunked in two fields": (post(*[b"Transfer-Encoding: chunked"] * 2, body=b"0\r\n\r\n"), 400),
    "xchunked": (post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 400),
    "chunkedx": (post(b"Transfer-Encoding: chunkedx", body=b"0\r\n\r\n"), 400),
    "identity": (post(b"Transfer-Encoding: identity"), 400),
    "identity then chunked": (post(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"), 501),
    "chunked then identity": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), 400),
    "chunked with a parameter": (post(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n"), 400),
    "chunked in quotes": (post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"), 400),
    "vertical tab before chunked": (post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), 400),
    "empty coding": (post(b"Transfer-Encoding:", body=b"0\r\n\r\n"), 400),
    "folded coding": (post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"), 400),
    "coding with a space before the colon": (post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), 400),
    "coding hidden behind a cr": (post(b"X: a\rTransfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "coding hidden behind an lf": (post(b"X: a\nTransfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
}

CHUNKS: dict[str, bytes] = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "not hexadecimal": b"g\r\nabc\r\n0\r\n\r\n",
    "0x before the size": b"0x3\r\nabc\r\n0\r\n\r\n",
    "plus before the size": b"+3\r\nabc\r\n0\r\n\r\n",
    "minus before the size": b"-3\r\nabc\r\n0\r\n\r\n",
    "space before the size": b" 3\r\nabc\r\n0\r\n\r\n",
    "space after the size": b"3 \r\nabc\r\n0\r\n\r\n",
    "underscore in the size": b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "17 digits": b"00000000000000003\r\nabc\r\n0\r\n\r\n",
    "overflow": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "lf after the size": b"3\nabc\r\n0\r\n\r\n",
    "cr after the size": b"3\rabc\r\n0\r\n\r\n",
    "no crlf after the payload": b"3\r\nabc0\r\n\r\n",
    "lf after the payload": b"3\r\nabc\n0\r\n\r\n",
    "payload longer than its size": b"3\r\nabcd\r\n0\r\n\r\n",
    "extension of 5,000 bytes": b"3;" + b"e" * 5000 + b"\r\nabc\r\n0\r\n\r\n",
    "lf in an extension": b"3;a=b\nX\r\nabc\r\n0\r\n\r\n",
    "nul in an extension": b"3;a\0b\r\nabc\r\n0\r\n\r\n",
    "trailer without a colon": b"3\r\nabc\r\n0\r\nnonsense\r\n\r\n",
    "trailer with an lf": b"3\r\nabc\r\n0\r\nA: b\nC: d\r\n\r\n",
    "trailers too large": b"3\r\nabc\r\n0\r\nA: " + b"b" * 9000 + b"\r\n\r\n",
    "too many trailers": b"3\r\nabc\r\n0\r\n" + b"A: b\r\n" * 101 + b"\r\n",
}

ALL = {**LINES, **FIELDS, **FRAMING, **{f"chunks: {name}": (chunked(body), 400) for name, body in CHUNKS.items()}}


@pytest.mark.parametrize(("raw", "status"), ALL.values(), ids=ALL.keys())
def test_it_is_refused_and_nothing_behind_it_gets_through(
    raw: bytes, status: int, client: RawClient, upstream: ProgrammedUpstream
) -> None:
    before = _forwarded(upstream)
    response = client.request(raw + SMUGGLED)

    assert response.status == status
    assert response.get("Connection") == "close"
    assert response.get("Content-Type") == "application/problem+json"
    assert response.body.endswith(b"}\n")
    problem = json.loads(response.body)
    assert problem["status"] == status
    assert problem["request_id"] == response.get("X-Request-ID")
    client.finish_sending()
    rest, ending = client.read_rest()
    assert (rest, ending) == (b"", "closed")
    assert _forwarded(upstream) == before


def _forwarded(upstream: ProgrammedUpstream) -> int:
    """Requests that arrived complete; a body that turns out to be malformed may have been on its way."""
    return len([seen for seen in upstream.requests("/refused") if seen.whole]) + len(upstream.requests("/smuggled"))


@pytest.mark.parametrize("name", ["lf in the line", "obs-fold", "two lengths", "no host", "connect with a path"])
def test_a_refused_request_that_comes_byte_by_byte(name: str, client: RawClient, upstream: ProgrammedUpstream) -> None:
    raw, status = ALL[name]
    before = _forwarded(upstream)
    for at in range(len(raw)):
        try:
            client.send(raw[at : at + 1])
        except OSError:
            break
    assert client.read_response().status == status
    assert _forwarded(upstream) == before


def test_every_refusal_is_in_the_log_with_its_reason(client: RawClient, gateway: GatewayProcess) -> None:
    response = client.request(get(host=b""))
    request_id = response.get("X-Request-ID")
    line = gateway.wait_for_line(f'"{request_id}"')
    record = json.loads(line)
    assert record["status"] == 400
    assert record["reason"] == "bad_request"
    assert record["client"] == "127.0.0.1"


def test_a_pipelined_request_behind_a_refused_one_after_good_ones(
    client: RawClient, upstream: ProgrammedUpstream
) -> None:
    good = b"GET /proxy/before-refused HTTP/1.1\r\nHost: a\r\n\r\n"
    before = _forwarded(upstream)
    client.send(good + good + get(b"Bad Field: x") + SMUGGLED)
    assert [client.read_response().status for _ in range(3)] == [200, 200, 400]
    assert client.fate() == "closed"
    assert len(upstream.requests("/before-refused")) == 2
    assert _forwarded(upstream) == before
