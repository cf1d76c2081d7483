"""Invalid requests in the application log: lines with `validation failed`, as the platform runbook looks for them.

    WARNING   one line a second for each route that had some, with how many there were and why
    WARNING   with LOG_VALIDATION_ERRORS, one more for each request: what is wrong and where, its id, no value of it

So a flood of invalid requests does not fill the disk unless somebody asks for each of them.
"""

import logging
from collections.abc import Sequence
from typing import Final

from gateway.background import Ticker
from gateway.telemetry.log.render import counted

logger: Final = logging.getLogger("gateway.validation")


class ValidationLines:
    """`start` and `stop` are called on one event loop; `stop` writes what has not been written yet."""

    def __init__(self, *, each: bool) -> None:
        """`each`: every request has a line."""
        self._each = each
        self._counts: dict[str, dict[str, int]] = {}
        self._ticker = Ticker(self.write)

    def start(self) -> None:
        """Begin to write, once a second, on the running loop."""
        self._ticker.start()

    def stop(self) -> None:
        """Write what is left, and end."""
        self._ticker.stop()
        self.write()

    def failed(
        self, route: str, reason: str, request_id: bytes, detail: str, errors: Sequence[str], *, refused: bool
    ) -> None:
        """One request of the route is invalid. `errors` say what is wrong and where, in words without its values."""
        counts = self._counts.setdefault(route, {})
        counts[reason] = counts.get(reason, 0) + 1
        if self._each:
            logger.warning(
                "validation failed: a request for route %s %s: %s: %s",
                *(route, "was refused" if refused else "passed", reason, "; ".join(errors) or detail),
                extra={"event": "invalid_request", "route": route, "reason": reason, "refused": refused}
                | {"request_id": request_id.decode(), "errors": list(errors)},
            )

    def write(self) -> None:
        """A line for each route with invalid requests since the last call."""
        taken, self._counts = self._counts, {}
        for route, counts in taken.items():
            total = sum(counts.values())
            logger.warning(
                "validation failed: %s for route %s (%s)",
                *(counted(total, "request"), route, ", ".join(f"{reason} {count}" for reason, count in counts.items())),
                extra={"event": "validation_failed", "route": route, "count": total, "reasons": counts},
            )
