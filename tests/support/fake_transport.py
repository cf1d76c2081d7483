"""A transport without a socket: keeps what is written to it and what is asked of it."""

import asyncio
import os
from types import TracebackType
from typing import Any, Self


class FakeSocket:
    """A pipe in the place of a socket: what the kernel is asked about it is true."""

    def __init__(self) -> None:
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._reads, False)

    def fileno(self) -> int:
        """The end that would be read."""
        return self._reads

    def arrive(self, data: bytes) -> None:
        """Bytes that the kernel has and the loop has not read."""
        os.write(self._writes, data)

    def end(self) -> None:
        """The other side closes."""
        os.close(self._writes)
        self._writes = -1

    def close(self) -> None:
        """Give the files back."""
        os.close(self._reads)
        if self._writes >= 0:
            os.close(self._writes)


class FakeTransport(asyncio.Transport):
    """What is written is in `written`; `calls` are what else was asked, in order. `buffered` bytes are not sent yet."""

    def __init__(self, *, half_closes: bool = True) -> None:
        super().__init__()
        self.socket = FakeSocket()
        self.half_closes = half_closes
        self.written = b""
        self.writes = 0
        self.buffered = 0
        self.calls: list[str] = []
        self.protocol: Any = None
        self.limits: tuple[int | None, int | None] = (None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 1234), "socket": self.socket}.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        self.written += data
        self.writes += 1

    def sent(self) -> bytes:
        """What was written since the last call."""
        written, self.written = self.written, b""
        return written

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = (high, low)

    def can_write_eof(self) -> bool:
        return self.half_closes

    def write_eof(self) -> None:
        self.calls.append("write_eof")

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")

    def is_closing(self) -> bool:
        return "close" in self.calls or "abort" in self.calls

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")


class FakeLoop:
    """A loop whose turns the test takes. Timers are in `timers`, and do nothing by themselves."""

    def __init__(self) -> None:
        self.ready: list[tuple[Any, tuple[Any, ...]]] = []
        self.timers: list[tuple[float, Any, tuple[Any, ...]]] = []

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> None:
        self.ready.append((callback, args))

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> "FakeTimer":
        self.timers.append((delay, callback, args))
        return FakeTimer()

    def turn(self) -> None:
        """Call what is due, and what becomes due by that."""
        while self.ready:
            callback, args = self.ready.pop(0)
            callback(*args)


class FakeTimer:
    """What `call_later` returns."""

    def cancel(self) -> None:
        """It does nothing anyway."""
