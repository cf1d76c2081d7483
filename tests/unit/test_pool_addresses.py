"""A name with several addresses, none of which makes a connection: whose failure is told."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from gateway.wire.client.pool import ConnectFailure, EndpointPool
from gateway.wire.client.resolver import Resolver
from tests.support.ports import free_port

# Connecting to the broadcast address over TCP fails at once, and sends nothing.
REFUSES, UNROUTABLE = "127.0.0.2", "255.255.255.255"


async def failure(port: int, *addresses: str, tls: ssl.SSLContext | None = None) -> object:
    async def name_server(host: str, port: int, *, type: int) -> list[tuple[Any, ...]]:  # noqa: A002
        return [(socket.AF_INET, type, 6, "", (address, port)) for address in addresses]

    loop = asyncio.get_running_loop()
    pool = EndpointPool(loop, Resolver(5.0, getaddrinfo=name_server), "a", port, tls=tls)
    told: asyncio.Future[object] = loop.create_future()
    pool.request(told.set_result)
    return await asyncio.wait_for(told, 10.0)


@pytest.mark.parametrize("addresses", [(REFUSES, UNROUTABLE), (UNROUTABLE, REFUSES)])
async def test_a_refusal_says_more_than_no_route(addresses: tuple[str, str]) -> None:
    assert await failure(free_port(), *addresses) is ConnectFailure.REFUSED


def no_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize("answers", [no_tls, reset])
@pytest.mark.parametrize("other", [REFUSES, UNROUTABLE])
@pytest.mark.parametrize("first", [True, False])
async def test_a_failure_of_tls_says_more_than_no_connection(
    first: bool, other: str, answers: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]
) -> None:
    server = await asyncio.start_server(answers, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        addresses = ("127.0.0.1", other) if first else (other, "127.0.0.1")
        assert await failure(port, *addresses, tls=ssl.create_default_context()) is ConnectFailure.TLS


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EADDRNOTAVAIL, errno.ENOMEM])
async def test_a_lack_of_this_host_is_nobody_elses_fault(number: int) -> None:
    async def lacking(host: str, port: int, *, type: int) -> list[tuple[Any, ...]]:  # noqa: A002
        raise OSError(number, "lacking")

    loop = asyncio.get_running_loop()
    pool = EndpointPool(loop, Resolver(5.0, getaddrinfo=lacking), "a", 80)
    told: asyncio.Future[object] = loop.create_future()
    pool.request(told.set_result)
    assert await asyncio.wait_for(told, 10.0) is ConnectFailure.LOCAL
    assert pool.lacking


@pytest.mark.parametrize("passes", [1.0, 5.0])
async def test_the_sweep_takes_nobodys_turn(passes: float) -> None:
    """A pool that opens a connection now and then, and sweeps in between, still goes from one address to the next."""

    async def name_server(host: str, port: int, *, type: int) -> list[tuple[Any, ...]]:  # noqa: A002
        return [(socket.AF_INET, type, 6, "", (address, port)) for address in ("10.0.0.1", "10.0.0.2")]

    now = 1000.0
    resolver = Resolver(5.0, lambda: now, name_server)
    pool = EndpointPool(asyncio.get_running_loop(), resolver, "a", 80)
    first = []
    for _ in range(4):
        first.append((await resolver.resolve("a", 80))[0][0])
        now += passes
        pool._sweep()
        await asyncio.sleep(0.01)  # after 5 s the name is looked up again, in a task
    assert first == ["10.0.0.1", "10.0.0.2"] * 2
    pool.close()
