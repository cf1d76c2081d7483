"""Failures in the application log: one line a second for each kind, with how many there were, however many.

    ERROR     attempts at an upstream that failed, by upstream and reason
    WARNING   requests that the gateway refused with a 5xx status, by service and reason

So `logs | grep -i error` shows that something is wrong, and a thousand failures a second do not fill the disk. The
access log has a line for each request, and the error records tell the failures apart. Refusals with a 4xx status have
no line here, because they answer a mistake of the client.
"""

import logging

from gateway.background import Ticker
from gateway.telemetry.log.render import counted
from gateway.telemetry.services.errors import ErrorLog

SUMS = "gateway.errors"
"""The logger of these lines."""

logger = logging.getLogger(SUMS)


class ErrorLines:
    """Writes what `errors` has counted. `start` and `stop` are called on one event loop; `stop` writes the rest."""

    def __init__(self, errors: ErrorLog) -> None:
        self._errors = errors
        self._ticker = Ticker(self.write)

    def start(self) -> None:
        """Begin to write, once a second, on the running loop."""
        self._ticker.start()

    def stop(self) -> None:
        """Write what has not been written yet, and end."""
        self._ticker.stop()
        self.write()

    def write(self) -> None:
        """A line for each kind of failure since the last call."""
        for (service, category, reason), (count, message) in self._errors.take_failures().items():
            logger.error(
                "Error of upstream %s: %s (%s), the last one: %s",
                *(service, reason, counted(count, "time"), message),
                extra={"event": "upstream_error", "upstream": service, "category": category, "reason": reason}
                | {"count": count},
            )
        for service, category, reason, count in self._errors.take_refusals():
            logger.warning(
                "Requests for %s refused: %s (%s)",
                *(service, reason, counted(count, "time")),
                extra={"event": "refused", "service": service, "category": category, "reason": reason, "count": count},
            )
