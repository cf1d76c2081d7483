"""Error records, and the figures that are made of them, by clocks that the test sets."""

from collections.abc import Sequence

import orjson
import pytest

from gateway.telemetry.services.errors import ErrorLog, ErrorRecord
from gateway.telemetry.services.figures import Figures, Records, _parsed


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def wall(self) -> float:
        return self.now + 1_700_000_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def errors(clock: Clock) -> ErrorLog:
    return ErrorLog("gateway", ["orders", "payments"], capacity=5, clock=clock.wall, monotonic=clock.monotonic)


@pytest.fixture
def figures(errors: ErrorLog, clock: Clock) -> Figures:
    away = Fleet()
    away.answers = False
    return Figures(errors, away, clock=clock.wall, monotonic=clock.monotonic)


def fail(errors: ErrorLog, service: str = "orders", attempt: int = 1, reason: str = "upstream_timeout") -> None:
    errors.attempt_failed(service, "Timeout", reason, None, attempt, b"r1", b"c1", f"upstream {service}: no answer")


def test_a_failed_attempt_is_a_record_with_everything_known_of_it(errors: ErrorLog, clock: Clock) -> None:
    fail(errors, attempt=2)
    assert errors.recent(10) == [
        ErrorRecord(
            clock.wall(),
            "r1",
            "c1",
            "orders",
            "Timeout",
            "upstream_timeout",
            None,
            2,
            "upstream orders: no answer",
            True,
        )
    ]


@pytest.mark.parametrize(
    ("service", "reason", "status", "belongs_to", "category", "counts"),
    [
        ("orders", "circuit_open", 503, "orders", "Dependency", True),
        ("orders", "bulkhead_full", 503, "orders", "Dependency", True),
        ("orders", "rate_limited", 429, "orders", "RateLimit", False),
        ("orders", "overloaded", 429, "gateway", "RateLimit", False),
        ("orders", "overloaded", 503, "gateway", "RateLimit", True),
        ("orders", "draining", 503, "gateway", "InvalidState", True),
        ("", "not_found", 404, "gateway", "Validation", False),
        ("", "bad_request", 400, "gateway", "Validation", False),
        ("orders", "body_too_large", 413, "orders", "Validation", False),
    ],
)
async def test_a_refusal_belongs_to_whom_it_concerns(
    errors: ErrorLog,
    figures: Figures,
    service: str,
    reason: str,
    status: int,
    belongs_to: str,
    category: str,
    counts: bool,
) -> None:
    errors.refused(errors.kind(service, reason, status), b"r", b"c", "why", 1000.0, 1.5)
    (record,) = errors.recent(1)
    assert (record.service, record.category, record.attempt, record.counts) == (belongs_to, category, 0, counts)
    assert (record.time, record.reason, record.status, record.message) == (1.5, reason, status, "why")
    found = await figures.rate(belongs_to)
    assert (found.requests, found.failed_requests) == (1, int(counts))
    assert (found.errors, found.refused) == (int(counts), int(not counts))


def test_a_refusal_that_a_failed_attempt_led_to_is_no_second_record(errors: ErrorLog) -> None:
    fail(errors)
    kind = errors.kind("orders", "upstream_timeout", 504)
    errors.refused(kind, b"r1", b"c1", "no answer in time", 1000.0, 1.5)
    assert errors.recorded == 1


@pytest.mark.parametrize(
    ("reason", "answered_badly", "failed"),
    [("", True, 1), ("upstream_truncated", False, 1), ("client_closed", False, 0), ("client_closed", True, 0)],
)
async def test_a_client_that_leaves_is_no_failed_request(
    errors: ErrorLog, figures: Figures, reason: str, answered_badly: bool, failed: int
) -> None:
    errors.over("orders", reason, answered_badly, 1000.0)
    found = await figures.rate("orders")
    assert (found.requests, found.failed_requests) == (1, failed)


def test_the_ring_keeps_the_newest_and_counts_all(errors: ErrorLog) -> None:
    for attempt in range(1, 9):
        fail(errors, "payments" if attempt % 2 else "orders", attempt)
    assert [record.attempt for record in errors.recent(100)] == [8, 7, 6, 5, 4]
    assert [record.attempt for record in errors.recent(2)] == [8, 7]
    assert [record.attempt for record in errors.recent(2, "payments")] == [7, 5]
    assert errors.recorded == 8
    assert [record.attempt for record in errors.since(6, 10)] == [7, 8]
    assert [record.attempt for record in errors.since(0, 3)] == [6, 7, 8]


def test_each_record_is_told_at_once() -> None:
    told: list[ErrorRecord] = []
    errors = ErrorLog("gateway", ["orders"], on_record=told.append)
    fail(errors)
    assert told == errors.recent(1)


class Fleet:
    """A store that answers what it is told to, or nothing."""

    def __init__(self) -> None:
        self.answers = True
        self.published: list[bytes] = []
        self.forgotten: list[str] = []

    async def read(self, services: Sequence[str], window: float) -> Sequence[tuple[Sequence[int], float | None]] | None:
        return [((7, 1, 2, *([0] * 9), 2, *([0] * 10)), 5.0) for _ in services] if self.answers else None

    async def recent(self, count: int) -> Sequence[bytes] | None:
        return self.published[:count] if self.answers else None

    async def reset(self, service: str) -> bool:
        if self.answers:
            self.forgotten.append(service)
        return self.answers


async def test_figures_are_the_fleets_and_ones_own_when_it_is_away(errors: ErrorLog, clock: Clock) -> None:
    fleet = Fleet()
    figures = Figures(errors, fleet, clock=clock.wall, monotonic=clock.monotonic)
    fail(errors)
    clock.now += 3.0
    found = await figures.rate("orders")
    assert (found.scope, found.requests, found.errors) == ("fleet", 7, 2)
    assert found.last_error_time == clock.wall() - 5.0
    fleet.answers = False
    found = (await figures.rates())["orders"]
    assert (found.scope, found.requests, found.errors) == ("process", 0, 1)
    assert found.last_error_time == clock.wall() - 3.0
    assert (await figures.recent(5)).scope == "process"


async def test_records_of_the_fleet_are_told_apart_sorted_and_filtered(errors: ErrorLog, clock: Clock) -> None:
    other = ErrorLog("gateway", ["orders", "payments"], clock=clock.wall, monotonic=clock.monotonic)
    for attempt in (1, 2, 3):
        clock.now += 1.0
        fail(errors, attempt=attempt)
        clock.now += 1.0
        fail(other, "payments", attempt=10 + attempt)
    mine, others = Records(errors, "a"), Records(other, "b")
    fleet = Fleet()
    fleet.published = [
        *reversed(others.unpublished(0, 10)),
        *reversed(mine.unpublished(1, 10)),
        *reversed(mine.unpublished(0, 10)),  # sent again: its answer was lost
        b"not of this version",
        b"[]",
    ]
    figures = Figures(errors, fleet)
    found = await figures.recent(100)
    assert (found.scope, [record.attempt for record in found.records]) == ("fleet", [13, 3, 12, 2, 11, 1])
    fleet.published = fleet.published[:3]
    assert [record.attempt for record in (await figures.recent(2, "payments")).records] == [13, 12]


async def test_a_reset_forgets_the_figures_and_closes_the_circuit(errors: ErrorLog) -> None:
    closed: list[str] = []

    async def close(upstream: str) -> bool:
        closed.append(upstream)
        return True

    fleet = Fleet()
    figures = Figures(errors, fleet, close)
    fail(errors)
    assert await figures.reset("orders") == ("fleet", "fleet")
    assert (fleet.forgotten, closed) == (["orders"], ["orders"])
    assert await figures.reset("gateway") == ("fleet", "fleet")
    assert closed == ["orders"], "the gateway has no circuit"
    fleet.answers = False
    assert (await figures.reset("orders")).figures == "process"
    assert (await figures.rate("orders")).errors == 0
    with pytest.raises(KeyError):
        await figures.reset("nobody")
    assert len((await figures.recent(5)).records) == 1, "the records stay: they happened"


async def test_the_records_of_one_client_are_found_by_a_part_of_its_name(errors: ErrorLog, figures: Figures) -> None:
    for client in ("192.0.2.7", "192.0.2.70", "2001:db8::/64", ""):
        errors.attempt_failed("orders", "Timeout", "upstream_timeout", None, 1, b"r", b"c", "no", client)
    found = (await figures.recent(10, None, "192.0.2.7")).records
    assert [each.client for each in found] == ["192.0.2.70", "192.0.2.7"]
    assert [each.client for each in (await figures.recent(10, "orders", "db8")).records] == ["2001:db8::/64"]
    assert (await figures.recent(10, "orders", "192.0.2.9")).records == []


async def test_a_record_of_a_version_without_clients_is_of_nobody() -> None:
    old = orjson.dumps(("a/1", 1.0, "r", "c", "orders", "Timeout", "upstream_timeout", None, 1, "no", True))
    (record,) = _parsed([old], 10, None, "")
    assert record.client == ""
    assert _parsed([old], 10, None, "192") == []
