"""The background check for alerts. Of the workers of one gateway the one that leads makes it, delivers what it finds
and shares it; another that leads later goes on with that."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.telemetry.alerts import AlertFacts, Alerts

log = logging.getLogger("gateway.alerts")


class AlertCheck:
    """Gathers facts every `interval` seconds while `leads` says so. `share` gets the alerts after each check, as plain
    data. `start` and `stop` belong to one event loop."""

    def __init__(
        self,
        alerts: Alerts,
        gather: Callable[[], Awaitable[AlertFacts]],
        *,
        leads: Callable[[], bool] = lambda: True,
        share: Callable[[Any], None] | None = None,
    ) -> None:
        self._alerts = alerts
        self._gather = gather
        self._leads = leads
        self._share = share
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to check, every `interval` seconds, on the running loop. Idempotent."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="alerts")

    async def stop(self) -> None:
        """End the checks, also one that is running. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            try:
                if self._leads():
                    self._alerts.check(await self._gather())
                    if self._share is not None:
                        self._share(self._alerts.data())
            except Exception:
                # Without this loop nobody would hear of an alert again, so no error ends it.
                log.exception("the check for alerts failed")
            await asyncio.sleep(self._alerts.settings.interval)
