"""The last hour of every route, as the supervisor keeps it."""

import json

from gateway.control.api.hour import by_service
from gateway.supervisor.hour import STEP, STEPS, Hour
from gateway.supervisor.totals import Totals
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.snapshot import SEPARATOR


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def told(totals: Totals, slot: int, metrics: Metrics) -> None:
    totals.put(slot, 100 + slot, json.loads(json.dumps(metrics.snapshot())))


def test_a_step_has_what_was_counted_in_it_by_all_workers() -> None:
    clock, totals = Clock(), Totals()
    hour = Hour(clock)
    workers = [Metrics("gw", ["a", "b"], ["u"], "1") for _ in range(2)]
    for slot, metrics in enumerate(workers):
        totals.started(slot, 100 + slot)
        metrics.route("a").exchange("GET", 200, 0.1)
        told(totals, slot, metrics)
    hour.note(totals)
    assert hour.all() == []
    workers[0].route("a").exchange("GET", 500, 0.1)
    workers[1].route("a").exchange("GET", 200, 0.1)
    for slot, metrics in enumerate(workers):
        told(totals, slot, metrics)
    clock.now += STEP
    hour.note(totals)
    assert hour.all() == [[1010.0, {"a": [2, 1]}]]


def test_a_route_that_splits_its_requests_has_a_count_for_each_upstream_besides() -> None:
    clock, totals = Clock(), Totals()
    hour = Hour(clock)
    totals.started(0, 100)
    metrics = Metrics("gw", ["a"], ["u", "v"], "1")
    counts = {("a", "v", "2xx"): 3, ("a", "v", "5xx"): 1}
    metrics.counter("split_responses_total", "Of it.", ("route", "upstream", "status"), counts.items)
    told(totals, 0, metrics)
    hour.note(totals)
    metrics.route("a").exchange("GET", 500, 0.1)
    counts["a", "v", "5xx"] += 1
    told(totals, 0, metrics)
    hour.note(totals)
    assert hour.all() == [[1000.0, {"a": [1, 1], f"a{SEPARATOR}v": [1, 1]}]]
    assert services_of(["u", "v"], {"a": "u"}, [(1000.0, {"a": (5, 2), f"a{SEPARATOR}v": (2, 2)})]) == {
        "u": (3, 0),
        "v": (2, 2),
    }


def services_of(
    names: list[str], first: dict[str, str], steps: list[tuple[float, dict[str, tuple[int, int]]]]
) -> dict[str, tuple[int, int]]:
    found = by_service(names, first, steps, 1000.0)
    return {name: (sum(each.requests), sum(each.failed)) for name, each in found.items()}


def test_it_outlives_workers_and_an_upgrade() -> None:
    clock, totals = Clock(), Totals()
    hour = Hour(clock)
    totals.started(0, 100)
    metrics = Metrics("gw", ["a"], ["u"], "1")
    told(totals, 0, metrics)
    hour.note(totals)
    metrics.route("a").exchange("GET", 200, 0.1)
    told(totals, 0, metrics)
    totals.ended(0, 100)
    hour.note(totals)
    later = Hour(clock)
    later.restore(json.loads(json.dumps(hour.dump())))
    later.note(totals)
    assert later.all() == [[1000.0, {"a": [1, 0]}], [1000.0, {}]]


def test_it_is_bounded() -> None:
    clock, totals = Clock(), Totals()
    hour = Hour(clock)
    for _ in range(STEPS + 20):
        clock.now += STEP
        hour.note(totals)
    assert len(hour.all()) == STEPS
