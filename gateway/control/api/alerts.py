"""Alerts of this gateway's checks, and forgetting those that are over. One worker checks, and all show the same."""

from typing import Any, Literal

from gateway.control.api import audit
from gateway.control.api.operation import Call, Operation
from gateway.control.models.alerts import AlertEntry, Alerts, Cleanup
from gateway.control.models.shapes import Input, Nothing
from gateway.control.parts import ControlledGateway
from gateway.telemetry.alerts.alerts import Alert
from gateway.telemetry.log.render import rfc3339


class Which(Input):
    """Which alerts are asked for."""

    state: Literal["active", "all"] = "active"


def entry(alert: Alert) -> AlertEntry:
    """An alert in the shape that the API answers with."""
    return AlertEntry(
        id=alert.id,
        name=alert.kind,
        severity=alert.severity,
        service=alert.service,
        state=alert.state,
        message=alert.message,
        first_time=rfc3339(alert.first_at),
        last_time=rfc3339(alert.last_at),
        resolved_time=None if alert.resolved_at is None else rfc3339(alert.resolved_at),
        count=alert.count,
    )


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operations on alerts."""

    async def alerts(call: Call[Which, Nothing]) -> Alerts:
        """The alerts that are active, or all that are kept."""
        found = gateway.alerts.all() if call.query.state == "all" else gateway.alerts.active()
        return Alerts(count=len(found), alerts=[entry(alert) for alert in found])

    async def cleanup(call: Call[Nothing, Nothing]) -> Cleanup:
        """Forget the alerts that are resolved."""
        before = len(gateway.alerts.all())
        removed = gateway.alerts.cleanup()
        gateway.on_cleanup()
        audit.record(
            "cleanup-alerts", call, before={"alerts": before}, after={"alerts": before - removed}, scope="process"
        )
        return Cleanup(removed=removed)

    return [
        Operation(
            "GET", "/api/resilience/alerts", "getAlerts", "What is wrong, or was", Alerts, alerts, Which, Nothing
        ),
        Operation(
            "POST", "/api/admin/cleanup/alerts", "cleanupAlerts", "Forget the alerts that are resolved",
            Cleanup, cleanup, Nothing, Nothing, changes=True,
        ),
    ]  # fmt: skip
