"""The alerts, made from the configuration."""

import random
from dataclasses import dataclass

from gateway.config.model import GatewayConfig
from gateway.config.sections.errors.model import ErrorsConfig
from gateway.telemetry.alerts.alerts import Alerts
from gateway.telemetry.alerts.check import AlertCheck
from gateway.telemetry.alerts.rules import AlertFacts, AlertSettings
from gateway.telemetry.alerts.webhook import Webhook
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.snapshot import SERIES
from gateway.telemetry.services.figures import Figures
from gateway.views.process import LiveView, alert_facts
from gateway.worker.one_service import OneService


@dataclass(frozen=True, slots=True)
class Alerting:
    """The alerts, the loop that judges them, and where they are sent."""

    alerts: Alerts
    check: AlertCheck
    webhook: Webhook | None


def build_alerting(
    config: GatewayConfig,
    metrics: Metrics,
    figures: Figures,
    view: LiveView,
    rng: random.Random,
    one_service: OneService | None,
) -> Alerting:
    """The alerts, the loop that judges them, and the webhook if one is configured."""
    errors = config.errors
    webhook = None
    if errors.webhook_url is not None:
        source = {"gateway": config.service, "environment": config.environment}
        webhook = Webhook(errors.webhook_url, errors.webhook_secret, source, rng, timeout=errors.webhook_timeout)
    on_change = webhook.deliver if webhook is not None else None
    alerts = Alerts(_alert_settings(errors), config.service, on_change=on_change)
    metrics.gauge("gateway_alerts_active", "Alerts that are active.", ("kind",), alerts.count_by_kind, "max")
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
        rates = await figures.rates(errors.window)
        if one_service is None:
            return alert_facts(view, rates, metrics.retries_not_made, metrics.shed_requests)
        parts = await one_service.parts()
        exhausted = parts.combined("retry_budget_exhausted_total")[SERIES]
        return alert_facts(view, rates, exhausted, sum(parts.combined("load_shed_total")[SERIES].values()))

    if one_service is None:
        return Alerting(alerts, AlertCheck(alerts, facts), webhook)
    one_service.alerts = alerts
    check = AlertCheck(alerts, facts, leads=lambda: one_service.host.leads, share=one_service.share_alerts)
    return Alerting(alerts, check, webhook)


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
