"""The rules for alerts and their lives, by a clock that the test sets."""

import asyncio
import logging

import pytest

from gateway.reasons import CATEGORIES
from gateway.telemetry.alerts.alerts import Alert, Alerts
from gateway.telemetry.alerts.check import AlertCheck
from gateway.telemetry.alerts.rules import AlertFacts, AlertSettings, CircuitFact, findings
from gateway.telemetry.services.cells import ServiceCells
from gateway.telemetry.services.rates import Rate, rate

SETTINGS = AlertSettings(interval=15.0, resolve_after=30.0, retention=3600.0)


def figures(requests: int = 0, failed: int = 0, errors: int = 0, window: float = 60.0, service: str = "orders") -> Rate:
    by_category = dict.fromkeys(CATEGORIES, 0) | {"Timeout": errors}
    refused = dict.fromkeys(CATEGORIES, 0)
    return Rate(service, window, requests, failed, errors, 0, by_category, refused, None, "fleet")


class Book:
    def __init__(self, settings: AlertSettings = SETTINGS) -> None:
        self.now = 1_700_000_000.0
        self.told: list[tuple[str, str]] = []
        self.alerts = Alerts(settings, "gateway", on_change=self._changed, clock=lambda: self.now)

    def _changed(self, event: str, alert: Alert) -> None:
        self.told.append((event, alert.key))

    def check(self, facts: AlertFacts, after: float = 15.0) -> list[str]:
        self.now += after
        self.alerts.check(facts)
        return [alert.key for alert in self.alerts.active()]


def found(facts: AlertFacts, before: AlertFacts | None = None) -> dict[str, bool]:
    return {f"{each.kind}/{each.service}": each.fires for each in findings(facts, before, SETTINGS, "gateway")}


@pytest.mark.parametrize(
    ("figures_", "expected"),
    [
        (figures(1000, 0, 10), {"high_error_rate/orders": False}),
        (figures(1000, 0, 11), {"high_error_rate/orders": True}),
        (figures(1000, 0, 8), {}),
        (figures(1000, 50, 0), {"high_error_rate/orders": False}),
        (figures(1000, 51, 0), {"high_error_rate/orders": True}),
        (figures(1000, 40, 0), {}),
        (figures(19, 5, 5), {}),
        (figures(20, 5, 5), {"high_error_rate/orders": True}),
        (figures(100, 50, 1), {"high_error_rate/orders": True, "critical_error_rate/orders": True}),
        (figures(100, 45, 1), {"high_error_rate/orders": True, "critical_error_rate/orders": False}),
        (figures(4, 4, 4), {"critical_error_rate/orders": False}),
        (figures(0, 0, 0), {}),
        (figures(600, 0, 55, window=300.0), {"high_error_rate/orders": True}),
    ],
)
def test_error_rates(figures_: Rate, expected: dict[str, bool]) -> None:
    assert found(AlertFacts(rates=[figures_])) == expected


def test_refusals_are_not_what_an_alert_blames() -> None:
    cells = ServiceCells("orders", 1000.0)
    for _ in range(52):
        cells.request(1000.0)
    for _ in range(7):
        cells.failed_request(1000.0)
        cells.error(1000.0, "Dependency")
    for _ in range(39):
        cells.refusal(1000.0, "RateLimit")
    orders = rate("orders", 60.0, cells.counts(60.0, 1000.0), None, "fleet")
    (finding,) = findings(AlertFacts(rates=[orders]), None, SETTINGS, "gateway")
    assert "Most of them Dependency (7). It answers with errors" in finding.message
    assert "RateLimit" not in finding.message


@pytest.mark.parametrize(
    ("state", "severity"),
    [
        ("closed", None),
        ("forced_closed", None),
        ("open", "critical"),
        ("half_open", "critical"),
        ("forced_open", "warning"),
    ],
)
def test_circuits(state: str, severity: str | None) -> None:
    facts = AlertFacts(circuits=[CircuitFact("orders", state, "5 consecutive failures", 12.0)])
    found = list(findings(facts, None, SETTINGS, "gateway"))
    assert [each.severity for each in found] == ([severity] if severity else [])
    assert all("5 consecutive failures" in each.message for each in found)


def said(facts: AlertFacts, before: AlertFacts | None = None) -> str:
    (finding,) = findings(facts, before, SETTINGS, "gateway")
    return finding.message


def test_an_open_circuit_says_when_it_is_tried_next() -> None:
    assert "the next in 12 s." in said(AlertFacts(circuits=[CircuitFact("orders", "open", "", 12.0)]))
    assert "the next in 1 s." in said(AlertFacts(circuits=[CircuitFact("orders", "open", "", 0.2)]))
    assert "the next now." in said(AlertFacts(circuits=[CircuitFact("orders", "open", "", 0.0)]))


@pytest.mark.parametrize("retry_after", [0.0, 1.0])
def test_a_half_open_circuit_is_being_tried(retry_after: float) -> None:
    message = said(AlertFacts(circuits=[CircuitFact("orders", "half_open", "probing", retry_after)]))
    assert message.startswith("The circuit of orders is half-open (probing): all its requests but probes are refused")
    assert " s." not in message


def test_one_is_not_many() -> None:
    before = AlertFacts()
    assert "the last check 1 retry of a request to orders" in said(AlertFacts(exhausted={"orders": 1}), before)
    assert "the last check 2 retries of requests to orders" in said(AlertFacts(exhausted={"orders": 2}), before)
    assert "turned away 1 request or connection since" in said(AlertFacts(shed=1), before)
    assert "turned away 2 requests or connections since" in said(AlertFacts(shed=2), before)


def test_redis() -> None:
    assert found(AlertFacts(redis_up=None)) == {}
    assert found(AlertFacts(redis_up=True)) == {}
    assert found(AlertFacts(redis_up=False)) == {"redis_lost/gateway": True}


def test_counts_speak_only_when_they_have_grown_since_the_last_check() -> None:
    facts = AlertFacts(exhausted={"orders": 5, "payments": 0}, shed=7)
    assert found(facts) == {}
    assert found(facts, facts) == {}
    assert found(facts, AlertFacts(exhausted={"orders": 4}, shed=6)) == {
        "retry_budget_exhausted/orders": True,
        "shedding/gateway": True,
    }


def test_messages_say_what_a_person_can_do() -> None:
    (high,) = findings(AlertFacts(rates=[figures(100, 10, 30)]), None, SETTINGS, "gateway")
    assert high.message == (
        "orders had 30 errors (30.0 a minute) in the last 60 s, and 10 of 100 requests failed (10.0 %)."
        " Most of them Timeout (30). It is slow, or UPSTREAM_TIMEOUT is too short for what it does."
    )


def test_an_alert_is_raised_counted_and_resolved(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.alerts")
    book = Book()
    bad = AlertFacts(rates=[figures(100, 10, 30)])
    assert book.check(bad) == ["high_error_rate/orders"]
    raised_at = book.now
    assert book.check(bad) == ["high_error_rate/orders"]
    (alert,) = book.alerts.active()
    assert (alert.first_at, alert.last_at, alert.count, alert.state) == (raised_at, book.now, 2, "active")
    assert book.check(AlertFacts()) == ["high_error_rate/orders"]
    assert book.check(AlertFacts()) == ["high_error_rate/orders"]
    assert book.check(AlertFacts()) == []
    assert book.told == [("raised", alert.key), ("resolved", alert.key)]
    assert (alert.state, alert.resolved_at, alert.last_at) == ("resolved", book.now, raised_at + 15.0)
    assert book.alerts.all() == [alert]
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "High error rate detected",
        "Alert resolved",
    ]


def test_what_swings_about_the_threshold_is_one_alert() -> None:
    book = Book()
    for _ in range(20):
        book.check(AlertFacts(rates=[figures(1000, 0, 11)]))
        book.check(AlertFacts(rates=[figures(1000, 0, 9)]))
        book.check(AlertFacts(rates=[figures(1000, 0, 1)]))
    assert book.told == [("raised", "high_error_rate/orders")]
    (alert,) = book.alerts.active()
    assert alert.count == 20


def test_an_alert_that_comes_back_is_another_one() -> None:
    book = Book()
    facts = AlertFacts(circuits=[CircuitFact("orders", "open", "", 1.0)])
    for _ in range(2):
        book.check(facts)
        for _ in range(3):
            book.check(AlertFacts())
    first, second = book.alerts.all()
    assert (first.key, first.id != second.id) == (second.key, True)
    assert first.first_at > second.first_at, "the latest end first"


def test_the_worst_come_first() -> None:
    book = Book()
    book.check(AlertFacts(redis_up=False))
    book.check(AlertFacts(redis_up=False, circuits=[CircuitFact("orders", "open", "", 1.0)]))
    assert book.check(AlertFacts(redis_up=False, circuits=[CircuitFact("a", "forced_open", "", 1.0)])) == [
        "circuit_open/orders",
        "circuit_open/a",
        "redis_lost/gateway",
    ]
    assert dict(book.alerts.count_by_kind())[("circuit_open",)] == 2
    assert dict(book.alerts.count_by_kind())[("shedding",)] == 0


def test_resolved_alerts_are_retired_or_cleaned_up() -> None:
    book = Book()
    book.check(AlertFacts(redis_up=False))
    for _ in range(3):
        book.check(AlertFacts(redis_up=True))
    assert len(book.alerts.all()) == 1
    book.now += 3599.0
    assert len(book.alerts.all()) == 1
    book.now += 1.0
    assert book.alerts.all() == []
    book.check(AlertFacts(redis_up=False))
    assert book.alerts.cleanup() == 0, "an active alert stays"
    for _ in range(3):
        book.check(AlertFacts(redis_up=True))
    assert book.alerts.cleanup() == 1
    assert book.alerts.all() == []


def test_what_is_kept_is_bounded() -> None:
    book = Book(AlertSettings(resolve_after=0.0))
    for _ in range(600):
        book.check(AlertFacts(redis_up=False))
        book.check(AlertFacts(redis_up=True))
    assert len(book.alerts.all()) == 500


async def test_the_check_survives_facts_that_cannot_be_had(caplog: pytest.LogCaptureFixture) -> None:
    alerts = Alerts(AlertSettings(interval=0.0), "gateway")
    calls = 0
    enough = asyncio.Event()

    async def gather() -> AlertFacts:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("no facts")
        enough.set()
        return AlertFacts(redis_up=False)

    check = AlertCheck(alerts, gather)
    check.start()
    await asyncio.wait_for(enough.wait(), 5.0)
    await asyncio.sleep(0)
    await check.stop()
    assert [alert.kind for alert in alerts.active()] == ["redis_lost"]
    assert any("the check for alerts failed" in record.message for record in caplog.records)
