"""Whatever a defect of the gateway stops is answered, and keeps no place."""

import asyncio
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, cast

import pytest

from gateway.fleet.faults import Active
from gateway.fleet.link import Link
from gateway.policy.faults import Fault
from gateway.policy.outcome import IGNORED, Outcome
from gateway.proxy.filter import Filter, Filters
from gateway.proxy.forward.attempt import Attempt
from gateway.proxy.gate import PASS, WAIT, Chain, Gate, Resume, Verdict
from gateway.proxy.gates.passage import Passage
from gateway.proxy.ticket import Ticket
from gateway.proxy.upstreams.faults import FaultCounts, UpstreamFaults
from gateway.proxy.upstreams.upstream import Upstream
from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.server.connection import ServerConnection
from tests.support.bench import Bench, benched
from tests.support.broken import (
    BrokenEnd,
    BrokenFields,
    BrokenGate,
    BrokenHead,
    BrokenTransport,
    EndlessTransport,
)
from tests.support.fake_transport import FakeLoop, FakeTransport


@pytest.fixture
async def bench() -> "Iterator[Bench]":  # type: ignore[misc] # an asynchronous generator, which pytest-asyncio runs
    with benched({"UPSTREAM_URL": "http://127.0.0.1:9", "RETRY_BASE_DELAY_SECONDS": "0.01"}) as made:
        yield made


class Silent(Gate):
    """Lets a request wait, at the latest of its `passing` first, and never resumes it: whatever it calls has failed."""

    name: ClassVar[str] = "silent"
    holds: ClassVar[bool] = True

    def __init__(self, passing: int = 0) -> None:
        self._passing = passing
        self.waiting: list[Resume] = []
        self.abandoned = 0
        self.left: list[Outcome] = []

    def check(self, ticket: Ticket) -> Verdict:
        self._passing -= 1
        return WAIT if self._passing < 0 else PASS

    def start(self, ticket: Ticket, resume: Resume) -> None:
        self.waiting.append(resume)

    def abandon(self, ticket: Ticket) -> None:
        self.abandoned += 1

    def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        self.left.append(outcome)


def put_last(bench: Bench, gate: Gate, *, per_attempt: bool = False) -> None:
    """The gate stands behind those that are passed once, or behind all."""
    chain = bench.route.chain
    once = chain.per_attempt
    if per_attempt:
        bench.route.chain = Chain((*chain.gates, gate), once)
    else:
        bench.route.chain = Chain((*chain.gates[:once], gate, *chain.gates[once:]), once + 1)


def the_time_is_over(bench: Bench) -> None:
    """For the request that waits at a gate."""
    (passage,) = (each for each in bench.gateway.runtime.deadlines._members if isinstance(each, Passage))
    passage.expire(passage.deadline)


def broken_upstream(bench: Bench, upstream: Upstream | None = None) -> None:
    """The connection that is idle in the pool, of the route's upstream or of this one, cannot be written to."""
    idle_connection(bench, BrokenTransport(), upstream)


def idle_connection(bench: Bench, transport: FakeTransport, upstream: Upstream | None = None) -> None:
    """In the pool of the upstream's first endpoint."""
    pool = (upstream or bench.route.upstream).endpoints[0].pool
    connection = UpstreamConnection(pool, "127.0.0.1")
    connection.connection_made(bench.stack.enter_context(transport))
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


async def test_a_defect_at_the_end_of_an_attempts_time_is_answered_and_keeps_no_place(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    idle_connection(bench, EndlessTransport())
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    (attempt,) = (each for each in bench.gateway.runtime.deadlines._members if isinstance(each, Attempt))
    attempt.expire(attempt.deadline)
    assert bench.client.sent().startswith(b"HTTP/1.1 500 ")
    assert bench.nothing_is_held()
    assert bench.route.upstream.endpoints[0].in_flight == 0
    assert "ValueError: a defect" in caplog.text


async def test_a_defect_when_a_connection_has_come_about_is_answered_and_keeps_no_place(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    # It goes to whoever waits for one, in the next turn of the loop.
    broken_upstream(bench)
    await asyncio.sleep(0)
    assert bench.client.sent().startswith(b"HTTP/1.1 500 ")
    assert bench.nothing_is_held()
    assert bench.route.upstream.endpoints[0].in_flight == 0
    assert "ValueError: a defect" in caplog.text


async def test_a_defect_while_a_fault_strikes_is_answered_and_keeps_no_place(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    turns = FakeLoop()
    bench.gateway.runtime.loop = cast(asyncio.AbstractEventLoop, turns)
    link = Link(lambda: 0.0)
    link.back(1)
    faults = UpstreamFaults(link, 100.0, "gateway", FaultCounts(), random.Random(1))
    # No answer can be made of it: a status has three digits.
    fault = Fault("a1", "default", "abort", 100.0, "a drill", status=7)
    faults.set([Active(fault, math.inf, math.inf)])
    bench.route.upstream.faults = faults
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    ((_, strike, arguments),) = turns.timers
    strike(*arguments)
    assert bench.client.sent().startswith(b"HTTP/1.1 500 ")
    assert bench.nothing_is_held()


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


@pytest.mark.parametrize("method", ["check", "enter", "start"])
async def test_a_defect_of_a_gate_is_answered_and_keeps_no_place(
    bench: Bench, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    put_last(bench, BrokenGate(method))
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = bench.client.sent()
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b'"reason": "internal_error"' in answer
    assert bench.counted("GET", 500) == 1
    assert bench.nothing_is_held()
    assert "ValueError: a defect" in caplog.text


async def test_a_request_that_a_gate_forgets_is_answered_when_its_time_is_over(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Silent()
    put_last(bench, gate)
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    assert bench.client.sent() == b""
    the_time_is_over(bench)
    answer = bench.client.sent()
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b'"reason": "internal_error"' in answer
    assert bench.nothing_is_held()
    assert "gate silent has not decided" in caplog.text
    assert (gate.abandoned, gate.left) == (1, [])
    # It comes back to the request after all.
    gate.waiting[0](PASS)
    assert gate.left == [IGNORED]
    assert bench.client.sent() == b""
    assert bench.nothing_is_held()


async def test_a_gate_that_comes_back_too_late_and_cannot_be_left_raises_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck(Silent):
        def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
            raise ValueError("a defect")

    gate = Stuck()
    put_last(bench, gate)
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    the_time_is_over(bench)
    # Whoever resumes it may have others to resume.
    gate.waiting[0](PASS)
    assert caplog.text.count("ValueError: a defect") == 1


async def test_another_attempt_that_a_gate_forgets_is_answered_when_its_time_is_over(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Silent(passing=1)
    put_last(bench, gate, per_attempt=True)
    upstream, _ = bench.upstream()
    turns = FakeLoop()
    bench.gateway.runtime.loop = cast(asyncio.AbstractEventLoop, turns)
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream.data_received(b"HTTP/1.1 503 Oh\r\nContent-Length: 0\r\n\r\n")
    ((_, attempt_again, _),) = turns.timers
    attempt_again()
    assert bench.client.sent() == b""
    the_time_is_over(bench)
    assert bench.client.sent().startswith(b"HTTP/1.1 500 ")
    assert bench.nothing_is_held()
    assert "gate silent has not decided" in caplog.text


async def test_a_request_whose_time_is_over_in_a_queue_gets_the_answer_of_the_queue() -> None:
    environ = {
        "UPSTREAM_URL": "http://127.0.0.1:9",
        "UPSTREAM_TIMEOUT": "1",
        "UPSTREAM_TOTAL_TIMEOUT": "2",
        "BULKHEAD_LIMIT": "1",
        "BULKHEAD_QUEUE_TIMEOUT_SECONDS": "60",
    }
    with benched(environ) as bench:
        bench.upstream()
        bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
        waiting = bench.transport()
        second = ServerConnection(bench.gateway.server)
        second.connection_made(waiting)
        second.data_received(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
        assert bench.route.upstream.bulkhead.queued == 1
        the_time_is_over(bench)
        assert b'"reason": "bulkhead_full"' in waiting.sent()
        assert bench.route.upstream.bulkhead.queued == 0
        assert bench.route.upstream.bulkhead.in_flight == 1


async def test_a_defect_at_the_head_of_a_whole_answer_is_answered_and_keeps_no_place(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.route.filters = Filters((BrokenHead(),))
    upstream, _ = bench.upstream()
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert bench.client.sent().startswith(b"HTTP/1.1 500 ")
    assert bench.nothing_is_held()
    assert "ValueError: a defect" in caplog.text


@pytest.mark.parametrize(
    ("broken", "pieces"),
    [
        pytest.param(BrokenFields(), (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",), id="whole"),
        pytest.param(BrokenEnd(), (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", b"k"), id="in pieces"),
    ],
)
async def test_a_client_that_a_defect_leaves_without_the_end_of_its_answer_sees_its_connection_close(
    bench: Bench, caplog: pytest.LogCaptureFixture, broken: Filter, pieces: tuple[bytes, ...]
) -> None:
    bench.route.filters = Filters((broken,))
    upstream, _ = bench.upstream()
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    for piece in pieces:
        upstream.data_received(piece)
    assert bench.client.is_closing()
    assert bench.nothing_is_held()
    assert "ValueError: a defect" in caplog.text


async def test_a_client_that_cannot_even_be_refused_sees_its_connection_close(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.route.filters = Filters((BrokenFields(),))
    put_last(bench, Silent())
    bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
    the_time_is_over(bench)
    assert bench.client.is_closing()
    assert bench.nothing_is_held()
    assert "ValueError: a defect" in caplog.text


async def test_a_defect_on_the_way_to_a_shadow_gives_back_the_place_of_the_copy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "gateway.yaml").write_text(
        "upstreams: {a: {endpoints: ['127.0.0.1:9']}, b: {endpoints: ['127.0.0.1:10']}}\n"
        "routes: [{name: proxy, prefix: /proxy, upstream: a, mirror: {upstream: b}}]\n"
    )
    with benched({"GATEWAY_CONFIG": str(tmp_path / "gateway.yaml")}) as bench:
        upstream, _ = bench.upstream()
        mirror = bench.route.mirror
        assert mirror is not None
        broken_upstream(bench, mirror.upstream)
        bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(0)
        assert mirror.under_way == set()
        assert mirror.dropped["internal_error"] == 1
        assert mirror.upstream.bulkhead.in_flight == 0
        upstream.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert bench.client.sent().startswith(b"HTTP/1.1 200 ")
    assert "ValueError: a defect" in caplog.text


async def test_a_defect_at_the_end_of_the_time_of_a_copy_gives_back_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "gateway.yaml").write_text(
        "upstreams: {a: {endpoints: ['127.0.0.1:9']}, b: {endpoints: ['127.0.0.1:10']}}\n"
        "routes: [{name: proxy, prefix: /proxy, upstream: a, mirror: {upstream: b}}]\n"
    )
    with benched({"GATEWAY_CONFIG": str(tmp_path / "gateway.yaml")}) as bench:
        bench.upstream()
        mirror = bench.route.mirror
        assert mirror is not None
        idle_connection(bench, EndlessTransport(), mirror.upstream)
        turns = FakeLoop()
        bench.gateway.runtime.loop = cast(asyncio.AbstractEventLoop, turns)
        bench.ask(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
        turns.turn()
        assert mirror.upstream.bulkhead.in_flight == 1
        ((_, time_is_over, _),) = turns.timers
        time_is_over()
        assert mirror.under_way == set()
        assert mirror.upstream.bulkhead.in_flight == 0
    assert caplog.text.count("ValueError: a defect") == 1
