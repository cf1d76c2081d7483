"""One request through connection, front, gates, forwarder and upstream connection, and back, without a socket."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, cast

import pytest

from gateway.policy.outcome import Outcome
from gateway.proxy.forward.attempt import Attempt
from gateway.proxy.gate import Chain, Gate
from gateway.proxy.ticket import Ticket
from tests.support.bench import Bench, benched
from tests.support.fake_transport import FakeLoop

OK = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n\r\nok"


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


class Patience(Gate):
    """Hears of each attempt whether somebody's patience had come to its end."""

    holds: ClassVar[bool] = True

    def __init__(self) -> None:
        self.unanswered: list[bool] = []

    def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        self.unanswered.append(ticket.unanswered)


async def test_a_client_that_leaves_another_attempt_before_its_connection_is_there_has_not_waited_for_an_answer(
    bench: Bench,
) -> None:
    gate, chain = Patience(), bench.route.chain
    bench.route.chain = Chain((*chain.gates, gate), chain.per_attempt)
    bench.upstream()
    turns = FakeLoop()
    bench.gateway.runtime.loop = cast(asyncio.AbstractEventLoop, turns)
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    (attempt,) = (each for each in bench.gateway.runtime.deadlines._members if isinstance(each, Attempt))
    attempt.expire(attempt.deadline)
    assert gate.unanswered == [True]
    ((_, attempt_again, _),) = turns.timers
    attempt_again()
    bench.connection.connection_lost(None)
    assert gate.unanswered == [True, False]
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
