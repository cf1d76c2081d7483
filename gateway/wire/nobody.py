"""In place of the connection of a client that has left, for an exchange that goes on without it."""

import asyncio

from gateway.wire.ports import Connection


class Nobody(Connection):
    """Takes everything and sends it nowhere."""

    __slots__ = ()

    def __init__(self) -> None:
        self.peer = ""
        self.scratch = None
        self.write_blocked = False

    @property
    def scheme(self) -> str:
        return "http"

    @property
    def reusable(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        """Nobody reads it."""

    def pause_reading(self) -> None:
        """Nothing comes any more."""

    def resume_reading(self) -> None:
        """Nothing comes any more."""

    def answer(self, response: bytes, now: float, keep_alive: bool) -> None:
        """Nobody reads it."""

    def finish(self, now: float, *, keep_alive: bool) -> None:
        """There is no next request."""

    def break_off(self, *, reset: bool) -> None:
        """Nobody sees it."""

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        raise RuntimeError("there is no transport")  # pragma: no cover - a request with a key opens no tunnel
