"""Many WebSocket peers on one event loop: an upstream that echoes or floods, and clients that answer Pings or do not.

They know frames of up to 125 bytes, one or several of them in a piece, which is all that they are sent.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

UPGRADE = (
    "GET {} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
_FLOOD = b"\x82\x7e\x40\x00" + bytes(0x4000)
# For 50 peers, in seconds.
_PATIENCE = 60.0
_MASK = b"\0\0\0\0"
_PING, _PONG, _CLOSE = 0x89, 0x8A, 0x88


def _frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """First byte and payload of each whole frame in `data`, and what is left."""
    found, at = [], 0
    while len(data) - at >= 2:
        size, masked = data[at + 1] & 0x7F, data[at + 1] & 0x80
        begin = at + 2 + (4 if masked else 0)
        if len(data) < begin + size:
            break
        payload = data[begin : begin + size]
        if masked:
            payload = bytes(byte ^ data[begin - 4 + index % 4] for index, byte in enumerate(payload))
        found.append((data[at], payload))
        at = begin + size
    return found, data[at:]


class _Upstream(asyncio.Protocol):
    """`/flood` sends without an end, any other path echoes. Without an upgrade it answers 200."""

    def __init__(self, transports: list[asyncio.Transport]) -> None:
        self._transports = transports
        self._buffer = b""
        self._upgraded = False
        self._floods = False
        self._blocked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._transports.append(transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            self._begin()
            return
        frames, self._buffer = _frames(self._buffer)
        for first, payload in frames:
            if first != _PONG:
                self._transport.write(bytes((_PONG if first == _PING else first, len(payload))) + payload)

    def _begin(self) -> None:
        head, end, self._buffer = self._buffer.partition(b"\r\n\r\n")
        if not end:
            self._buffer = head
        elif b"Upgrade: websocket" in head:
            self._upgraded = True
            self._floods = head.startswith(b"GET /flood")
            self._transport.write(_SWITCH)
            self.resume_writing()
        else:
            self._transport.write(_OK)

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        while self._floods and not self._blocked and not self._transport.is_closing():
            self._transport.write(_FLOOD)


class Client(asyncio.Protocol):
    """`status` is that of the answer, 0 before it has come. With `answers` it answers Pings, without `reads` it takes
    nothing after that answer. `messages` are the payloads of the data frames so far, `pings` counts Pings, `code` is
    that of the Close. `ended`: it is over."""

    def __init__(self, path: str, *, answers: bool = True, reads: bool = True) -> None:
        self._path = path
        self._answers = answers
        self.reads = reads
        self._buffer = b""
        self.transport: asyncio.Transport
        self.status = 0
        self.pings = 0
        self.code = 0
        self.messages: list[bytes] = []
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(UPGRADE.format(self._path).encode())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.status:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self.status, self._buffer = int(head.split()[1]), rest
            if not self.reads:
                self.transport.pause_reading()
                return
        frames, self._buffer = _frames(self._buffer)
        for first, payload in frames:
            if first == _PING:
                self.pings += 1
                if self._answers:
                    self.send(_PONG, payload)
            elif first == _CLOSE:
                self.code = int.from_bytes(payload[:2])
                self.transport.close()
            else:
                self.messages.append(payload)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True

    def send(self, first: int, payload: bytes) -> None:
        self.transport.write(bytes((first, 0x80 | len(payload))) + _MASK + payload)


def _itself(client: Client) -> Client:
    return client


class Crowd:
    """The event loop with all peers, in a thread of its own. `port` is that of the upstream."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="crowd", daemon=True)
        self._thread.start()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self._listener.getsockname()[1]
        self._transports: list[asyncio.Transport] = []
        self._server = self._call(self._loop.create_server(partial(_Upstream, self._transports), sock=self._listener))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self, port: int, count: int, path: str, *, answers: bool = True, reads: bool = True) -> list[Client]:
        """That many clients of the gateway on `port`, as soon as each has its answer. Without `reads` they take nothing
        after it."""
        return self._call(self._open(port, [Client(path, answers=answers, reads=reads) for _ in range(count)]))

    def send(self, clients: list[Client], payload: bytes) -> None:
        """A text message of each."""

        def send() -> None:
            for client in clients:
                client.send(0x81, payload)

        self._loop.call_soon_threadsafe(send)

    def close(self, clients: list[Client]) -> None:
        """They leave, without a word."""

        def close() -> None:
            for client in clients:
                client.transport.abort()

        self._loop.call_soon_threadsafe(close)

    async def _open(self, port: int, clients: list[Client]) -> list[Client]:
        for at in range(0, len(clients), 50):
            some = clients[at : at + 50]
            for client in some:
                sock = socket.socket()
                if not client.reads:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
                sock.setblocking(False)
                with contextlib.ExitStack() as unless_used:
                    unless_used.callback(sock.close)
                    await self._loop.sock_connect(sock, ("127.0.0.1", port))
                    transport, _ = await self._loop.create_connection(partial(_itself, client), sock=sock)
                    unless_used.pop_all()
                self._transports.append(transport)
            # The time limit is for these alone: a busy machine needs minutes for thousands.
            async with asyncio.timeout(_PATIENCE):
                while not all(client.status or client.ended for client in some):
                    await asyncio.sleep(0.01)
        return clients

    async def _end(self) -> None:
        self._server.close()
        # What is being accepted has its transport after this, and nothing is left to the next test.
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        if under_way:
            await asyncio.wait(under_way, timeout=_PATIENCE)
        for transport in self._transports:
            if not transport.is_closing():
                transport.abort()
        await asyncio.sleep(0.1)

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(300.0)
        finally:
            future.cancel()
