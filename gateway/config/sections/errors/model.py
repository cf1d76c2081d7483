"""Error records and alerts in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ErrorsConfig:
    """Error records and alerts.

    Rates are from 0 to 1. Alerts are judged by the figures of `window`, in which a rate says nothing before there are
    `minimum_requests`. `recent_max` bounds the records that are kept, by each process and by the fleet.
    """

    recent_max: int = 1000
    check_interval: float = 15.0
    window: float = 60.0
    high_errors_per_minute: float = 10.0
    high_error_rate: float = 0.05
    critical_error_rate: float = 0.5
    minimum_requests: int = 20
    resolve_after: float = 30.0
    retention_hours: float = 24.0
    webhook_url: str | None = field(default=None, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    webhook_timeout: float = 5.0
