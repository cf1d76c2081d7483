"""How the upstreams of a fallback share the time limit of the first one, without a socket."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from gateway.assembly.gateway import Gateway, build
from gateway.config import load
from gateway.proxy.exchanges.exchange import Exchange
from gateway.proxy.forward.falling_back import FallbackForward
from gateway.telemetry.log.lines import LineWriter
from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.server.connection import ServerConnection
from tests.support.fake_transport import FakeTransport

BAD = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"


class Table:
    """A client and three upstreams, which the test plays."""

    def __init__(self, gateway: Gateway, stack: ExitStack) -> None:
        self._stack = stack
        self._gateway = gateway
        self.client = ServerConnection(gateway.server)
        self.client.connection_made(self._transport())

    def _transport(self) -> FakeTransport:
        return self._stack.enter_context(FakeTransport())

    def upstream(self, name: str) -> UpstreamConnection:
        """A connection that lies idle in the pool of this upstream."""
        pool = self._gateway.topology.upstreams[name].endpoints[0].pool
        connection = UpstreamConnection(pool, "127.0.0.1")
        connection.connection_made(self._transport())
        pool.release(connection)
        return connection

    def ask(self, path: str) -> FallbackForward:
        self.client.data_received(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        exchange = self.client.exchange
        assert isinstance(exchange, Exchange)
        forward = exchange._forward
        assert isinstance(forward, FallbackForward)
        return forward


@pytest.fixture
async def table(tmp_path: Path) -> "Iterator[Table]":  # type: ignore[misc] # an asynchronous generator, which pytest-asyncio runs
    times = {"c": {"attempt": 2, "total": 4}}
    usual = {"attempt": 9, "total": 30}
    upstreams = {
        name: {"endpoints": [f"127.0.0.1:{port}"], "timeouts": times.get(name, usual), "retry": {"max_attempts": 1}}
        for port, name in enumerate("abc", 1)
    }
    common = {"upstream": "a", "rate_limit": None}
    routes = [
        {"name": "equal", "prefix": "/equal", **common, "fallback": {"upstream": ["b", "c"]}},
        {"name": "after", "prefix": "/after", **common, "fallback": {"upstream": ["b", "c"], "after": 24}},
        {"name": "alone", "prefix": "/alone", **common, "fallback": {"response": {"status": 503}}},
    ]
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump({"upstreams": upstreams, "routes": routes}))
    with open(os.devnull, "wb") as nowhere, ExitStack() as stack:  # noqa: ASYNC230, PTH123 - nothing waits for it
        writer = LineWriter(nowhere.fileno())
        yield Table(build(load({"GATEWAY_CONFIG": str(file)}, None), writer), stack)
        writer.close()


async def test_each_has_an_equal_part_of_what_is_left_and_no_more_than_its_own_limit(table: Table) -> None:
    first, second, third = (table.upstream(name) for name in "abc")
    forward = table.ask("/equal")
    end = forward.last_deadline
    begun = forward.ticket.started
    assert (forward.total_timeout, forward.total_deadline - begun) == pytest.approx((10.0, 10.0))
    assert end - begun == pytest.approx(30.0)
    first.data_received(BAD)
    await asyncio.sleep(0)
    assert forward.target.upstream.name == "b"
    # What the first has left over is shared by the others.
    assert forward.total_timeout == pytest.approx((end - forward._began) / 2)
    assert forward.last_deadline == pytest.approx(end)
    await asyncio.sleep(0)
    second.data_received(BAD)
    await asyncio.sleep(0)
    assert forward.target.upstream.name == "c"
    assert forward.total_timeout == 4.0
    assert forward.last_deadline == pytest.approx(end)
    await asyncio.sleep(0)
    third.data_received(BAD)
    assert table.client.exchange is None


async def test_the_first_may_be_given_another_part(table: Table) -> None:
    first = table.upstream("a")
    table.upstream("b")
    forward = table.ask("/after")
    assert forward.total_timeout == 24.0
    assert forward.last_deadline - forward.ticket.started == pytest.approx(30.0)
    first.data_received(BAD)
    await asyncio.sleep(0)
    assert 14.0 < forward.total_timeout <= 15.0


async def test_without_another_upstream_the_first_has_all_of_it(table: Table) -> None:
    table.upstream("a")
    forward = table.ask("/alone")
    assert (forward.total_timeout, forward.last_deadline) == (30.0, forward.total_deadline)
