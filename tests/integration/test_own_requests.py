"""Requests of the gateway's own: through bulkhead and circuit to a real upstream, and what comes of them."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.assembly.gateway import Gateway, build
from gateway.config import load
from gateway.policy.breaker import CircuitState
from gateway.proxy.errands.errand import Answered, Unanswered
from gateway.proxy.errands.own_requests import OwnRequest, OwnRequests
from gateway.telemetry.log.lines import LineWriter
from gateway.wire.message.request import RequestError
from tests.support.fake_upstream import (
    Close,
    FakeUpstream,
    ReadHead,
    ReadRequest,
    ReadToEnd,
    Reset,
    Send,
    Step,
    respond,
    serving,
)
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE


def a_request(
    body: bytes = b'{"a":1}', *, method: str = "POST", timeout: float = PATIENCE, keep: int = 1024, lines: bytes = b""
) -> OwnRequest:
    return OwnRequest(method, b"/charge?x=1", lines, body, b"run-7", timeout, keep)


class Bench:
    """A gateway of its own, for one upstream."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        topology = gateway.topology
        (self.name,) = topology.upstreams
        self.upstream = topology.upstreams[self.name]
        self._own = OwnRequests(gateway.runtime, topology.upstreams, topology.chains)

    async def send(self, request: OwnRequest) -> Answered | Unanswered:
        return await self._own.send(self.name, request)

    def nothing_is_held(self) -> bool:
        return self.gateway.runtime.exchanges == 0 and self.upstream.bulkhead.in_flight == 0


@asynccontextmanager
async def to(url: str, **settings: str) -> AsyncIterator[Bench]:
    config = load({"UPSTREAM_URL": url, "RETRY_MAX_ATTEMPTS": "1", **settings})
    with open(os.devnull, "wb") as nowhere:  # noqa: ASYNC230, PTH123 - nothing waits for it
        writer = LineWriter(nowhere.fileno())
        bench = Bench(build(config, writer))
        try:
            yield bench
            assert bench.nothing_is_held()
        finally:
            bench.upstream.close()
            bench.gateway.runtime.close()
            writer.close()


async def test_it_reaches_the_upstream_with_its_lines_and_ids_and_brings_the_answer() -> None:
    with FakeUpstream(serving(respond(b"done", 201, b"Retry-After: 7"))) as upstream:
        async with to(f"{upstream.url}/base") as bench:
            answer = await bench.send(a_request(lines=b'Idempotency-Key: "k"\r\n'))
        assert answer == Answered(201, b"done", 7.0, whole=True)
        head, _, body = upstream.received.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /base/charge?x=1 HTTP/1.1"
        assert {b'Idempotency-Key: "k"', b"Content-Length: 7", b"X-Correlation-ID: run-7"} <= set(lines)
        assert sum(line.startswith((b"X-Request-ID: ", b"traceparent: ")) for line in lines) == 2
        assert body == b'{"a":1}'


async def test_a_get_has_no_body_and_a_post_without_one_says_so() -> None:
    with FakeUpstream(serving(respond(b"1"), respond(b"2"))) as upstream:
        async with to(upstream.url) as bench:
            assert isinstance(await bench.send(a_request(b"", method="GET")), Answered)
            assert isinstance(await bench.send(a_request(b"")), Answered)
        get, post = upstream.connections[0].heads
        assert b"Content-Length" not in get
        assert b"\r\nContent-Length: 0\r\n" in post


@pytest.mark.parametrize("pieces", [1, 2])
async def test_no_more_of_a_body_is_kept_than_was_asked_for(pieces: int) -> None:
    body = b"x" * 100_000
    whole = respond(body)
    cut = len(whole) // pieces
    script: list[Step] = [ReadRequest(), *(Send(whole[at : at + cut]) for at in range(0, len(whole), cut)), ReadToEnd()]
    with FakeUpstream(script) as upstream:
        async with to(upstream.url) as bench:
            assert await bench.send(a_request(keep=10)) == Answered(200, b"x" * 10, None, whole=False)


async def test_an_upstream_that_cannot_be_reached_has_not_been_sent_anything() -> None:
    async with to(f"http://127.0.0.1:{free_port()}") as bench:
        outcome = await bench.send(a_request())
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.sent, outcome.held_back) == ("upstream_unreachable", False, False)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ([Reset()], "upstream_unreachable"),
        ([Send(b"nonsense\r\n\r\n"), Close()], "upstream_protocol_error"),
        ([Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), Close()], "upstream_truncated"),
    ],
)
async def test_an_answer_that_does_not_come_whole_leaves_open_whether_it_was_acted_on(
    end: list[Step], reason: str
) -> None:
    script: list[Step] = [ReadRequest(), *end]
    with FakeUpstream(script) as upstream:
        async with to(upstream.url) as bench:
            outcome = await bench.send(a_request())
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.sent) == (reason, True)


async def test_its_own_time_limit_ends_it_and_nothing_is_held() -> None:
    with FakeUpstream([ReadHead(), ReadToEnd()]) as upstream:
        async with to(upstream.url) as bench:
            outcome = await bench.send(a_request(timeout=0.5))
            assert outcome == Unanswered("upstream_timeout", "no answer within 0.5 s", None, sent=True)
            await asyncio.to_thread(upstream.wait_until, lambda each: each.connections[0].ended is not None)


async def test_whoever_is_cancelled_breaks_the_request_off() -> None:
    with FakeUpstream([ReadHead(), ReadToEnd()]) as upstream:
        async with to(upstream.url) as bench:
            sending = asyncio.create_task(bench.send(a_request()))
            await asyncio.to_thread(upstream.wait_until, lambda each: b"charge" in each.received)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending


async def test_failures_open_the_circuit_and_an_open_circuit_holds_it_back() -> None:
    settings = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "2"}
    with FakeUpstream(serving(*[respond(b"", 500)] * 9)) as upstream:
        async with to(upstream.url, **settings) as bench:
            for _ in range(2):
                assert (await bench.send(a_request()))[0] == 500
            assert bench.upstream.circuit.state is CircuitState.OPEN
            outcome = await bench.send(a_request())
        assert isinstance(outcome, Unanswered)
        assert (outcome.reason, outcome.held_back) == ("circuit_open", True)
        assert outcome.retry_after is not None
        assert len(upstream.connections[0].heads) == 2


async def test_a_gateway_that_stops_sends_nothing_any_more() -> None:
    async with to(f"http://127.0.0.1:{free_port()}") as bench:
        bench.gateway.runtime.stopping = True
        outcome = await bench.send(a_request())
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.held_back) == ("draining", True)


async def test_lines_that_would_make_another_request_are_not_sent() -> None:
    async with to(f"http://127.0.0.1:{free_port()}") as bench:
        with pytest.raises(RequestError):
            await bench.send(a_request(lines=b"Transfer-Encoding: chunked\r\n\r\nGET / HTTP/1.1\r\n"))
        with pytest.raises(RequestError):
            await bench.send(a_request()._replace(target=b"/a b"))


@pytest.mark.parametrize(("own", "queue", "reason"), [(0.3, 0.4, "upstream_timeout"), (0.4, 0.3, "bulkhead_full")])
async def test_two_time_limits_may_be_over_in_the_same_turn_of_the_loop(own: float, queue: float, reason: str) -> None:
    """That of the request, and that of the queue at the bulkhead: the first of them counts."""
    loop = asyncio.get_running_loop()
    wrong: list[object] = []
    loop.set_exception_handler(lambda _loop, context: wrong.append(context))
    settings = {"BULKHEAD_LIMIT": "1", "BULKHEAD_QUEUE_TIMEOUT_SECONDS": str(queue)}
    with FakeUpstream([ReadHead(), ReadToEnd()]) as upstream:
        async with to(upstream.url, **settings) as bench:
            first = asyncio.ensure_future(bench.send(a_request()))
            await asyncio.sleep(0)
            # The loop sees neither of them until both are over.
            loop.call_later(0.2, time.sleep, 0.4)
            outcome = await bench.send(a_request(timeout=own))
            await asyncio.sleep(0.05)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.sent) == (reason, False)
    assert wrong == []
