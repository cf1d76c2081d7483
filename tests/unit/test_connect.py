"""Which of several addresses is connected to, when, and what is remembered of it: over real sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import ClassVar, cast

import pytest

from gateway.wire.client.connect import SocketAddress, attempt_delay, connect
from tests.support.ports import free_port

DELAY = 0.05


class Caller(asyncio.Protocol):
    made: ClassVar["list[Caller]"] = []

    def __init__(self, address: SocketAddress) -> None:
        self.address = address
        self.ended = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        Caller.made.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)


@pytest.fixture(autouse=True)
async def hang_up() -> AsyncIterator[None]:
    Caller.made.clear()
    yield
    for each in Caller.made:
        if each.transport is not None:
            each.transport.abort()
            # One that was cancelled in the making is closed, but not told.
            await asyncio.wait({each.ended}, timeout=0.2)


@pytest.fixture
def port() -> Iterator[int]:
    """Listened to on 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


class Blackhole:
    """An address that takes no connection and refuses none: its queue is full, so that further SYNs are dropped."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_server((host, port), backlog=0)
        self._fill = []
        for _ in range(3):
            filling = socket.socket()
            filling.setblocking(False)
            filling.connect_ex((host, port))
            self._fill.append(filling)

    def close(self) -> None:
        for each in (*self._fill, self._socket):
            each.close()


@pytest.fixture
def holes(port: int) -> Iterator[list[SocketAddress]]:
    """Seven dead addresses."""
    hosts = [f"127.0.0.{number}" for number in range(2, 9)]
    opened = [Blackhole(host, port) for host in hosts]
    yield [(host, port) for host in hosts]
    for each in opened:
        each.close()


async def test_a_dead_address_is_overtaken(port: int, holes: list[SocketAddress]) -> None:
    told: list[tuple[SocketAddress, bool]] = []
    async with asyncio.timeout(10.0):
        caller = await connect(
            [holes[0], ("127.0.0.1", port)], Caller, delay=DELAY, note=lambda *what: told.append(what)
        )
    assert caller.address == ("127.0.0.1", port)
    assert told == [(("127.0.0.1", port), True), (holes[0], False)]


async def test_seven_of_eight_are_dead(port: int, holes: list[SocketAddress]) -> None:
    async with asyncio.timeout(10.0):
        caller = await connect([*holes, ("127.0.0.1", port)], Caller, delay=DELAY)
    assert caller.address == ("127.0.0.1", port)


def test_all_of_many_have_begun_in_the_time_there_is() -> None:
    assert attempt_delay(2, 2.0) == 0.25
    for count in (1, 8, 12, 40):
        assert attempt_delay(count, 2.0) * count < 2.0


async def test_a_refused_address_gives_way_at_once(port: int) -> None:
    # With a delay that would outlast the test if it were waited for.
    async with asyncio.timeout(10.0):
        caller = await connect([("127.0.0.1", free_port()), ("127.0.0.1", port)], Caller, delay=3600.0)
    assert caller.address == ("127.0.0.1", port)


async def test_who_comes_second_is_closed(port: int) -> None:
    with socket.create_server(("127.0.0.2", port)) as listening:
        listening.settimeout(5.0)
        caller = await connect([("127.0.0.1", port), ("127.0.0.2", port)], Caller, delay=0.0)
        second = (await asyncio.to_thread(listening.accept))[0]
        with second, contextlib.suppress(ConnectionResetError):
            second.settimeout(5.0)
            assert await asyncio.to_thread(second.recv, 1) == b""
    assert not caller.ended.done()


async def test_being_cancelled_leaves_nothing_open(holes: list[SocketAddress]) -> None:
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await connect(holes, Caller, delay=0.01)
    assert asyncio.all_tasks() == before
