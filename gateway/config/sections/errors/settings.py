"""The settings of error records and alerts."""

from typing import Annotated

from annotated_types import Interval
from pydantic import Field

from gateway.config.declaring.field_types import Share, WebhookUrl
from gateway.config.declaring.section import Env, Hours, Seconds, Section


class Errors(Section):
    """Errors and alerts"""

    recent_max: Annotated[
        int, Interval(ge=1, le=10_000), Env("ERRORS_RECENT_MAX", "Latest errors kept, by each process and by the fleet")
    ] = 1000
    check_interval: Annotated[
        Seconds, Interval(ge=0.1, le=3600), Env("ALERT_CHECK_INTERVAL_SECONDS", "From one check for alerts to the next")
    ] = 15.0
    window: Annotated[
        Seconds, Interval(ge=10, le=3600), Env("ALERT_WINDOW_SECONDS", "Time over which the check looks at errors")
    ] = 60.0
    high_errors_per_minute: Annotated[
        float,
        Interval(ge=0, le=1_000_000),
        Env("ALERT_HIGH_ERRORS_PER_MINUTE", "Errors a minute of a service beyond which it has a high error rate"),
    ] = 10.0
    high_error_rate: Annotated[
        Share, Env("ALERT_HIGH_ERROR_RATE", "Share of failed requests beyond which it has one too")
    ] = 0.05
    critical_error_rate: Annotated[
        Share, Env("ALERT_CRITICAL_ERROR_RATE", "Share of failed requests from which it is critical")
    ] = 0.5
    minimum_requests: Annotated[
        int, Interval(ge=1, le=1_000_000), Env("ALERT_MINIMUM_REQUESTS", "Requests before shares count")
    ] = 20
    resolve_after: Annotated[
        Seconds,
        Interval(ge=0, le=3600),
        Env("ALERT_RESOLVE_AFTER_SECONDS", "An alert ends when nothing has spoken for it for so long"),
    ] = 30.0
    retention_hours: Annotated[
        Hours,
        Interval(ge=0, le=8760),
        Env("ALERT_RETENTION_HOURS", "Time for which alerts that have ended are kept"),
    ] = 24.0
    webhook_url: Annotated[
        WebhookUrl | None,
        Env("ALERT_WEBHOOK_URL", "Where alerts are sent when they are raised and resolved", "nowhere", secret=True),
    ] = Field(default=None, repr=False)
    webhook_secret: Annotated[
        str | None, Env("ALERT_WEBHOOK_SECRET", "Key of the HMAC-SHA256 signature", "not signed", secret=True)
    ] = Field(default=None, repr=False)
    webhook_timeout: Annotated[
        Seconds, Interval(ge=0.1, le=60), Env("ALERT_WEBHOOK_TIMEOUT_SECONDS", "Bounds one attempt to deliver")
    ] = 5.0
