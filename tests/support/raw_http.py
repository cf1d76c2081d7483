"""Raw clients on one connection: send any bytes, read responses strictly, see how the connection ended.

`RawClient` blocks; `AsyncRawClient` is the same for tests whose own loop runs the server. `timeout` bounds the whole
of every call, not each receive.
"""

import asyncio
import socket
import struct
import time
from types import TracebackType
from typing import Literal, Self

from tests.support.raw_response import Buffer, Ending, RawResponse, parse_response
from tests.support.waiting import PATIENCE

Fate = Literal["open", "closed", "reset"]
FATES: dict[Ending, Fate] = {"timeout": "open", "closed": "closed", "reset": "reset"}

RECEIVE_BYTES = 262_144
LINGER_ZERO = struct.pack("ii", 1, 0)


class RawClient:
    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        timeout: float = PATIENCE,
        receive_buffer: int | None = None,
        *,
        late_ack: bool = False,
    ) -> None:
        """Connect; OSError when that fails. `receive_buffer` is the kernel's, in bytes. With `late_ack` the last packet
        of the handshake leaves with the first bytes or after 0.2 s, as if it came from far away."""
        self.timeout = timeout
        self._buffer = Buffer()
        if receive_buffer is None and not late_ack:
            self.socket = socket.create_connection((host, port), timeout=timeout)
        else:
            self.socket = socket.socket()
            if receive_buffer is not None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if late_ack:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            self.socket.settimeout(timeout)
            self.socket.connect((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def send(self, octets: bytes) -> Self:
        """Send everything; OSError when the peer is gone or takes nothing."""
        self.socket.settimeout(self.timeout)
        self.socket.sendall(octets)
        return self

    def send_slowly(self, octets: bytes, delay: float, step: int = 1) -> Self:
        """Send `step` bytes at a time, `delay` apart."""
        for start in range(0, len(octets), step):
            if start:
                time.sleep(delay)
            self.send(octets[start : start + step])
        return self

    def read_response(self, method: str = "GET", timeout: float | None = None) -> RawResponse:
        """The next final response, to a request with this method.

        NoResponse when the head does not come; a body that is cut short shows in `ending`.
        """
        deadline = self._deadline(timeout)
        parsing = parse_response(self._buffer, method)
        try:
            while True:
                next(parsing)
                self._receive(deadline)
        except StopIteration as finished:
            response: RawResponse = finished.value
            return response

    def request(self, octets: bytes, method: str = "GET") -> RawResponse:
        return self.send(octets).read_response(method)

    def read_rest(self, timeout: float | None = None) -> tuple[bytes, Ending]:
        """Everything until the connection ends, and how it ended."""
        ending = self._read_to_end(timeout)
        return self._buffer.take(len(self._buffer.octets)), ending

    def fate(self, timeout: float = PATIENCE) -> Fate:
        """Whether and how the peer ends the connection within `timeout`; what it sends before stays in `unread`."""
        return FATES[self._read_to_end(timeout)]

    @property
    def unread(self) -> bytes:
        """Received and not yet part of a response."""
        return bytes(self._buffer.octets)

    def finish_sending(self) -> None:
        """Half-close: send FIN, go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        self.socket.close()

    def _deadline(self, timeout: float | None) -> float:
        if self._buffer.ended == "timeout":
            self._buffer.ended = None
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def _read_to_end(self, timeout: float | None) -> Ending:
        deadline = self._deadline(timeout)
        while self._buffer.ended is None:
            self._receive(deadline)
        return self._buffer.ended

    def _receive(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            self._buffer.ended = "timeout"
            return
        self.socket.settimeout(left)
        try:
            octets = self.socket.recv(RECEIVE_BYTES)
        except TimeoutError:
            self._buffer.ended = "timeout"
        except ConnectionError:
            self._buffer.ended = "reset"
        else:
            self._buffer.feed(octets)


class AsyncRawClient:
    """`async with await AsyncRawClient.connect(port) as client:`; every method as in `RawClient`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout: float) -> None:
        self.timeout = timeout
        self._reader = reader
        self._writer = writer
        self._buffer = Buffer()

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1", timeout: float = PATIENCE) -> Self:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port)
        return cls(reader, writer, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, octets: bytes) -> Self:
        async with asyncio.timeout(self.timeout):
            self._writer.write(octets)
            await self._writer.drain()
        return self

    async def send_slowly(self, octets: bytes, delay: float, step: int = 1) -> Self:
        for start in range(0, len(octets), step):
            if start:
                await asyncio.sleep(delay)
            await self.send(octets[start : start + step])
        return self

    async def read_response(self, method: str = "GET", timeout: float | None = None) -> RawResponse:
        deadline = self._deadline(timeout)
        parsing = parse_response(self._buffer, method)
        try:
            while True:
                next(parsing)
                await self._receive(deadline)
        except StopIteration as finished:
            response: RawResponse = finished.value
            return response

    async def request(self, octets: bytes, method: str = "GET") -> RawResponse:
        await self.send(octets)
        return await self.read_response(method)

    async def read_rest(self, timeout: float | None = None) -> tuple[bytes, Ending]:
        ending = await self._read_to_end(timeout)
        return self._buffer.take(len(self._buffer.octets)), ending

    async def fate(self, timeout: float = PATIENCE) -> Fate:
        return FATES[await self._read_to_end(timeout)]

    @property
    def unread(self) -> bytes:
        return bytes(self._buffer.octets)

    def finish_sending(self) -> None:
        self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return

    async def reset(self) -> None:
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        self._writer.transport.abort()
        await self.close()

    def _deadline(self, timeout: float | None) -> float:
        if self._buffer.ended == "timeout":
            self._buffer.ended = None
        return asyncio.get_running_loop().time() + (self.timeout if timeout is None else timeout)

    async def _read_to_end(self, timeout: float | None) -> Ending:
        deadline = self._deadline(timeout)
        while self._buffer.ended is None:
            await self._receive(deadline)
        return self._buffer.ended

    async def _receive(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                octets = await self._reader.read(RECEIVE_BYTES)
        except TimeoutError:
            self._buffer.ended = "timeout"
        except ConnectionError:
            self._buffer.ended = "reset"
        else:
            self._buffer.feed(octets)
