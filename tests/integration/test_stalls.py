"""A gateway that has stood still: what its peers have sent in time meanwhile is no silence.

Timers run before the event loop reads. So every time limit has passed when the process goes on, although the request,
the rest of a body or the answer has been there for long.
"""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, fresh, ok
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.waiting import PATIENCE, eventually

LIMIT = 2.0
LIMITS = (
    *("KEEPALIVE_TIMEOUT_SECONDS", "HEADER_TIMEOUT_SECONDS", "CLIENT_IDLE_TIMEOUT_SECONDS", "DATA_RATE_GRACE_SECONDS"),
    *("UPSTREAM_TIMEOUT", "UPSTREAM_TOTAL_TIMEOUT", "UPSTREAM_IDLE_TIMEOUT"),
)


@pytest.fixture(scope="module")
def gateway(upstream: ProgrammedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One that is patient for `LIMIT` seconds in everything."""
    variables = plain(upstream.url, **dict.fromkeys(LIMITS, str(LIMIT)))
    with GatewayProcess(variables, tmp_path_factory.mktemp("gateway")) as process:
        yield process


def stand_still(gateway: GatewayProcess, meanwhile: Callable[[], object]) -> None:
    """Stop the process beyond every limit; what `meanwhile` does is done at once."""
    gateway.pause()
    try:
        meanwhile()
        time.sleep(2 * LIMIT)
    finally:
        gateway.resume()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_on_an_idle_connection(method: str, gateway: GatewayProcess) -> None:
    request = f"{method} /proxy/again HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()
    with RawClient(gateway.port) as client:
        assert client.request(request).status == 200
        stand_still(gateway, lambda: client.send(request))
        assert client.read_response().status == 200


def test_the_rest_of_a_request_head(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send(b"GET /proxy/a HTTP/1.1\r\nHo")
        time.sleep(0.2)  # Nothing tells that the gateway has read it.
        stand_still(gateway, lambda: client.send(b"st: a\r\n\r\n"))
        assert client.read_response().status == 200


def test_the_rest_of_a_request_body(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    begun = threading.Event()

    def answer(peer: Peer, seen: Seen) -> None:
        first = peer.exactly(3)
        begun.set()
        peer.send(ok(first + peer.exactly(3)))

    upstream.on(path, answer)
    with RawClient(gateway.port) as client:
        client.send(f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc".encode())
        assert begun.wait(PATIENCE)
        stand_still(gateway, lambda: client.send(b"def"))
        assert client.read_response().body == b"abcdef"


def test_an_answer(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    asked, may_go_on = threading.Event(), threading.Event()

    def answer(peer: Peer, seen: Seen) -> None:
        asked.set()
        assert may_go_on.wait(PATIENCE)
        peer.send(ok(b"abcdef"))

    upstream.on(path := fresh(), answer)
    with RawClient(gateway.port) as client:
        client.send(f"POST /proxy{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())
        assert asked.wait(PATIENCE)
        stand_still(gateway, may_go_on.set)
        assert client.read_response().body == b"abcdef"


def test_the_rest_of_an_answer(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    may_go_on = threading.Event()

    def answer(peer: Peer, seen: Seen) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        assert may_go_on.wait(PATIENCE)
        peer.send(b"def")

    upstream.on(path := fresh(), answer)
    with RawClient(gateway.port) as client:
        client.send(f"GET /proxy{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        eventually(lambda: client.fate(0.05) == "open" and client.unread.endswith(b"abc"), "the first part")
        stand_still(gateway, may_go_on.set)
        response = client.read_response()
        assert (response.status, response.body, response.ending) == (200, b"abcdef", "complete")


def test_a_first_request(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        stand_still(gateway, lambda: client.send(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n"))
        assert client.read_response().status == 200
