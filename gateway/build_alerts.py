"""The part of `gateway.build` that makes the alerts."""

import random
from dataclasses import dataclass

from gateway.config.model import ErrorsConfig, GatewayConfig
from gateway.live_view import LiveView, alert_facts
from gateway.telemetry.alerts import AlertCheck, AlertFacts, Alerts, AlertSettings
from gateway.telemetry.figures import Figures
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.webhook import Webhook


@dataclass(frozen=True, slots=True)
class Alerting:
    """The alerts, the loop that judges them, and where they are sent."""

    alerts: Alerts
    check: AlertCheck
    webhook: Webhook | None


def build_alerting(
    config: GatewayConfig, metrics: Metrics, figures: Figures, view: LiveView, rng: random.Random
) -> Alerting:
    """The alerts of this process, the loop that judges them, and the webhook if one is configured."""
    errors = config.errors
    webhook = None
    if errors.webhook_url is not None:
        source = {"gateway": config.service, "environment": config.environment}
        webhook = Webhook(errors.webhook_url, errors.webhook_secret, source, rng, timeout=errors.webhook_timeout)
    on_change = webhook.deliver if webhook is not None else None
    alerts = Alerts(_alert_settings(errors), config.service, on_change=on_change)
    metrics.gauge("gateway_alerts_active", "Alerts that are active in this process.", ("kind",), alerts.count_by_kind)
    if webhook is not None:
        sent = webhook
        metrics.counter(
            "gateway_alert_deliveries_total",
            "Alerts sent to the webhook, by what became of them; retried ones are attempts beyond the first.",
            ("outcome",),
            lambda: ((("sent",), sent.sent), (("failed",), sent.failed), (("retried",), sent.retried)),
        )

    async def facts() -> AlertFacts:
        """What the rules of the alerts look at, gathered now."""
        return alert_facts(view, await figures.rates(errors.window), metrics)

    return Alerting(alerts, AlertCheck(alerts, facts), webhook)


def _alert_settings(config: ErrorsConfig) -> AlertSettings:
    return AlertSettings(
        interval=config.check_interval,
        window=config.window,
        high_errors_per_minute=config.high_errors_per_minute,
        high_error_rate=config.high_error_rate,
        critical_error_rate=config.critical_error_rate,
        minimum_requests=config.minimum_requests,
        resolve_after=config.resolve_after,
        retention=config.retention_hours * 3600.0,
    )
