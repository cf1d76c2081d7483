"""Calls between two processes of one gateway, over a stream socket whose ends they were given.

Both ends may call (and get an answer) and tell (and get none). A frame is its length in four bytes, big-endian, and as
many bytes of JSON: `[kind, number, operation, body]`. Calls are answered in any order; `number` ties an answer to its
call. There is no authentication: only the process that made the socket, and those that it gave an end to, can speak.

A peer that breaks the rules of the frames is cut off. A peer that is gone fails every call that waits for it. Time
limits are the caller's.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, cast

import orjson

log = logging.getLogger("gateway")

MOST_BYTES: Final = 256 * 1024 * 1024
"""A frame that claims to be longer is a broken peer."""

_LENGTH: Final = struct.Struct("!I")
_TELL: Final = 0
_CALL: Final = 1
_ANSWER: Final = 2
_FAILURE: Final = 3


class Reply:
    """The answer to one call, to be given once, now or later: `reply(answer)` or `reply.fail(reason)`. For what the
    peer only told it does nothing."""

    __slots__ = ("_number", "_send")

    def __init__(self, send: "Callable[[int, int, str, Any], None] | None", number: int) -> None:
        self._send = send
        self._number = number

    def __call__(self, answer: Any) -> None:
        """Answer the call."""
        if self._send is not None:
            self._send(_ANSWER, self._number, "", answer)

    def fail(self, reason: str) -> None:
        """Say that the call cannot be served. The peer gets `CallFailed` with this reason."""
        if self._send is not None:
            self._send(_FAILURE, self._number, "", reason)


Serve = Callable[[str, Any, Reply], None]
"""`serve(operation, body, reply)` serves one call of the peer. What it raises at once is told to the peer as the
failure of its call."""


class ChannelLost(ConnectionError):
    """The peer is gone, or was never there."""


class CallFailed(Exception):
    """The peer could not serve the call. The message is its reason."""


class Channel(asyncio.Protocol):
    """One end of the socket. `on_lost` is called once when the peer is gone."""

    def __init__(self, serve: Serve, on_lost: Callable[[], None]) -> None:
        self._serve = serve
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self.lost = False

    @classmethod
    async def over(
        cls, sock: socket.socket, serve: Serve, on_lost: Callable[[], None], received: bytes = b""
    ) -> "Channel":
        """The channel over a connected socket, which belongs to it from now on. `received` was read from it before."""
        sock.setblocking(False)
        channel = cls(serve, on_lost)
        channel._received += received
        await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=sock)
        channel._take()
        return channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ours."""
        self._transport = cast("asyncio.Transport", transport)

    def call(self, operation: str, body: Any = None) -> asyncio.Future[Any]:
        """Ask the peer. The answer may be `ChannelLost` or `CallFailed`."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.lost:
            future.set_exception(ChannelLost("the other process is gone"))
            return future
        self._number = number = self._number + 1
        self._waiting[number] = future
        future.add_done_callback(lambda _: self._waiting.pop(number, None))
        self._send(_CALL, number, operation, body)
        return future

    def tell(self, operation: str, body: Any = None) -> None:
        """Tell the peer something. Without effect when it is gone."""
        if not self.lost:
            self._send(_TELL, 0, operation, body)

    def fileno(self) -> int:
        """The descriptor of the socket, for an exec."""
        assert self._transport is not None  # noqa: S101 - `over` has connected it
        return int(self._transport.get_extra_info("socket").fileno())

    def close(self) -> None:
        """Send what is waiting, then close. Idempotent."""
        if self._transport is not None:
            self._transport.close()

    async def detach(self, within: float) -> bytes:
        """Stop reading, and wait until everything is sent, for `within` seconds at most. Returns what was received of a
        frame that is not complete. The socket stays open, for another channel over it in this process or the next."""
        transport = self._transport
        if transport is None or self.lost:
            return b""
        transport.pause_reading()
        end = asyncio.get_running_loop().time() + within
        while transport.get_write_buffer_size() and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110 - once
            await asyncio.sleep(0.002)
        return bytes(self._received)

    def data_received(self, data: bytes) -> None:
        """Serve what has come whole."""
        self._received += data
        self._take()

    def _take(self) -> None:
        received = self._received
        start, end = 0, len(received)
        while end - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(received, start)
            if length > MOST_BYTES:
                return self._break_off("a frame is too long")
            if end - start < _LENGTH.size + length:
                break
            start += _LENGTH.size
            frame = received[start : start + length]
            start += length
            try:
                kind, number, operation, body = orjson.loads(frame)
            except ValueError:
                return self._break_off("a frame cannot be read")
            self._handle(kind, number, operation, body)
            if received is not self._received:
                return None  # cut off meanwhile
        del received[:start]
        return None

    def _handle(self, kind: int, number: int, operation: str, body: Any) -> None:
        if kind in (_ANSWER, _FAILURE):
            future = self._waiting.pop(number, None)
            if future is None or future.done():
                return
            if kind == _ANSWER:
                future.set_result(body)
            else:
                future.set_exception(CallFailed(str(body)))
            return

        reply = Reply(self._send if kind == _CALL else None, number)
        try:
            self._serve(operation, body, reply)
        except Exception as error:
            log.exception("a call from another process of the gateway failed", extra={"operation": operation})
            reply.fail(f"{type(error).__name__}: {error}")

    def _send(self, kind: int, number: int, operation: str, body: Any) -> None:
        frame = orjson.dumps([kind, number, operation, body], option=orjson.OPT_NON_STR_KEYS)
        if self._transport is not None and not self.lost:
            self._transport.write(_LENGTH.pack(len(frame)) + frame)

    def _break_off(self, why: str) -> None:
        log.error("the channel to another process of the gateway is cut off: %s", why)
        self._received = bytearray()
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer is gone: nobody will answer what waits."""
        if self.lost:
            return
        self.lost = True
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ChannelLost("the other process is gone"))
        self._on_lost()
