"""Ends the faults of an upstream when its error rate reaches the threshold of the critical alert.

It looks once a second, and only while there are faults. Every replica looks for itself, because the one that was asked
for a fault may be the one that is cut off.
"""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.background import Background, repeat
from gateway.fleet.faults import FleetFaults
from gateway.store.port import StoreUnavailable

_INTERVAL: Final = 1.0


class FaultGuard:
    """`is_critical` says it of an upstream. `start` and `stop` belong to the same event loop."""

    def __init__(self, faults: FleetFaults, is_critical: Callable[[str], Awaitable[bool]]) -> None:
        self._faults = faults
        self._is_critical = is_critical
        self._background = Background(self._run, "fault-guard")

    def start(self) -> None:
        """Begin to look."""
        self._background.start()

    async def stop(self) -> None:
        """Look no more. Idempotent."""
        await self._background.stop()

    async def look(self) -> None:
        """End the faults if they are to end. A store that does not answer has no faults anyway."""
        upstream = self._faults.upstream
        if upstream and await self._is_critical(upstream):
            with contextlib.suppress(StoreUnavailable):
                await self._faults.remove_all("its upstream's error rate is critical")

    async def _run(self) -> None:
        # Nothing else ends a fault that does too much.
        await repeat(self.look, _INTERVAL, "the error rate under a fault could not be judged")
