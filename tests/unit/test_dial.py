"""Whether an upstream can be reached from here: over real sockets, with the addresses that requests use."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from gateway.config.sections.upstreams.model import EndpointConfig
from gateway.wire.client.dial import Resolve, reachable
from tests.support.ports import free_port


@pytest.fixture
async def listening() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def to(*addresses: tuple[str, int]) -> Resolve:
    async def resolve(host: str, port: int) -> Sequence[tuple[Any, ...]]:
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, host)
        return addresses

    return resolve


ORDERS = [EndpointConfig("orders", 80)]


async def test_the_resolvers_addresses_are_tried(listening: int) -> None:
    assert await reachable(to(("127.0.0.1", free_port()), ("127.0.0.1", listening)), ORDERS)


async def test_nobody_listens() -> None:
    assert not await reachable(to(("127.0.0.1", free_port())), ORDERS)


async def test_no_address() -> None:
    assert not await reachable(to(), ORDERS)


async def test_one_endpoint_is_enough(listening: int) -> None:
    async def resolve(host: str, port: int) -> Sequence[tuple[Any, ...]]:
        return [("127.0.0.1", listening if host == "second" else free_port())]

    assert await reachable(resolve, [EndpointConfig("first", 80), EndpointConfig("second", 80)])


async def test_an_answer_that_does_not_come_is_no() -> None:
    never = asyncio.Event()

    async def resolve(host: str, port: int) -> Sequence[tuple[Any, ...]]:
        await never.wait()
        return []

    assert not await reachable(resolve, ORDERS, within=0.01)


async def test_the_connection_is_closed_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert await reachable(to(listening.getsockname()), ORDERS)
        accepted, _ = listening.accept()
        with accepted, contextlib.suppress(ConnectionResetError):
            accepted.settimeout(5.0)
            assert await asyncio.to_thread(accepted.recv, 1) == b""


async def test_who_cannot_even_try_says_nothing() -> None:
    async def resolve(host: str, port: int) -> Sequence[tuple[Any, ...]]:
        raise OSError(errno.EMFILE, "too many open files")

    assert await reachable(resolve, ORDERS) is None
