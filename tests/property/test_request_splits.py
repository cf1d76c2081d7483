"""However a client's bytes are cut into segments, the same requests come out, or the same refusal."""

import asyncio
from itertools import pairwise
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.message.request import Limits, Request, RequestError
from gateway.wire.ports import Connection, Exchange, Front
from gateway.wire.server.connection import ServerConnection
from gateway.wire.server.registry import Server
from gateway.wire.server.transitions import State
from tests.support.fake_transport import FakeLoop, FakeTransport

Told = list[tuple[object, ...]]


class RecordingExchange:
    """Takes the whole request, then answers at once."""

    def __init__(self, connection: Connection, request: Request, told: Told) -> None:
        self._connection = connection
        self._request = request
        self._told = told
        self._body = b""
        self.over = False
        if not request.has_body:
            self.request_end()

    def request_body(self, data: bytes) -> None:
        self._body += data

    def request_end(self) -> None:
        request = self._request
        self.over = True
        self._told.append((request.method, request.path, request.minor, request.host, request.fields.lines, self._body))
        self._connection.finish(0.0, keep_alive=self._connection.reusable)

    def request_failed(self, error: RequestError) -> None:
        self.over = True
        self._told.append(("body failed", error.status))
        self._connection.finish(0.0, keep_alive=False)

    def client_gone(self) -> None:
        self.over = True

    def pause_answer(self) -> None:
        pass

    resume_answer = gateway_stops = pause_answer


class RecordingFront(Front):
    def __init__(self) -> None:
        self.told: Told = []

    def begin(self, connection: Connection, request: Request) -> Exchange | None:
        exchange = RecordingExchange(connection, request, self.told)
        return None if exchange.over else exchange

    def reject(self, connection: Connection, error: RequestError) -> None:
        self.told.append(("rejected", error.status))
        connection.finish(0.0, keep_alive=False)

    def overflow(self, connection: Connection, request: Request) -> None:
        raise AssertionError("one connection is no overflow")


def run(segments: list[bytes]) -> Told:
    loop = FakeLoop()
    front = RecordingFront()
    server = Server(
        cast(asyncio.AbstractEventLoop, loop),
        front,
        limits=Limits(request_line_bytes=256, header_bytes=512, header_count=8),
    )
    connection = ServerConnection(server)
    with FakeTransport(half_closes=False) as transport:
        connection.connection_made(transport)
        for segment in segments:
            if connection.state in {State.LINGER, State.GONE}:
                break
            connection.data_received(segment)
            loop.turn()
    return front.told


GOOD = [
    b"GET /a?b=c HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"\r\nHEAD / HTTP/1.1\r\nHost: h\r\nX-A: b\r\nX-A: c\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nhello\r\n\r\nxy",
    b"PUT /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;e=1\r\nabc\r\n2\r\n\r\n\r\n0\r\nT: v\r\n\r\n",
    b"GET http://x:1/y HTTP/1.1\r\nHost: h\r\n\r\n",
    b"DELETE /d HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
]
BAD = [
    b"GET /a HTTP/1.1\r\n\r\n",
    b"GET /a HTTP/2.0\r\nHost: h\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: h\r\nBad Name: x\r\n\r\n",
    b"GET /a HTTP/1.1\nHost: h\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: h\r\n X: folded\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"PUT /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    b"GET /" + b"a" * 300 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 600 + b"\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 9 + b"\r\n",
    b"\r\n" * 6 + b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
]


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(raw) + 1) for place in places} | {0, len(raw)})
    return [raw[start:end] for start, end in pairwise(ends)]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(GOOD), min_size=1, max_size=4),
    st.sampled_from([b"", *BAD]),
    st.lists(st.integers(0, 5000), max_size=12),
)
def test_cuts_change_nothing(good: list[bytes], bad: bytes, places: list[int]) -> None:
    raw = b"".join([*good, bad])
    assert run(cut(raw, places)) == run([raw])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(GOOD), min_size=1, max_size=3), st.sampled_from([b"", *BAD]))
def test_byte_by_byte_changes_nothing(good: list[bytes], bad: bytes) -> None:
    raw = b"".join([*good, bad])
    assert run([raw[at : at + 1] for at in range(len(raw))]) == run([raw])


def test_what_comes_out_is_what_went_in() -> None:
    told = run([b"".join(GOOD)])
    assert [entry[:2] for entry in told] == [
        ("GET", b"/a?b=c"),
        ("GET", b"/a"),
        ("HEAD", b"/"),
        ("POST", b"/p"),
        ("PUT", b"/p"),
        ("GET", b"/y"),
        ("DELETE", b"/d"),
    ]
    assert told[3][5] == b"hello\r\n\r\nxy"
    assert told[4][5] == b"abc\r\n"


def test_each_bad_one_ends_the_connection() -> None:
    for bad in BAD[:-1]:
        told = run([bad + GOOD[0]])
        assert len(told) == 1
        assert told[0][0] in {"rejected", "body failed"}


def test_no_request_begins_while_its_client_takes_nothing() -> None:
    """Else a client that pipelines and never reads fills the memory with answers, tens of megabytes a second."""
    loop = FakeLoop()
    front = RecordingFront()
    server = Server(cast(asyncio.AbstractEventLoop, loop), front, limits=Limits())
    connection = ServerConnection(server)
    with FakeTransport(half_closes=False) as transport:
        connection.connection_made(transport)
        connection.data_received(GOOD[0])
        connection.pause_writing()
        for _ in range(10):
            connection.data_received(GOOD[0] * 10)
            loop.turn()
        assert len(front.told) <= 2
        connection.resume_writing()
        loop.turn()
        assert len(front.told) == 101
