"""A scripted upstream: plays exactly these bytes, pauses, closes and resets, and keeps what it received.

    with FakeUpstream([ReadHead(), Send(b"HTTP/1.1 200 OK\\r\\n\\r\\n"), Reset()]) as upstream:

Each accepted connection plays one script: the first the first, and so on; further ones play the last again. A script
that ends without `Close` or `Reset` closes in order. It runs on a loop in a thread of its own, so it serves blocking
and asynchronous tests alike, and never does anything it was not told to.
"""

import asyncio
import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.waiting import PATIENCE, eventually

LINGER_ZERO = struct.pack("ii", 1, 0)
RECEIVE_BYTES = 262_144


@dataclass(frozen=True)
class ReadHead:
    """Wait for the end of a request head."""


@dataclass(frozen=True)
class ReadRequest:
    """Wait for a whole request: head and body by Content-Length or chunked (no trailers)."""


@dataclass(frozen=True)
class ReadBytes:
    """Wait for so many bytes beyond what earlier steps consumed."""

    count: int


@dataclass(frozen=True)
class ReadToEnd:
    """Wait until the peer ends the connection."""


@dataclass(frozen=True)
class Send:
    """Send everything and wait until the kernel has it."""

    octets: bytes


@dataclass(frozen=True)
class Pause:
    """Do nothing; the kernel goes on receiving until its buffers are full."""

    seconds: float


@dataclass(frozen=True)
class WaitFor:
    """Do nothing until the test sets the event."""

    event: threading.Event


@dataclass(frozen=True)
class FinishSending:
    """Half-close: send FIN, go on reading."""


@dataclass(frozen=True)
class Close:
    """Close in order (FIN). With unread bytes in the kernel this becomes a RST, as for any server."""


@dataclass(frozen=True)
class Reset:
    """Close with RST."""


Step = ReadHead | ReadRequest | ReadBytes | ReadToEnd | Send | Pause | WaitFor | FinishSending | Close | Reset
Script = Sequence[Step]


def respond(body: bytes = b"", status: int = 200, *headers: bytes) -> bytes:
    """A correct response with its Content-Length; `headers` are lines without CRLF."""
    lines = [b"HTTP/1.1 %d Scripted" % status, *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def serving(*responses: bytes) -> Script:
    """A keep-alive connection that answers each request with the next of these, then waits for the peer's end."""
    return [step for response in responses for step in (ReadRequest(), Send(response))] + [ReadToEnd()]


@dataclass
class Connection:
    """One accepted connection. `received` grows as bytes are read; `ended` is how the peer ended it, if it did."""

    received: bytearray = field(default_factory=bytearray)
    ended: str | None = None
    finished: bool = False

    @property
    def heads(self) -> list[bytes]:
        """The request heads received, for requests without bodies."""
        return [head + b"\r\n\r\n" for head in bytes(self.received).split(b"\r\n\r\n")[:-1]]


class FakeUpstream:
    """Listens on a free port of the loopback while its context is entered."""

    def __init__(self, *scripts: Script, port: int = 0) -> None:
        if not scripts:
            raise ValueError("at least one script")
        self._scripts = scripts
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self.connections: list[Connection] = []
        self._stop: Callable[[], None] = _nothing
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake upstream", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop()
        self._thread.join(PATIENCE)
        self._socket.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def received(self) -> bytes:
        """Everything received, connection after connection."""
        return b"".join(bytes(connection.received) for connection in self.connections)

    def wait_until(self, condition: Callable[["FakeUpstream"], bool], timeout: float = PATIENCE) -> None:
        """Block until the condition holds of this upstream; AssertionError after `timeout`."""
        eventually(lambda: condition(self), f"so (connections: {self.connections})", timeout)

    def wait_for_connections(self, count: int, timeout: float = PATIENCE) -> None:
        self.wait_until(lambda upstream: len(upstream.connections) >= count, timeout)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()

        def stop() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stopping.set)

        self._stop = stop
        self._socket.listen(1024)
        self._socket.setblocking(False)
        playing: set[asyncio.Task[None]] = set()

        async def accept() -> None:
            while True:
                peer, _ = await loop.sock_accept(self._socket)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                script = self._scripts[min(len(self.connections), len(self._scripts) - 1)]
                connection = Connection()
                self.connections.append(connection)
                task = loop.create_task(_Player(peer, connection).play(script))
                playing.add(task)
                task.add_done_callback(playing.discard)

        accepting = loop.create_task(accept())
        self._ready.set()
        await stopping.wait()
        tasks = [accepting, *playing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _PeerGone(Exception):
    """The peer ended the connection while the script wanted to go on."""


class _Player:
    """Plays one script on one connection."""

    def __init__(self, peer: socket.socket, connection: Connection) -> None:
        self._peer = peer
        self._peer.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._consumed = 0

    async def play(self, script: Script) -> None:
        try:
            for step in script:
                await self._perform(step)
        except _PeerGone:
            return
        finally:
            self._peer.close()
            self._connection.finished = True

    async def _perform(self, step: Step) -> None:
        match step:
            case ReadHead():
                await self._read_head()
            case ReadRequest():
                await self._read_request()
            case ReadBytes(count):
                await self._read_bytes(count)
            case ReadToEnd():
                while True:
                    await self._receive()
            case Send(octets):
                await self._send(octets)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case WaitFor(event):
                while not event.is_set():
                    await asyncio.sleep(0.005)
            case FinishSending():
                self._peer.shutdown(socket.SHUT_WR)
            case Reset():
                self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
                self._peer.close()
            case Close():
                self._peer.close()

    async def _send(self, octets: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._peer, octets)
        except ConnectionError:
            self._connection.ended = "reset"
            raise _PeerGone from None

    async def _receive(self) -> None:
        try:
            octets = await self._loop.sock_recv(self._peer, RECEIVE_BYTES)
        except ConnectionError:
            self._connection.ended = "reset"
            raise _PeerGone from None
        if not octets:
            self._connection.ended = "closed"
            raise _PeerGone
        self._connection.received += octets

    async def _read_until(self, mark: bytes) -> bytes:
        while (end := self._connection.received.find(mark, self._consumed)) < 0:
            await self._receive()
        start, self._consumed = self._consumed, end + len(mark)
        return bytes(self._connection.received[start : self._consumed])

    async def _read_head(self) -> bytes:
        return await self._read_until(b"\r\n\r\n")

    async def _read_bytes(self, count: int) -> None:
        while len(self._connection.received) - self._consumed < count:
            await self._receive()
        self._consumed += count

    async def _read_request(self) -> None:
        head = await self._read_head()
        length = re.search(rb"(?im)^content-length:[ \t]*([0-9]+)", head)
        if re.search(rb"(?im)^transfer-encoding:[ \t]*chunked", head):
            while size := int((await self._read_until(b"\r\n")).split(b";")[0], 16):
                await self._read_bytes(size + 2)
            await self._read_until(b"\r\n")
        elif length:
            await self._read_bytes(int(length[1]))


def _nothing() -> None:
    return None
