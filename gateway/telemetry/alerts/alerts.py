"""Alerts: what a person should know without having asked.

At every check the rules look at facts and say of each condition (`kind/service`) whether it holds (`rules`). An alert
is raised at the first check that finds its condition beyond the threshold; stays active while the condition is beyond
`HOLD` (80 %) of it; and is resolved when that has not been so for `resolve_after` seconds without a break. So a value
that swings about a threshold makes one alert and not many.

Each replica keeps and delivers its own alerts; `key` tells the receiver which of them are about the same condition. Of
the workers of one gateway, one judges (`check`); the others adopt what it has found.

Left out on purpose: delivery (`webhook`), silencing, and alerts that outlive the process.
"""

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gateway.telemetry.alerts.rules import TITLES, AlertFacts, AlertSettings, Finding, Kind, Severity, findings

log = logging.getLogger("gateway.alerts")

MOST_RESOLVED = 500


@dataclass(slots=True)
class Alert:
    """One thing that is or was wrong. Instants in seconds since the epoch.

    `key` (`kind/service`) names the condition and is equal in all replicas; `id` names this occurrence in this process.
    `count` is the number of checks that found it so, `last_at` the latest of them.
    """

    id: str
    key: str
    kind: Kind
    service: str
    severity: Severity
    message: str
    first_at: float
    last_at: float
    count: int = 1
    state: Literal["active", "resolved"] = "active"
    resolved_at: float | None = None


Listener = Callable[[Literal["raised", "resolved"], Alert], None]


class Alerts:
    """The alerts of this process. `service` is the gateway's own name. `on_change` is called once for each alert that
    is raised or resolved, and must not wait."""

    def __init__(
        self,
        settings: AlertSettings,
        service: str,
        *,
        on_change: Listener | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self._service = service
        self._on_change = on_change
        self._clock = clock
        self._active: dict[str, Alert] = {}
        self._clear_since: dict[str, float] = {}
        self._resolved: deque[Alert] = deque(maxlen=MOST_RESOLVED)
        self._before: AlertFacts | None = None

    def __repr__(self) -> str:
        return f"<Alerts {len(self._active)} active, {len(self._resolved)} resolved>"

    def active(self) -> list[Alert]:
        """Worst first, then newest first."""
        return sorted(self._active.values(), key=lambda alert: (alert.severity != "critical", -alert.first_at))

    def all(self) -> list[Alert]:
        """The active ones as in `active`, then the resolved ones, latest end first."""
        self._retire(self._clock())
        return [*self.active(), *reversed(self._resolved)]

    def count_by_kind(self) -> list[tuple[tuple[str], int]]:
        """How many are active of each kind, for a gauge."""
        return [((kind,), sum(alert.kind == kind for alert in self._active.values())) for kind in TITLES]

    def cleanup(self) -> int:
        """Remove the resolved ones; how many there were."""
        self._retire(self._clock())
        count = len(self._resolved)
        self._resolved.clear()
        return count

    def data(self) -> dict[str, list[dict[str, Any]]]:
        """The alerts as plain data, for `adopt` in another worker."""
        return {
            "active": [asdict(alert) for alert in self._active.values()],
            "resolved": [asdict(alert) for alert in self._resolved],
        }

    def adopt(self, data: Mapping[str, list[dict[str, Any]]]) -> None:
        """Have the alerts that another worker has found. Nobody is told of them again."""
        self._active = {each["key"]: Alert(**each) for each in data["active"]}
        self._resolved = deque((Alert(**each) for each in data["resolved"]), MOST_RESOLVED)
        self._clear_since.clear()

    def check(self, facts: AlertFacts) -> None:
        """Judge, raise and resolve. Instants come from the clock: it may be set, and then only durations are wrong."""
        now = self._clock()
        before, self._before = self._before, facts
        found = {f"{each.kind}/{each.service}": each for each in findings(facts, before, self.settings, self._service)}
        for key, finding in found.items():
            self._found(key, finding, now)
        for key in [key for key in self._active if key not in found]:
            since = self._clear_since.setdefault(key, now)
            if now - since >= self.settings.resolve_after or now < since:
                self._resolve(key, now)
        self._retire(now)

    def _found(self, key: str, finding: Finding, now: float) -> None:
        self._clear_since.pop(key, None)
        alert = self._active.get(key)
        if alert is not None:
            alert.last_at = now
            alert.message, alert.severity = finding.message, finding.severity
            alert.count += finding.fires
        elif finding.fires:
            alert = self._active[key] = Alert(
                uuid.uuid4().hex[:16],
                key,
                finding.kind,
                finding.service,
                finding.severity,
                finding.message,
                first_at=now,
                last_at=now,
            )
            log.warning("%s: %s", TITLES[alert.kind], alert.message, extra=_extra("alert_raised", alert))
            self._tell("raised", alert)

    def _resolve(self, key: str, now: float) -> None:
        self._clear_since.pop(key, None)
        alert = self._active.pop(key)
        alert.state = "resolved"
        alert.resolved_at = now
        self._resolved.append(alert)
        seconds = max(0.0, now - alert.first_at)
        log.info(
            "Alert resolved: %s for %s after %.0f s",
            TITLES[alert.kind],
            alert.service,
            seconds,
            extra=_extra("alert_resolved", alert),
        )
        self._tell("resolved", alert)

    def _retire(self, now: float) -> None:
        oldest = now - self.settings.retention
        while self._resolved and (self._resolved[0].resolved_at or 0.0) <= oldest:
            self._resolved.popleft()

    def _tell(self, event: Literal["raised", "resolved"], alert: Alert) -> None:
        if self._on_change is not None:
            self._on_change(event, alert)


def _extra(event: str, alert: Alert) -> dict[str, object]:
    return {
        "event": event,
        "alert": alert.id,
        "kind": alert.kind,
        "severity": alert.severity,
        "service": alert.service,
    }
