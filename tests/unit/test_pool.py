"""The pool of one endpoint, without sockets: who gets which connection, and when one is made."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.wire.client.connection import ConnectionOwner, UpstreamConnection
from gateway.wire.client.lifetime import Closed, Lifetime
from gateway.wire.client.pool import ConnectFailure, EndpointPool
from gateway.wire.client.resolver import Resolver
from gateway.wire.client.response_sink import Nobody
from tests.support.fake_transport import FakeTransport

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
Result = UpstreamConnection | ConnectFailure


class Upstream:
    """What connecting comes to: a transport, or the error that is set."""

    def __init__(self) -> None:
        self.transports: list[FakeTransport] = []
        self.error: Exception | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def connect(self, pool: ConnectionOwner) -> UpstreamConnection:
        """A connection over a transport without a socket."""
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        transport = FakeTransport()
        self.transports.append(transport)
        connection = UpstreamConnection(pool, "192.0.2.7")
        connection.connection_made(transport)
        return connection


class Pool(EndpointPool):
    """Connects to an `Upstream` of the test; how a real one is connected to has tests of its own."""

    upstream: Upstream

    async def _open(self) -> UpstreamConnection:
        return await self.upstream.connect(self)


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[Upstream]:
    made = Upstream()
    yield made
    for transport in made.transports:
        transport.socket.close()


def pool_of(upstream: Upstream, most: int = 2, lifetime: Lifetime | None = None) -> EndpointPool:
    pool = Pool(
        asyncio.get_running_loop(),
        Resolver(),
        "192.0.2.7",
        80,
        max_connections=most,
        lifetime=lifetime or Lifetime(),
        rng=random.Random(1),
    )
    pool.upstream = upstream
    return pool


async def settled() -> None:
    """Let the tasks that connect go on as far as they can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def got(pool: EndpointPool) -> UpstreamConnection:
    """A connection, made for this."""
    results: list[Result] = []
    pool.request(results.append)
    await settled()
    assert isinstance(results[0], UpstreamConnection)
    return results[0]


def use(connection: UpstreamConnection, answer: bytes = NO_CONTENT) -> None:
    """One request and its answer."""
    connection.send(Nobody(), b"GET / HTTP/1.1\r\n\r\n", to_head=False, more=False)
    connection.data_received(answer)


def looks(pool: EndpointPool) -> str:
    return repr(pool).removeprefix("<EndpointPool 192.0.2.7:80 ").removesuffix(">")


async def test_a_connection_comes_back_and_the_newest_goes_out_first(upstream: Upstream) -> None:
    pool = pool_of(upstream)
    assert (pool.take(), pool.has_room) == (None, True)
    older, newer = await got(pool), await got(pool)
    assert (looks(pool), pool.has_room) == ("idle=0 open=2 connecting=0 waiting=0", False)
    use(older)
    use(newer)
    assert (looks(pool), pool.has_room) == ("idle=2 open=2 connecting=0 waiting=0", True)
    assert (pool.take(), pool.take(), pool.take()) == (newer, older, None)
    pool.close()


@pytest.mark.parametrize("cause", [Closed.UPSTREAM, Closed.UNASKED])
async def test_idle_connections_that_are_dead_are_no_room(upstream: Upstream, cause: Closed) -> None:
    """They have ended, or something has come on them, and the loop has not read it yet."""
    pool = pool_of(upstream, 3)
    first, second, busy = await got(pool), await got(pool), await got(pool)
    use(first)
    use(second)
    for transport in upstream.transports[:2]:
        transport.socket.end() if cause is Closed.UPSTREAM else transport.socket.arrive(b"HTTP/1.1 408 \r\n\r\n")
    # There is the room that they have left.
    assert (pool.has_room, looks(pool), pool.closed[cause]) == (True, "idle=0 open=1 connecting=0 waiting=0", 2)
    pool.request(lambda _: None)
    pool.request(lambda _: None)
    await settled()
    pool.request(lambda _: None)
    assert not pool.has_room
    use(busy)
    pool.close()


async def test_who_waits_comes_before_the_room_of_a_dead_connection(upstream: Upstream) -> None:
    pool = pool_of(upstream, 1)
    use(await got(pool))
    upstream.transports[0].socket.end()
    upstream.may_answer.clear()
    assert pool.take() is None
    pool.request(lambda _: None)
    assert not pool.has_room
    upstream.may_answer.set()
    await settled()
    pool.close()


async def test_no_more_connections_than_may_be_and_the_oldest_waiter_first(upstream: Upstream) -> None:
    pool = pool_of(upstream, 1)
    busy = await got(pool)
    order: list[tuple[str, Result]] = []
    pool.request(lambda result: order.append(("first", result)))
    leaves = pool.request(lambda result: order.append(("leaves", result)))
    pool.request(lambda result: order.append(("last", result)))
    await settled()
    assert (looks(pool), pool.full, pool.has_room) == ("idle=0 open=1 connecting=0 waiting=3", True, False)
    leaves.cancel()
    use(busy)
    await settled()
    assert order == [("first", busy)]
    use(busy)
    await settled()
    assert order == [("first", busy), ("last", busy)]
    assert len(upstream.transports) == 1
    pool.close()


async def test_a_waiter_takes_what_comes_first(upstream: Upstream) -> None:
    """A connection that comes back serves him, although one is being made for him; that one is kept for the next."""
    pool = pool_of(upstream, 2)
    busy = await got(pool)
    upstream.may_answer.clear()
    results: list[Result] = []
    pool.request(results.append)
    await settled()
    assert looks(pool) == "idle=0 open=1 connecting=1 waiting=1"
    use(busy)
    await settled()
    assert results == [busy]
    upstream.may_answer.set()
    await settled()
    assert looks(pool) == "idle=1 open=2 connecting=0 waiting=0"
    pool.close()


async def test_a_failure_goes_to_one_waiter_and_the_next_has_a_try_of_its_own(upstream: Upstream) -> None:
    pool = pool_of(upstream, 1)
    upstream.error = ConnectionRefusedError()
    results: list[Result] = []
    pool.request(results.append)
    pool.request(results.append)
    await settled()
    await settled()
    assert results == [ConnectFailure.REFUSED, ConnectFailure.REFUSED]
    assert looks(pool) == "idle=0 open=0 connecting=0 waiting=0"
    pool.close()


async def test_a_defect_while_connecting_is_told_at_once_and_leaves_the_pool_usable(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    pool = pool_of(upstream, 1)
    upstream.error = RuntimeError("a defect")
    results: list[Result] = []
    pool.request(results.append)
    pool.request(results.append)
    await settled()
    await settled()
    assert results == [ConnectFailure.LOCAL, ConnectFailure.LOCAL]
    assert pool.lacking == "the gateway failed to connect; its log says why"
    assert {record.getMessage() for record in caplog.records} == {"connecting to 192.0.2.7:80 failed"}
    assert all(record.exc_info for record in caplog.records)
    upstream.error = None
    await got(pool)
    pool.close()


async def test_a_connection_that_died_idle_is_not_handed_out(upstream: Upstream) -> None:
    pool = pool_of(upstream)
    connection = await got(pool)
    use(connection)
    upstream.transports[0].socket.end()
    assert pool.take() is None
    assert (looks(pool), pool.closed[Closed.UPSTREAM]) == ("idle=0 open=0 connecting=0 waiting=0", 1)
    pool.close()


@pytest.mark.parametrize(
    ("lifetime", "answer"),
    [(Lifetime(requests=1), NO_CONTENT), (Lifetime(), b"HTTP/1.1 204 No\r\nKeep-Alive: max=1\r\n\r\n")],
)
async def test_a_connection_carries_no_more_requests_than_it_may(
    upstream: Upstream, lifetime: Lifetime, answer: bytes
) -> None:
    pool = pool_of(upstream, lifetime=lifetime)
    use(await got(pool), answer)
    assert (looks(pool), pool.closed[Closed.REQUESTS]) == ("idle=0 open=0 connecting=0 waiting=0", 1)
    pool.close()


async def test_the_sweep_closes_what_is_too_old(upstream: Upstream) -> None:
    pool = pool_of(upstream, lifetime=Lifetime(age=1e-9))
    use(await got(pool))
    assert looks(pool) == "idle=1 open=1 connecting=0 waiting=0"
    pool._sweep()
    assert (looks(pool), pool.closed[Closed.AGE]) == ("idle=0 open=0 connecting=0 waiting=0", 1)
    pool.close()


async def test_a_closed_pool_closes_what_is_idle_now_and_what_is_busy_later(upstream: Upstream) -> None:
    pool = pool_of(upstream)
    idle, busy = await got(pool), await got(pool)
    use(idle)
    pool.close()
    assert (idle.closed, busy.closed) == (True, False)
    use(busy)
    assert busy.closed
    assert looks(pool) == "idle=0 open=0 connecting=0 waiting=0"


async def test_who_has_given_up_leaves_nothing_in_the_queue_and_is_connected_for_by_nobody(upstream: Upstream) -> None:
    pool = pool_of(upstream, 3)
    busy = [await got(pool) for _ in range(3)]
    results: list[Result] = []
    for _ in range(10):
        pool.request(results.append).cancel()
    assert looks(pool) == "idle=0 open=3 connecting=0 waiting=0"
    for connection in busy:
        connection.abort()
    await settled()
    assert (looks(pool), len(upstream.transports)) == ("idle=0 open=0 connecting=0 waiting=0", 3)
    assert results == []
    pool.close()


async def test_a_closed_pool_connects_for_nobody(upstream: Upstream) -> None:
    pool = pool_of(upstream, 1)
    busy = await got(pool)
    pool.request(lambda _: None)
    pool.close()
    busy.abort()
    await settled()
    assert looks(pool) == "idle=0 open=0 connecting=0 waiting=1"
    assert len(upstream.transports) == 1
