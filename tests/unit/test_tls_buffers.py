"""TLS connections whose buffers have grown: counted, written to in records, and not kept idle when there are many."""

import asyncio
import time
from typing import Any, cast

from gateway.wire.message.request import Limits
from gateway.wire.server.connection import ServerConnection
from gateway.wire.server.registry import Server
from gateway.wire.server.tls_buffers import GROWN_KEEPALIVE, MAX_GROWN, map_large_blocks


class Transport:
    def __init__(self) -> None:
        self.writes: list[int] = []
        self.high = 0

    def get_extra_info(self, name: str) -> Any:
        return {"peername": ("192.0.2.1", 1234), "sslcontext": object()}.get(name)

    def set_read_buffer_limits(self, high: int) -> None:
        self.high = high

    def write(self, data: bytes) -> None:
        self.writes.append(len(data))

    def is_closing(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Loop:
    def call_soon(self, *_: object) -> None: ...
    def call_later(self, *_: object) -> None: ...


class Front:
    """Answers nothing: the test finishes the request."""

    def begin(self, connection: ServerConnection, request: object) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def connected(scheme: str = "https") -> tuple[ServerConnection, Transport, Server]:
    server = Server(cast(Any, Loop()), cast(Any, Front()), limits=Limits(), scheme=scheme)
    connection = ServerConnection(server)
    transport = Transport()
    connection.connection_made(cast(asyncio.BaseTransport, transport))
    return connection, transport, server


def ask(connection: ServerConnection, padding: int = 0) -> None:
    connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * padding + b"\r\n\r\n")


def test_large_blocks_are_written_in_records() -> None:
    connection, transport, server = connected()
    connection.write(bytes(40_000))
    connection.write(bytes(16_384))
    assert transport.writes == [16_384, 16_384, 7_232, 16_384]
    assert server.grown == 1
    plain, transport, server = connected("http")
    plain.write(bytes(40_000))
    assert transport.writes == [40_000]
    assert server.grown == 0


def test_what_is_collected_while_it_rests_is_bounded() -> None:
    _, transport, _ = connected()
    assert transport.high == 16_384


def test_a_grown_connection_is_kept_while_there_are_few() -> None:
    for others, grows, short in ((0, True, False), (MAX_GROWN, True, True), (MAX_GROWN, False, False)):
        connection, _, server = connected()
        server.grown = others
        ask(connection, 20_000 if grows else 20)
        assert server.grown == others + grows
        now = time.monotonic()
        connection.answer(b"HTTP/1.1 204 \r\n\r\n", now, True)
        assert connection.deadline == now + (GROWN_KEEPALIVE if short else server.keepalive_timeout)
        connection.abort()
        assert server.grown == others


def test_malloc_is_told() -> None:
    assert map_large_blocks() in {True, False}
