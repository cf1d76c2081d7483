"""The background check for alerts. Of the workers of one gateway the one that leads makes it, delivers what it finds
and shares it; another that leads later goes on with that."""

from collections.abc import Awaitable, Callable
from typing import Any

from gateway.background import Background, repeat
from gateway.telemetry.alerts.alerts import Alerts
from gateway.telemetry.alerts.rules import AlertFacts


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
        self._background = Background(self._run, "alerts")

    def start(self) -> None:
        """Begin to check, every `interval` seconds, on the running loop. Idempotent."""
        self._background.start()

    async def stop(self) -> None:
        """End the checks, also one that is running. Idempotent."""
        await self._background.stop()

    async def _run(self) -> None:
        await repeat(self._check, self._alerts.settings.interval, "the check for alerts failed")

    async def _check(self) -> None:
        if self._leads():
            self._alerts.check(await self._gather())
            if self._share is not None:
                self._share(self._alerts.data())
