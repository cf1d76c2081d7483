"""Two attempts at one request, without a socket: in which order whatever happens, one answer goes to the client, and
nothing is left behind."""

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from gateway.assembly.gateway import Gateway, build
from gateway.config import load
from gateway.proxy.exchanges.exchange import Exchange
from gateway.proxy.forward.hedging import HedgingForward
from gateway.proxy.gate import Chain
from gateway.telemetry.log.lines import LineWriter
from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.server.connection import ServerConnection
from tests.support.broken import BrokenGate, BrokenTransport
from tests.support.fake_transport import FakeTransport

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
BAD = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
TOO_MANY = b"HTTP/1.1 429 Slow down\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


class Table:
    """A client and an upstream with two endpoints, which the test plays."""

    def __init__(self, gateway: Gateway, stack: ExitStack) -> None:
        self._stack = stack
        self.gateway = gateway
        self.upstream = gateway.topology.upstreams["a"]
        self.to_client = FakeTransport()
        stack.enter_context(self.to_client)
        self.client = ServerConnection(gateway.server)
        self.client.connection_made(self.to_client)
        self.connections = [self._connection(index) for index in range(2)]

    def _connection(self, index: int) -> UpstreamConnection:
        """One that lies idle in the pool of this endpoint."""
        pool = self.upstream.endpoints[index].pool
        connection = UpstreamConnection(pool, "127.0.0.1")
        connection.connection_made(self._stack.enter_context(FakeTransport()))
        pool._members.add(connection)
        pool.release(connection)
        return connection

    def break_connection(self, index: int) -> None:
        """The idle connection to this endpoint cannot be written to from now on."""
        self.connections[index].connection_made(self._stack.enter_context(BrokenTransport()))

    def ask(self) -> HedgingForward:
        self.client.data_received(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        exchange = self.client.exchange
        assert isinstance(exchange, Exchange)
        forward = exchange._forward
        assert isinstance(forward, HedgingForward)
        return forward

    def hedge(self, forward: HedgingForward) -> None:
        """The time for an answer has passed."""
        assert forward._attempt is not None
        forward._late(forward._attempt)

    @property
    def results(self) -> dict[str, int]:
        (hedging,) = self.gateway.topology.routes[0].hedges
        return {result: count for result, count in hedging.results.items() if count}

    @property
    def held(self) -> tuple[int, list[int]]:
        return self.upstream.bulkhead.in_flight, [each.in_flight for each in self.upstream.endpoints]

    @property
    def answered(self) -> bytes:
        return bytes(self.to_client.written)


@pytest.fixture
async def table(tmp_path: Path) -> "Iterator[Table]":  # type: ignore[misc] # an asynchronous generator, which pytest-asyncio runs
    upstream = {
        "endpoints": ["127.0.0.1:1", "127.0.0.1:2"],
        "balance": "round_robin",
        "retry": {"max_attempts": 2, "base_delay": 0.001},
        "breaker": {"slow_call_threshold": "500ms"},
    }
    route = {"name": "a", "prefix": "/a", "upstream": "a", "rate_limit": None, "hedge": {"after": "60s"}}
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump({"upstreams": {"a": upstream}, "routes": [route]}))
    with open(os.devnull, "wb") as nowhere, ExitStack() as stack:  # noqa: ASYNC230, PTH123 - nothing waits for it
        writer = LineWriter(nowhere.fileno())
        yield Table(build(load({"GATEWAY_CONFIG": str(file)}, None), writer), stack)
        writer.close()


async def test_the_hedge_goes_elsewhere_and_has_places_of_its_own(table: Table) -> None:
    forward = table.ask()
    assert table.held == (1, [1, 0])
    table.hedge(forward)
    assert table.held == (2, [1, 1])
    assert forward.ticket.attempts == 2
    assert forward._hedge is not None
    hedge = forward._hedge.attempt
    table.connections[1].data_received(GOOD + b"hedge")
    assert table.answered.endswith(b"hedge")
    assert (table.held, table.results) == ((0, [0, 0]), {"won": 1})
    assert table.connections[0].closed
    assert not table.connections[1].closed
    assert forward.ticket.endpoint == "127.0.0.1:2"
    # From the first attempt to the answer, and nothing twice.
    assert forward._attempt is None
    assert forward.ticket.upstream_seconds == hedge.head_at - forward.ticket.started


async def test_the_first_attempt_wins_where_it_is_first(table: Table) -> None:
    forward = table.ask()
    table.hedge(forward)
    table.connections[0].data_received(GOOD + b"first")
    assert table.answered.endswith(b"first")
    assert (table.held, table.results) == ((0, [0, 0]), {"lost": 1})
    assert table.connections[1].closed
    assert not table.connections[0].closed


@pytest.mark.parametrize("winner", [0, 1])
async def test_the_head_decides_and_the_body_streams(table: Table, winner: int) -> None:
    forward = table.ask()
    table.hedge(forward)
    connection = table.connections[winner]
    connection.data_received(GOOD)
    assert table.connections[1 - winner].closed
    assert table.held == (1, [1 - winner, winner]), "one attempt is left, with one place"
    connection.data_received(b"st")
    table.client.pause_writing()
    table.client.resume_writing()
    connection.data_received(b"one")
    assert table.answered.endswith(b"stone")
    assert table.held == (0, [0, 0])
    assert table.results == ({"won": 1} if winner else {"lost": 1})


@pytest.mark.parametrize("winner", [0, 1])
async def test_an_answer_that_breaks_off_is_the_winners_failure(table: Table, winner: int) -> None:
    forward = table.ask()
    table.hedge(forward)
    table.connections[winner].data_received(GOOD + b"st")
    table.connections[winner].eof_received()
    assert table.client.exchange is None
    assert forward.ticket.reason == "upstream_truncated"
    assert (table.held, table.results) == ((0, [0, 0]), {"won": 1} if winner else {"lost": 1})


@pytest.mark.parametrize(
    ("failing", "gone"), list(itertools.product([0, 1], [BAD, TOO_MANY, b"nonsense\r\n\r\n", None]))
)
async def test_the_other_one_is_waited_for(table: Table, failing: int, gone: bytes | None) -> None:
    forward = table.ask()
    table.hedge(forward)
    if gone is None:
        table.connections[failing].eof_received()
    else:
        table.connections[failing].data_received(gone)
    assert table.held == (1, [failing, 1 - failing])
    assert table.answered == b""
    table.connections[1 - failing].data_received(GOOD + b"other")
    assert table.answered.endswith(b"other")
    assert (table.held, table.results) == ((0, [0, 0]), {"lost": 1} if failing else {"won": 1})
    assert 0.0 < forward.ticket.upstream_seconds <= time.monotonic() - forward.ticket.started


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_when_both_have_failed_the_last_answer_counts(table: Table, order: tuple[int, int]) -> None:
    """Both attempts that are allowed were made."""
    forward = table.ask()
    table.hedge(forward)
    table.connections[order[0]].data_received(BAD)
    table.connections[order[1]].data_received(BAD)
    assert table.answered.startswith(b"HTTP/1.1 503 No")
    assert (table.held, table.results) == ((0, [0, 0]), {"failed": 1})
    assert forward.ticket.attempts == 2


async def test_when_both_connections_had_died_of_old_age_the_request_is_sent_once_more(table: Table) -> None:
    """For free: neither counts as an attempt. Both were used before."""
    for _ in range(2):
        table.ask()
        for connection in table.connections:
            if connection._sink is not None:
                connection.data_received(GOOD + b"warm!")
    forward = table.ask()
    table.hedge(forward)
    for connection in table.connections:
        connection.eof_received()
    assert forward.ticket.attempts == 0, "the third is about to begin"
    assert table.results == {"failed": 1}
    forward.cancel()
    assert table.held[1] == [0, 0]


@pytest.mark.parametrize("failed", [None, 0, 1])
async def test_a_client_that_leaves_takes_everything_along(table: Table, failed: int | None) -> None:
    forward = table.ask()
    table.hedge(forward)
    if failed is not None:
        table.connections[failed].data_received(BAD)
    table.client.connection_lost(None)
    assert (table.held, table.results) == ((0, [0, 0]), {"abandoned": 1})
    assert all(each.closed for index, each in enumerate(table.connections) if index != failed)


async def test_what_comes_before_the_head_is_nobodys_while_both_run(table: Table) -> None:
    forward = table.ask()
    table.hedge(forward)
    table.connections[0].data_received(HINTS)
    table.connections[1].data_received(HINTS)
    assert table.answered == b""
    table.connections[1].data_received(GOOD + b"hedge")
    assert table.answered.startswith(b"HTTP/1.1 200 OK")


async def test_a_request_is_hedged_once(table: Table) -> None:
    forward = table.ask()
    table.hedge(forward)
    table.connections[1].data_received(BAD)
    table.hedge(forward)
    assert table.held == (1, [1, 0])
    assert forward.ticket.log_decisions["hedge"] == "attempts"
    table.connections[0].data_received(GOOD + b"first")
    assert forward.ticket.log_decisions["hedge"] == "lost"


async def test_an_answer_that_streams_is_not_late(table: Table) -> None:
    forward = table.ask()
    table.connections[0].data_received(GOOD + b"st")
    table.hedge(forward)
    assert table.held == (1, [1, 0])
    table.connections[0].data_received(b"one")
    assert table.results == {}


async def test_after_a_stall_what_has_arrived_is_read_before_a_request_counts_as_late(table: Table) -> None:
    forward = table.ask()
    assert forward._attempt is not None
    forward._late(forward._attempt, time.monotonic() - 0.3)
    assert (forward._hedge, forward._hedge_timer is not None) == (None, True)
    table.connections[0].data_received(GOOD + b"first")
    assert table.answered.endswith(b"first")
    assert (table.held, table.results, forward._hedge_timer) == ((0, [0, 0]), {}, None)


async def test_a_late_timer_of_an_earlier_attempt_means_nothing(table: Table) -> None:
    forward = table.ask()
    earlier = forward._attempt
    assert earlier is not None
    table.connections[0].data_received(GOOD + b"first")
    forward._late(earlier)
    assert table.held == (0, [0, 0])


async def test_what_a_beaten_attempt_had_waited_may_be_a_slow_call_and_is_nothing_else(table: Table) -> None:
    forward = table.ask()
    first = forward._attempt
    assert first is not None
    first._sent_at -= 1.0
    table.hedge(forward)
    table.connections[1].data_received(GOOD + b"hedge")
    counts = table.upstream.circuit.counts(time.monotonic())
    assert (counts.calls, counts.failures, counts.slow_calls) == (2, 0, 1)


async def test_an_adaptive_limit_and_p95_hear_nothing_of_the_hedge_itself(table: Table) -> None:
    (hedging,) = table.gateway.topology.routes[0].hedges
    assert [gate.name for gate in hedging.chain.gates] == ["bulkhead", "circuit"]
    chain = table.gateway.topology.routes[0].chain
    assert chain.gates[-1].name == "hedge"
    forward = table.ask()
    table.hedge(forward)
    table.connections[1].data_received(GOOD)
    assert forward.ticket.entered == len(chain.gates) - 1


async def test_an_upstream_that_pushes_back_is_left_alone(table: Table) -> None:
    forward = table.ask()
    table.hedge(forward)
    table.connections[1].data_received(TOO_MANY)
    (hedging,) = table.gateway.topology.routes[0].hedges
    now = time.monotonic()
    assert 6.0 < hedging.delay.held_off(now) <= 7.0
    table.connections[0].data_received(GOOD + b"first")


async def test_the_gateway_that_sheds_load_makes_no_hedge(table: Table) -> None:
    forward = table.ask()
    (hedging,) = table.gateway.topology.routes[0].hedges
    cap = hedging._in_flight
    held, cap.in_flight = cap.in_flight, cap.limit
    table.hedge(forward)
    cap.in_flight = held
    assert table.held == (1, [1, 0])
    assert hedging.not_made["overload"] == 1
    assert forward.ticket.log_decisions["hedge"] == "overload"
    table.connections[0].data_received(GOOD + b"first")
    assert forward.ticket.log_decisions["hedge"] == "overload"


async def test_endpoints_that_are_all_out_get_no_hedge(table: Table) -> None:
    forward = table.ask()
    (hedging,) = table.gateway.topology.routes[0].hedges
    assert hedging.obstacle_at(None, 0.0) == "endpoints_out"
    assert hedging.obstacle(forward.ticket, 1, 0.0, 1.0) == "deadline"
    table.connections[0].data_received(GOOD + b"first")


async def test_a_defect_of_a_hedge_leaves_the_first_attempt_alone(
    table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    forward = table.ask()
    table.break_connection(1)
    table.hedge(forward)
    assert table.held == (1, [1, 0])
    assert "ValueError: a defect" in caplog.text
    table.connections[0].data_received(GOOD + b"first")
    assert table.answered.endswith(b"first")
    assert (table.held, table.results) == ((0, [0, 0]), {"lost": 1})


@pytest.mark.parametrize("method", ["check", "enter"])
async def test_a_defect_of_a_gate_for_a_hedge_leaves_the_first_attempt_alone(
    table: Table, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    forward = table.ask()
    (hedging,) = table.gateway.topology.routes[0].hedges
    hedging.chain = Chain((*hedging.chain.gates, BrokenGate(method)), hedging.chain.per_attempt)
    table.hedge(forward)
    assert table.held == (1, [1, 0])
    assert "ValueError: a defect" in caplog.text
    table.connections[0].data_received(GOOD + b"first")
    assert table.answered.endswith(b"first")
    assert (table.held, table.results) == ((0, [0, 0]), {})
