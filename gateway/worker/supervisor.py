"""What a worker needs of its supervisor. Where there is none (tests, `gateway routes`), None takes its place."""

import asyncio
from typing import Any, Protocol


class Supervisor(Protocol):
    """The channel to it (`gateway.ipc.channel.Channel`), and which worker this one is."""

    @property
    def slot(self) -> int:
        """The number of this worker, from 0 on. Its successor has the same."""
        ...

    def call(self, operation: str, body: Any = None) -> asyncio.Future[Any]:
        """Ask it. The answer may be an exception."""
        ...

    def tell(self, operation: str, body: Any = None) -> None:
        """Tell it, and expect no answer. Without effect when it is gone."""
        ...
