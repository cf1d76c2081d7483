"""How background tasks wait: until there is something to do, and longer each time something does not work."""

import asyncio
import random
from contextlib import suppress


class Wake:
    """An alarm clock that can also be rung. Ringing it while nobody waits makes the next `wait` return at once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """There is something to do."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Until somebody rings, at most for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()


def growing(attempts: int, longest: float) -> float:
    """Seconds to wait after so many attempts: doubled each time up to `longest`, with jitter, so that those who failed
    together do not come back together."""
    return min(0.25 * 2.0 ** min(attempts, 20), longest) * random.uniform(0.5, 1.0)
