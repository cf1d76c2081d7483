"""Healthy, Degraded or Unhealthy, for one service and for the whole, with reasons a person can act on.

    service    Unhealthy   its circuit is open, no endpoint is left, or ALERT_CRITICAL_ERROR_RATE of its requests fail
               Degraded    its circuit is half-open, more than ALERT_HIGH_ERROR_RATE of its requests fail, or it has
                           more than ALERT_HIGH_ERRORS_PER_MINUTE errors
    whole      Unhealthy   the gateway stops, or every service with a circuit is Unhealthy
               Degraded    anything else is wrong: one service, Redis, the in-flight cap

The thresholds are those of the alerts, and shares count only from ALERT_MINIMUM_REQUESTS on, so that health and alerts
do not contradict each other. A circuit that an operator has forced open counts like one that tripped, because clients
are refused in both cases.
"""

from typing import NamedTuple

from gateway.control import health
from gateway.control.models.words import HealthWord
from gateway.control.parts import ControlledGateway, ServiceStates
from gateway.control.ports.gateway import plain_state
from gateway.telemetry.services.rates import Rate

_WORDS: dict[str, HealthWord] = {"healthy": "Healthy", "degraded": "Degraded", "unhealthy": "Unhealthy"}
_ORDER: tuple[HealthWord, ...] = ("Healthy", "Degraded", "Unhealthy")


class HealthJudgement(NamedTuple):
    """A status, and why it is not better: a sentence for each cause."""

    status: HealthWord
    reasons: list[str]


def judged(states: ServiceStates, rate: Rate) -> HealthJudgement:
    """One service, by its figures and its circuit."""
    status: HealthWord = "Healthy"
    reasons: list[str] = []
    circuit = states.circuits.get(rate.service)
    state = "closed" if circuit is None else plain_state(circuit.state)
    if circuit is not None and state != "closed":
        status = "Unhealthy" if state == "open" else "Degraded"
        reasons.append(health.circuit_reason(circuit))
    if rate.service in states.exhausted:
        status = "Unhealthy"
        reasons.append(health.exhausted_reason(rate.service))
    minutes = rate.window / 60
    thresholds = states.thresholds
    critical = rate.error_rate >= thresholds.critical_error_rate
    if rate.requests >= thresholds.minimum_requests and (critical or rate.error_rate > thresholds.high_error_rate):
        status = _worse(status, "Unhealthy" if critical else "Degraded")
        mostly = f"; mostly {rate.main_error[0]}" if rate.main_error is not None else ""
        reasons.append(
            f"{rate.failed_requests} of {rate.requests} requests to {rate.service} failed in the last {minutes:g} min"
            f" ({rate.error_rate:.1%}){mostly}. See /api/resilience/errors/recent?service={rate.service}."
        )
    if rate.errors_per_minute > thresholds.high_errors_per_minute:
        status = _worse(status, "Degraded")
        reasons.append(f"{rate.service} has {rate.errors_per_minute:.1f} errors a minute.")
    return HealthJudgement(status, reasons)


def overall(gateway: ControlledGateway, states: ServiceStates, services: dict[str, HealthJudgement]) -> HealthJudgement:
    """The whole, by what `/health` knows and by what was judged of each service."""
    report = health.report(gateway.view, gateway.clock())
    status = _WORDS[str(report["status"])]
    reasons = [str(reason) for reason in report["reasons"]]  # type: ignore[attr-defined] # a list, see `health.report`
    for judgement in services.values():
        if judgement.status != "Healthy":
            status = _worse(status, "Degraded")
        reasons += [reason for reason in judgement.reasons if reason not in reasons]
    if states.circuits and all(services[name].status == "Unhealthy" for name in states.circuits):
        status = "Unhealthy"
    return HealthJudgement(status, reasons)


def _worse(one: HealthWord, other: HealthWord) -> HealthWord:
    return max(one, other, key=_ORDER.index)
