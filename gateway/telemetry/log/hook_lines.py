"""Hooks in the application log: that one fails or is slow, at most once in `INTERVAL` seconds for each of them, and
each time that it is switched off or called again."""

import logging
from typing import Final

logger: Final = logging.getLogger("gateway.hooks")

INTERVAL: Final = 10.0


class HookLines:
    """Of one hook of a route. Instants are of the monotonic clock."""

    __slots__ = ("_hook", "_quiet_until", "_route", "_unsaid")

    def __init__(self, route: str, hook: str) -> None:
        self._route = route
        self._hook = hook
        self._quiet_until = 0.0
        self._unsaid = 0

    def due(self, now: float) -> bool:
        """A call has failed or was slow: whether that is to be told (`bad`). Otherwise it is counted for the next
        line."""
        if now < self._quiet_until:
            self._unsaid += 1
            return False
        self._quiet_until = now + INTERVAL
        return True

    def bad(self, event: str, what: str, request_id: bytes) -> None:
        """Tell it. `event` is `hook_failed` or `hook_slow`; `what` goes on from the hook's name."""
        unsaid, self._unsaid = self._unsaid, 0
        more = f" ({unsaid} more since the last line)" if unsaid else ""
        logger.warning(
            "hook %s of route %s %s%s",
            *(self._hook, self._route, what, more),
            extra=self._extra(event) | {"request_id": request_id.decode(), "unsaid": unsaid},
        )

    def off(self, seconds: float, why: str, *, refuses: bool) -> None:
        """It is switched off."""
        meanwhile = "requests are refused" if refuses else "requests go on without it"
        logger.error(
            "hook %s of route %s is switched off for %g s: %s; %s meanwhile",
            *(self._hook, self._route, seconds, why, meanwhile),
            extra=self._extra("hook_off"),
        )

    def on(self) -> None:
        """It is called again."""
        logger.info("hook %s of route %s is well again", self._hook, self._route, extra=self._extra("hook_on"))

    def _extra(self, event: str) -> dict[str, object]:
        return {"event": event, "route": self._route, "hook": self._hook}
