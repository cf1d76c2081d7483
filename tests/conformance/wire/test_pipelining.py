"""Many requests in one write: answered in order, each once, within bounds."""

import contextlib
import time

import pytest

from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, fresh, ok
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient


def echo_number(peer: Peer, seen: Seen) -> None:
    peer.read_body(seen)
    peer.send(ok(seen.line + b"|" + seen.body))


def pipeline(path: str, count: int, body: bytes = b"") -> bytes:
    if not body:
        return b"".join(b"GET /proxy%b?%d HTTP/1.1\r\nHost: a\r\n\r\n" % (path.encode(), n) for n in range(count))
    return b"".join(
        b"POST /proxy%b?%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
        % (path.encode(), n, len(body % n), body % n)
        for n in range(count)
    )


def check(client: RawClient, upstream: ProgrammedUpstream, path: str, count: int, body: bytes = b"") -> None:
    method = b"POST" if body else b"GET"
    for n in range(count):
        response = client.read_response()
        wanted = b"%b %b?%d HTTP/1.1|%b" % (method, path.encode(), n, body % n if body else b"")
        assert (response.status, response.body) == (200, wanted)
    assert len(upstream.requests(path)) == count


def test_two(client: RawClient, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh("pipe"), echo_number)
    client.send(pipeline(path, 2))
    check(client, upstream, path, 2)


def test_fifty_with_bodies(client: RawClient, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh("pipe"), echo_number)
    client.send(pipeline(path, 50, b"body of %d"))
    check(client, upstream, path, 50, b"body of %d")


def test_fifty_split_at_every_odd_place(client: RawClient, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh("pipe"), echo_number)
    raw = pipeline(path, 50, b"body of %d")
    for at in range(0, len(raw), 37):
        client.send(raw[at : at + 37])
    check(client, upstream, path, 50, b"body of %d")


def test_five_thousand_in_one_write(client: RawClient, upstream: ProgrammedUpstream, gateway: GatewayProcess) -> None:
    upstream.on(path := fresh("pipe"), echo_number)
    before = gateway.memory_bytes()
    started = time.monotonic()
    client.timeout = 30.0
    client.send(pipeline(path, 5000))
    check(client, upstream, path, 5000)
    assert time.monotonic() - started < 100.0
    assert gateway.memory_bytes() - before < 20_000_000


@pytest.mark.parametrize("path", ["/nowhere", "/proxy/flood"])
def test_a_flood_that_reads_nothing_is_not_buffered(path: str, client: RawClient, gateway: GatewayProcess) -> None:
    """The gateway stops answering and reading: memory stays where it was, however long the client goes on."""
    raw = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode() * 5000
    before = gateway.memory_bytes()
    client.socket.settimeout(0.2)
    started = time.monotonic()
    while time.monotonic() - started < 4.0:
        with contextlib.suppress(TimeoutError):
            client.socket.send(raw)
    assert gateway.memory_bytes() - before < 25_000_000


def test_chunked_bodies_back_to_back(client: RawClient, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh("pipe"), echo_number)
    one = (
        b"POST /proxy%b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n"
        % path.encode()
    )
    client.send(one * 20)
    for _ in range(20):
        assert client.read_response().body.endswith(b"|hi")
    assert [seen.body for seen in upstream.requests(path)] == [b"hi"] * 20


def test_refusals_and_answers_keep_their_order(client: RawClient) -> None:
    good = b"GET /proxy/x HTTP/1.1\r\nHost: a\r\n\r\n"
    lost = (
        b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\nGET /proxy/smuggled HTTP/1.1\r\nHost: a\r\n\r"
    )
    client.send((good + lost[: lost.index(b"\r\n\r\n") + 4 + 40]) * 10)
    assert [client.read_response().status for _ in range(20)] == [200, 404] * 10


def test_head_in_the_middle(client: RawClient) -> None:
    head = b"HEAD /proxy/x HTTP/1.1\r\nHost: a\r\n\r\n"
    get = b"GET /proxy/x HTTP/1.1\r\nHost: a\r\n\r\n"
    client.send(get + head + get)
    assert client.read_response().body == b"ok\n"
    assert client.read_response("HEAD").body == b""
    assert client.read_response().body == b"ok\n"
