"""How much of one peer is handled in one turn of the event loop, with real sockets whose buffers are full."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from gateway.wire.client.connection import ConnectionOwner, UpstreamConnection
from gateway.wire.client.lifetime import Closed
from gateway.wire.client.response_sink import Loss, Nobody
from gateway.wire.message.request import Limits
from gateway.wire.ports import Front
from gateway.wire.server.connection import ServerConnection
from gateway.wire.server.registry import Server
from gateway.wire.tunnel import Tunnel, TunnelLimits

# One read of uvloop. Without turns it would be up to 32 of them.
_ONE_READ = 256_000
# Of what is passed on without being looked at.
_PASSED = 4 * _ONE_READ
_SENT = 4_000_000


class Meter:
    """Bytes handled in each turn of the loop."""

    def __init__(self) -> None:
        self.turns = [0]
        self._loop = asyncio.get_running_loop()
        self._on = True
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        if self._on:
            self.turns.append(0)
            self._loop.call_soon(self._next)

    def took(self, count: int) -> None:
        self.turns[-1] += count

    @property
    def total(self) -> int:
        return sum(self.turns)

    async def until(self, count: int) -> None:
        try:
            async with asyncio.timeout(60):
                while self.total < count:
                    await asyncio.sleep(0.01)
        finally:
            self._on = False


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection: the first blocks, the second does not."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        with socket.socket() as ours:
            ours.connect(listening.getsockname())
            theirs, _ = listening.accept()
            theirs.setblocking(False)
            with theirs:
                yield ours, theirs


async def fill(sock: socket.socket, octets: bytes) -> None:
    await asyncio.to_thread(sock.sendall, octets)


class Swallowing(Front):
    """A front and an exchange that take a request body and never answer."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def begin(self, connection: object, request: object) -> Any:
        return self

    def request_body(self, data: bytes) -> None:
        self._meter.took(len(data))

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


async def test_of_an_upload_four_reads_are_handled_in_a_turn() -> None:
    loop = asyncio.get_running_loop()
    async with pair() as (client, accepted):
        # All of it is there before the first turn that reads.
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % _SENT
        filling = asyncio.create_task(fill(client, head + bytes(_SENT)))
        await asyncio.sleep(0.2)
        meter = Meter()
        server = Server(loop, cast(Any, Swallowing(meter)), limits=Limits())
        transport, _ = await loop.connect_accepted_socket(lambda: ServerConnection(server), accepted)
        await meter.until(_SENT)
        await filling
        transport.abort()
        server.deadlines.close()
    assert max(meter.turns) <= _PASSED
    assert meter.total == _SENT


class Sink(Nobody):
    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.lost = ""

    def response_body(self, data: bytes) -> None:
        self._meter.took(len(data))

    def upstream_lost(self, loss: Loss, detail: str) -> None:
        self.lost = detail


class NoPool(ConnectionOwner):
    """Keeps no connection."""

    def release(self, connection: UpstreamConnection) -> None:
        connection.close()

    def forget(self, connection: UpstreamConnection) -> None: ...
    def retired(self, cause: Closed) -> None: ...


class Asking(UpstreamConnection):
    """Sends its request before it can read."""

    def __init__(self, owner: ConnectionOwner, sink: Nobody) -> None:
        super().__init__(owner, "127.0.0.1")
        self._asks = sink

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send(self._asks, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", to_head=False, more=False)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_of_a_download_a_few_reads_are_handled_in_a_turn(framing: str) -> None:
    loop = asyncio.get_running_loop()
    head = {"length": b"Content-Length: %d\r\n" % _SENT, "chunked": b"Transfer-Encoding: chunked\r\n", "close": b""}
    body = b"%x\r\n" % _SENT + bytes(_SENT) if framing == "chunked" else bytes(_SENT)
    async with pair() as (upstream, ours):
        filling = asyncio.create_task(fill(upstream, b"HTTP/1.1 200 OK\r\n" + head[framing] + b"\r\n" + body))
        await asyncio.sleep(0.2)
        meter = Meter()
        sink = Sink(meter)
        owner = NoPool()
        transport, _ = await loop.connect_accepted_socket(lambda: Asking(owner, sink), ours)
        await meter.until(_SENT)
        await filling
        transport.abort()
    assert not sink.lost
    assert max(meter.turns) <= (_PASSED if framing == "length" else _ONE_READ)


async def test_each_side_of_a_tunnel_is_handled_one_read_in_a_turn() -> None:
    loop = asyncio.get_running_loop()
    async with pair() as (client, from_client), pair() as (upstream, from_upstream):
        frames = (b"\x82\x7e\xff\xff" + bytes(65_535)) * 30
        transports = [
            (await loop.connect_accepted_socket(asyncio.Protocol, each))[0] for each in (from_client, from_upstream)
        ]
        tunnel = Tunnel(transports[0], transports[1], TunnelLimits(60.0, 60.0, 60.0, 65_536), lambda _: None)
        reader = asyncio.create_task(asyncio.to_thread(receive, upstream, len(frames)))
        tunnel.start(from_client=b"", from_upstream=b"")
        sending = asyncio.create_task(fill(client, frames))
        seen = 0
        counts = []
        ends = loop.time() + 60
        while seen < len(frames):
            assert loop.time() < ends
            await asyncio.sleep(0)
            counts.append(tunnel.bytes_from_client - seen)
            seen = tunnel.bytes_from_client
        await asyncio.wait_for(asyncio.gather(sending, reader), 60)
        for transport in transports:
            transport.abort()
    assert max(counts) <= _ONE_READ


def receive(sock: socket.socket, count: int) -> None:
    while count:
        count -= len(sock.recv(1 << 20))
