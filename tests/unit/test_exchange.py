"""One request through connection, front, gates, forwarder and upstream connection, and back, without a socket."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import pytest

from gateway.assembly.gateway import Gateway, build
from gateway.config import load
from gateway.proxy.forward.attempt import Attempt
from gateway.proxy.routes.topology import Route
from gateway.proxy.upstreams.upstream import Upstream
from gateway.telemetry.log.lines import LineWriter
from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.server.connection import ServerConnection
from tests.support.fake_transport import FakeLoop, FakeTransport

OK = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n\r\nok"


class Bench:
    """A gateway whose upstream connections are fed by the test."""

    def __init__(self, gateway: Gateway, stack: ExitStack) -> None:
        self.gateway = gateway
        self.stack = stack
        self.client = self.transport()
        self.connection = ServerConnection(gateway.server)
        self.connection.connection_made(self.client)

    @property
    def route(self) -> Route:
        return self.gateway.topology.routes[0]

    def transport(self) -> FakeTransport:
        return self.stack.enter_context(FakeTransport())

    def upstream(self) -> tuple[UpstreamConnection, FakeTransport]:
        """A connection that lies idle in the pool of the only endpoint."""
        pool = self.route.upstream.endpoints[0].pool
        transport = self.transport()
        connection = UpstreamConnection(pool, "127.0.0.1")
        connection.connection_made(transport)
        pool.release(connection)
        return connection, transport

    def ask(self, request: bytes) -> None:
        self.connection.data_received(request)

    def counted(self, method: str, status: int) -> int:
        counted = self.gateway.telemetry.metrics.route("proxy").counted()
        return {(method, status): count for method, status, count in counted}.get((method, status), 0)

    def nothing_is_held(self) -> bool:
        """Every gate is left and no exchange is in flight."""
        return self.gateway.runtime.exchanges == 0 and self.route.upstream.bulkhead.in_flight == 0


@contextmanager
def benched(environ: dict[str, str]) -> Iterator[Bench]:
    """A bench with this configuration. A loop must run."""
    with open(os.devnull, "wb") as nowhere, ExitStack() as stack:  # noqa: PTH123 - a device
        writer = LineWriter(nowhere.fileno())
        yield Bench(build(load(environ), writer), stack)
        writer.close()


@pytest.fixture
async def bench() -> "Iterator[Bench]":  # type: ignore[misc] # an asynchronous generator, which pytest-asyncio runs
    with benched({"UPSTREAM_URL": "http://127.0.0.1:9", "RETRY_BASE_DELAY_SECONDS": "0.01"}) as made:
        yield made


async def test_head_and_body_in_one_piece_are_one_write(bench: Bench) -> None:
    upstream, sent = bench.upstream()
    bench.ask(b"GET /proxy/a?b=%2f HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    request = sent.sent()
    assert request.startswith(b"GET /a?b=%2f HTTP/1.1\r\nHost: 127.0.0.1:9\r\n")
    assert b"\r\nX-Forwarded-Host: shop.test\r\n" in request
    assert repr(bench.connection.exchange).startswith("<Exchange forwarding <Ticket GET proxy ")
    assert "busy" in repr(upstream)
    upstream.data_received(OK)
    assert bench.client.writes == 1
    answer = bench.client.sent()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nDate: now\r\n")
    assert answer.endswith(b"\r\n\r\nok")
    assert bench.connection.exchange is None
    assert "idle" in repr(upstream)
    assert bench.counted("GET", 200) == 1
    assert bench.nothing_is_held()


async def test_an_answer_in_pieces_is_passed_on_as_it_comes(bench: Bench) -> None:
    upstream, _ = bench.upstream()
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
    assert bench.client.sent().startswith(b"HTTP/1.1 200 OK\r\n")
    assert repr(bench.connection.exchange).startswith("<Exchange responding ")
    upstream.data_received(b"ab")
    assert bench.client.sent() == b"ab"
    upstream.data_received(b"cd")
    assert bench.client.sent() == b"cd"
    assert bench.nothing_is_held()


async def test_an_upload_is_passed_on_piece_by_piece(bench: Bench) -> None:
    upstream, sent = bench.upstream()
    bench.ask(b"POST /proxy/a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    assert bench.client.sent() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert sent.sent().startswith(b"POST /a HTTP/1.1\r\n")
    for piece in (b"ab", b"cd"):
        bench.ask(piece)
        assert sent.sent() == piece
    upstream.data_received(OK)
    assert bench.client.sent().endswith(b"ok")
    assert bench.counted("POST", 200) == 1


async def test_an_answer_is_waited_for_from_when_the_upstream_took_the_last_of_an_upload(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop has written it all long before: only the kernel knows, and has to be asked often enough."""
    _, sent = bench.upstream()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bench.ask(b"POST /proxy/a HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        sent.socket.close()
        sent.socket = ours  # type: ignore[assignment] # what the kernel is asked about it is true, too
        ours.send(b"x" * 1000)
        bench.ask(b"x" * 100_000)
        (attempt,) = (each for each in bench.gateway.runtime.deadlines._members if isinstance(each, Attempt))
        limit = bench.route.upstream.config.attempt_timeout
        began = attempt._sent_at
        assert len(theirs.recv(2000)) == 1000
        waited = 0.0
        while bench.connection.exchange is not None:
            now = attempt.deadline
            waited = now - began
            monkeypatch.setattr("gateway.proxy.forward.attempt.time.monotonic", lambda now=now: now)
            attempt.expire(now)
        monkeypatch.undo()
        assert limit <= waited <= 1.25 * limit + 0.01
        assert bench.client.sent().startswith(b"HTTP/1.1 504 ")


async def test_an_answer_that_may_be_repeated_is_made_good_by_another_attempt(bench: Bench) -> None:
    upstream, sent = bench.upstream()
    turns = FakeLoop()
    bench.gateway.runtime.loop = cast(asyncio.AbstractEventLoop, turns)
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    first = sent.sent()
    upstream.data_received(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    assert bench.client.sent() == b""
    assert repr(bench.connection.exchange).startswith("<Exchange forwarding ")
    ((pause, attempt_again, _),) = turns.timers
    assert 0.0 <= pause < 0.01
    attempt_again()
    assert sent.sent() == first
    upstream.data_received(OK)
    assert bench.client.sent().endswith(b"ok")
    assert bench.counted("GET", 200) == 1
    assert bench.route.upstream.circuit.failures == 0
    assert bench.nothing_is_held()


async def test_a_client_that_leaves_takes_its_request_along(bench: Bench) -> None:
    upstream, sent = bench.upstream()
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    bench.connection.connection_lost(None)
    assert "abort" in sent.calls
    assert "closed" in repr(upstream)
    assert bench.counted("GET", 499) == 1
    assert bench.route.upstream.circuit.failures == 0
    assert bench.nothing_is_held()


async def test_an_answer_that_breaks_off_is_not_ended_in_order(bench: Bench) -> None:
    upstream, _ = bench.upstream()
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    upstream.connection_lost(None)
    answer = bench.client.sent()
    assert answer.endswith(b"2\r\nab\r\n")
    assert b"0\r\n\r\n" not in answer
    assert bench.client.calls[-1] in {"close", "abort"}
    assert bench.gateway.telemetry.metrics.refusals["upstream_truncated"] == 1
    assert bench.route.upstream.circuit.failures == 1
    assert bench.nothing_is_held()


async def test_an_open_circuit_asks_nobody(bench: Bench) -> None:
    upstream, sent = bench.upstream()
    for _ in range(bench.route.upstream.config.breaker.failure_threshold):
        bench.ask(b"POST /proxy/a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        upstream.data_received(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
    sent.sent()
    bench.client.sent()
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = bench.client.sent()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"reason": "circuit_open"' in answer
    assert sent.sent() == b""
    assert bench.nothing_is_held()


async def test_a_body_that_a_gate_has_held_to_its_end_is_ended_once(tmp_path: Path) -> None:
    """Where a connection lies idle, the request is sent while the end of its body is still being looked at."""
    (tmp_path / "order.json").write_text('{"type": "object"}')
    (tmp_path / "gateway.yaml").write_text(
        "upstreams: {orders: {endpoints: ['127.0.0.1:9']}}\n"
        f"routes: [{{name: proxy, prefix: /proxy, upstream: orders, validate: {{schema: {tmp_path}/order.json}}}}]\n"
    )
    with benched({"GATEWAY_CONFIG": str(tmp_path / "gateway.yaml")}) as bench:
        _, sent = bench.upstream()
        bench.ask(
            b"POST /proxy/a HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert sent.sent() == b""
        bench.ask(b"2\r\n{}\r\n0\r\n\r\n")
        assert sent.sent().partition(b"\r\n\r\n")[2] == b"2\r\n{}\r\n0\r\n\r\n"


class Breaking(FakeTransport):
    """As a defect looks: whoever writes to it gets an exception that nobody expects."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        raise ValueError("a defect")


def broken_upstream(bench: Bench, upstream: Upstream | None = None) -> None:
    """The connection that is idle in the pool, of the route's upstream or of this one, cannot be written to."""
    pool = (upstream or bench.route.upstream).endpoints[0].pool
    transport = bench.stack.enter_context(Breaking())
    connection = UpstreamConnection(pool, "127.0.0.1")
    connection.connection_made(transport)
    pool.release(connection)


async def test_a_defect_at_the_beginning_of_a_request_is_answered_and_keeps_no_place(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    broken_upstream(bench)
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = bench.client.sent()
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b'"reason": "internal_error"' in answer
    assert b"\r\nConnection: close\r\n" in answer
    assert bench.counted("GET", 500) == 1
    assert bench.nothing_is_held()
    assert "the gateway has failed at request" in caplog.text
    assert "ValueError: a defect" in caplog.text


async def test_a_defect_after_a_gate_has_been_waited_for_is_answered_and_keeps_no_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "order.json").write_text('{"type": "object"}')
    (tmp_path / "gateway.yaml").write_text(
        "upstreams: {orders: {endpoints: ['127.0.0.1:9']}}\n"
        f"routes: [{{name: proxy, prefix: /proxy, upstream: orders, validate: {{schema: {tmp_path}/order.json}}}}]\n"
    )
    with benched({"GATEWAY_CONFIG": str(tmp_path / "gateway.yaml")}) as bench:
        broken_upstream(bench)
        bench.ask(b"POST /proxy/a HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n")
        bench.ask(b"{}")
        assert bench.client.sent().startswith(b"HTTP/1.1 500 ")
        assert bench.nothing_is_held()
    assert "ValueError: a defect" in caplog.text


async def test_a_defect_at_another_attempt_is_answered_and_keeps_no_place(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    upstream, _ = bench.upstream()
    turns = FakeLoop()
    bench.gateway.runtime.loop = cast(asyncio.AbstractEventLoop, turns)
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream.data_received(b"HTTP/1.1 503 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    broken_upstream(bench)
    ((_, attempt_again, _),) = turns.timers
    attempt_again()
    assert bench.client.sent().startswith(b"HTTP/1.1 500 ")
    assert bench.nothing_is_held()
    assert "ValueError: a defect" in caplog.text


async def test_a_defect_on_the_way_to_a_fallback_is_answered_and_keeps_no_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "gateway.yaml").write_text(
        "upstreams: {a: {endpoints: ['127.0.0.1:9'], retry: {max_attempts: 1}}, b: {endpoints: ['127.0.0.1:10']}}\n"
        "routes: [{name: proxy, prefix: /proxy, upstream: a, fallback: {upstream: b, 'on': [503]}}]\n"
    )
    with benched({"GATEWAY_CONFIG": str(tmp_path / "gateway.yaml")}) as bench:
        upstream, _ = bench.upstream()
        turns = FakeLoop()
        bench.gateway.runtime.loop = cast(asyncio.AbstractEventLoop, turns)
        bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
        upstream.data_received(b"HTTP/1.1 503 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        fallback = bench.route.fallback
        assert fallback is not None
        broken_upstream(bench, fallback.hops[0].upstream)
        ((_, enter, _),) = turns.timers
        enter()
        assert bench.client.sent().startswith(b"HTTP/1.1 500 ")
        assert bench.nothing_is_held()
    assert "ValueError: a defect" in caplog.text
