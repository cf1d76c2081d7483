"""What each service has been asked and how often it failed, over a window of up to an hour.

A service is an upstream, or the gateway itself for requests that never came to concern one (no route, malformed, shed,
draining). Every request is counted for exactly one service, once, when it is over, so that a client that counts its own
requests and failures finds the same numbers:

    requests          requests that are over
    failed_requests   of these, the ones that ended in a 5xx, from the upstream or generated, or were cut off
    error_rate        failed_requests / requests, 0 when there are none
    errors            failed attempts (5xx, timeout, refused, reset, protocol error, cut off) and refusals with a 5xx
                      status that no failed attempt led to (circuit_open, bulkhead_full, draining, ...)
    refused           refusals with a 4xx status: the limits at work, or a client's mistake. No failure of the service.
    by_category       errors and refused by category; they sum up to errors + refused
    main_error        the category that most errors are of, refusals left aside

A request that is rescued by a retry is an error and no failed request; one that fails three times is three errors and
one failed request. Free retries of stale connections and clients that leave are neither. A 4xx of the upstream is an
answer like any other.

    errors_per_minute = errors * 60 / window

A window is as wide as asked and up to one cell (10 s) more: the cell in which it begins counts as a whole. Nothing ever
scans errors; reading costs one addition for each cell that has something in it (`gateway.telemetry.services.cells`).
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from gateway.reasons import CATEGORIES
from gateway.telemetry.services.cells import ERRORS, FAILED, FIRST_CATEGORY, FIRST_REFUSED, REQUESTS

DEFAULT_WINDOW: Final = 300.0
"""The window of figures that name none, in seconds: the runbook's five minutes."""

Scope = Literal["fleet", "process"]


class Rate(NamedTuple):
    """The figures of one service over the last `window` seconds.

    `last_error_time` is seconds since the epoch, None if there was none within the hour. `scope` says whose they are:
    "process" while the store is away. `refused_by_category` is the part of
    `by_category` that is `refused`.
    """

    service: str
    window: float
    requests: int
    failed_requests: int
    errors: int
    refused: int
    by_category: dict[str, int]
    refused_by_category: dict[str, int]
    last_error_time: float | None
    scope: Scope

    @property
    def error_rate(self) -> float:
        """From 0 to 1."""
        return self.failed_requests / self.requests if self.requests else 0.0

    @property
    def errors_per_minute(self) -> float:
        """The mean over the window."""
        return self.errors * 60.0 / self.window

    @property
    def main_error(self) -> tuple[str, int] | None:
        """The category that most errors are of, and how many; None without errors."""
        errors = {name: count - self.refused_by_category.get(name, 0) for name, count in self.by_category.items()}
        category = max(errors, key=lambda name: errors[name], default="")
        return (category, errors[category]) if self.errors and errors.get(category, 0) > 0 else None


def rate(service: str, window: float, counts: Sequence[int], last_error_time: float | None, scope: Scope) -> Rate:
    """The figures that a count vector stands for. `by_category` has all ten categories, in their order."""
    by_category = dict(zip(CATEGORIES, counts[FIRST_CATEGORY:FIRST_REFUSED], strict=True))
    refused_by_category = dict(zip(CATEGORIES, counts[FIRST_REFUSED:], strict=True))
    errors = counts[ERRORS]
    # While a fleet's cells are pruned, the parts of one sum may come from two instants. Never show less than zero.
    refused = max(0, sum(by_category.values()) - errors)
    return Rate(
        service,
        window,
        counts[REQUESTS],
        counts[FAILED],
        errors,
        refused,
        by_category,
        refused_by_category,
        last_error_time,
        scope,
    )
