"""Healthy, Degraded, Unhealthy: which of them, and why."""

import pytest

from gateway.control.parts import ServiceStates
from gateway.control.ports.gateway import CircuitView
from gateway.control.service_health import judged
from gateway.telemetry.alerts.rules import AlertSettings
from gateway.telemetry.services.cells import WIDTH, ServiceCells
from gateway.telemetry.services.rates import Rate, rate

SETTINGS = AlertSettings(high_error_rate=0.05, critical_error_rate=0.5, minimum_requests=20, high_errors_per_minute=10)


def figures(requests: int = 0, failed: int = 0, errors: int | None = None) -> Rate:
    counts = [0] * WIDTH
    counts[:3] = requests, failed, failed if errors is None else errors
    return rate("a", 300.0, counts, None, "fleet")


def states(state: str = "closed", *, exhausted: bool = False) -> ServiceStates:
    circuit = CircuitView("a", state, 0, 1, 12.0, "why", None)
    return ServiceStates({"a": circuit}, frozenset({"a"} if exhausted else ()), SETTINGS)


@pytest.mark.parametrize(
    ("rate_", "standing_", "status", "word"),
    [
        (figures(), states(), "Healthy", None),
        (figures(1000, 50), states(), "Healthy", None),
        (figures(1000, 51), states(), "Degraded", "51 of 1000"),
        (figures(19, 9), states(), "Healthy", None),
        (figures(100, 49), states(), "Degraded", "49.0%"),
        (figures(100, 50), states(), "Unhealthy", "50.0%"),
        (figures(100_000, 0, 50), states(), "Healthy", None),
        (figures(100_000, 0, 51), states(), "Degraded", "10.2 errors a minute"),
        (figures(), states("open"), "Unhealthy", "next probe in 12 s"),
        (figures(), states("forced_open"), "Unhealthy", "by an operator"),
        (figures(), states("half_open"), "Degraded", "half-open"),
        (figures(), states("forced_closed"), "Healthy", None),
        (figures(), states(exhausted=True), "Unhealthy", "No endpoint of a"),
        (figures(100, 6), states("open"), "Unhealthy", "6 of 100"),
    ],
)
def test_a_service(rate_: Rate, standing_: ServiceStates, status: str, word: str | None) -> None:
    judgement = judged(standing_, rate_)
    assert judgement.status == status
    assert (judgement.reasons == []) if word is None else any(word in reason for reason in judgement.reasons)


def test_refusals_are_not_what_a_service_is_blamed_for() -> None:
    cells = ServiceCells("a", 1000.0)
    for _ in range(45):
        cells.request(1000.0)
    for _ in range(7):
        cells.failed_request(1000.0)
        cells.error(1000.0, "Network")
    for _ in range(39):
        cells.refusal(1000.0, "RateLimit")
    judgement = judged(states(), rate("a", 300.0, cells.counts(300.0, 1000.0), None, "fleet"))
    assert judgement.status == "Degraded"
    assert judgement.reasons[0].startswith("7 of 91 requests to a failed in the last 5 min (7.7%); mostly Network.")
