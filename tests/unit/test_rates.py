"""The cells of one service, by a clock that the test sets."""

import pytest

from gateway.reasons import CATEGORIES
from gateway.telemetry.services.cells import (
    CELL,
    ERRORS,
    FAILED,
    FIRST_CATEGORY,
    FIRST_REFUSED,
    HORIZON,
    REQUESTS,
    WIDTH,
    ServiceCells,
)
from gateway.telemetry.services.rates import rate

START = 100_000.0


def cells() -> ServiceCells:
    return ServiceCells("orders", START)


def test_every_kind_of_event_has_its_counts() -> None:
    service = cells()
    service.request(START)
    service.failed_request(START)
    service.error(START, "Timeout")
    service.error(START, "Timeout")
    service.refusal(START, "RateLimit")
    service.failed_refusal(START, "Dependency")
    counts = service.counts(60.0, START)
    expected = [0] * WIDTH
    expected[REQUESTS], expected[FAILED], expected[ERRORS] = 4, 2, 3
    (
        expected[FIRST_CATEGORY + CATEGORIES.index("Timeout")],
        expected[FIRST_CATEGORY + CATEGORIES.index("RateLimit")],
        expected[FIRST_CATEGORY + CATEGORIES.index("Dependency")],
    ) = 2, 1, 1
    expected[FIRST_REFUSED + CATEGORIES.index("RateLimit")] = 1
    assert counts == expected


def test_a_rate_puts_the_counts_into_words() -> None:
    service = cells()
    for _ in range(29):
        service.request(START)
    for _ in range(10):
        service.failed_request(START)
        service.error(START, "Network")
    service.refusal(START, "Validation")
    found = rate("orders", 300.0, service.counts(300.0, START), 7.0, "fleet")
    assert (found.requests, found.failed_requests, found.errors, found.refused) == (40, 10, 10, 1)
    assert found.error_rate == 0.25
    assert found.errors_per_minute == 2.0
    assert list(found.by_category) == list(CATEGORIES)
    assert sum(found.by_category.values()) == found.errors + found.refused


def test_the_main_error_leaves_refusals_aside() -> None:
    service = cells()
    for _ in range(5):
        service.refusal(START, "Timeout")
    assert rate("orders", 60.0, service.counts(60.0, START), None, "fleet").main_error is None
    service.error(START, "Timeout")
    service.error(START, "Network")
    service.error(START, "Network")
    found = rate("orders", 60.0, service.counts(60.0, START), None, "fleet")
    assert (found.by_category["Timeout"], found.refused_by_category["Timeout"]) == (6, 5)
    assert found.main_error == ("Network", 2)


def test_without_requests_the_error_rate_is_nought() -> None:
    assert rate("orders", 60.0, [0] * WIDTH, None, "process").error_rate == 0.0


@pytest.mark.parametrize(("later", "seen"), [(0.0, 1), (59.0, 1), (60.0, 1), (60.0 + CELL, 0), (3000.0, 0)])
def test_a_window_forgets_within_one_cell(later: float, seen: int) -> None:
    service = cells()
    service.request(START)
    assert service.counts(60.0, START + later)[REQUESTS] == seen


def test_an_hour_is_kept_and_no_more() -> None:
    service = cells()
    service.request(START)
    assert service.counts(HORIZON, START + HORIZON)[REQUESTS] == 1
    assert service.counts(10 * HORIZON, START + HORIZON + CELL)[REQUESTS] == 0
    for i in range(1000):
        service.request(START + i * CELL)
    assert len(service._cells) <= HORIZON / CELL + 1


def test_reading_changes_nothing() -> None:
    service = cells()
    service.error(START, "Timeout")
    before = service.counts(60.0, START + 30)
    assert service.counts(60.0, START + 3000)[ERRORS] == 0
    assert service.counts(60.0, START + 30) == before


def test_what_is_taken_is_taken_once_and_has_the_instant_of_its_first_count() -> None:
    service = cells()
    assert service.take() is None
    service.request(START + 1)
    service.request(START + 12)
    began, delta = service.take() or (0.0, [])
    assert (began, delta[REQUESTS]) == (START + 1, 2)
    assert service.take() is None
    service.request(START + 14)
    service.request(START + 15)
    began, delta = service.take() or (0.0, [])
    assert (began, delta[REQUESTS]) == (START + 14, 2)
    assert service.counts(60.0, START + 15)[REQUESTS] == 4


def test_a_reset_forgets_everything_and_counting_goes_on() -> None:
    service = cells()
    service.error(START, "Timeout")
    service.error(START + 20, "Timeout")
    service.reset()
    assert service.last_error_at is None
    assert service.take() is None
    assert service.counts(HORIZON, START + 20) == [0] * WIDTH
    service.request(START + 21)
    assert service.take() == (START + 21, [1, *[0] * (WIDTH - 1)])


def test_the_last_error_is_forgotten_after_an_hour() -> None:
    service = cells()
    service.error(START, "Timeout")
    service.request(START + HORIZON - 1)
    assert service.last_error_at == START
    service.request(START + HORIZON + CELL)
    assert service.last_error_at is None
