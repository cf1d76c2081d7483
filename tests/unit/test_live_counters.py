"""The live view's figures: rates and percentiles between two looks, and patches between two snapshots."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.live.counters import ATTEMPT_SECONDS, ROUTE_SECONDS, Look, Window, quantile
from gateway.syntax.merge_patch import difference, patched
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.snapshot import Parts
from gateway.telemetry.services.errors import ErrorLog

BOUNDS = (0.1, 0.2, 0.4)


class Counting:
    """A gateway's metrics, looked at whenever a test wants."""

    def __init__(self) -> None:
        self.metrics = Metrics("gw", ["a", "b"], ["u"], "1", policies=["p"])
        self.errors = ErrorLog("gw", ["u"])
        self.metrics.counter("gateway_service_refusals_total", "Refusals.", ("service", "reason"), self.errors.refusals)
        self.window = Window(seconds=5.0)

    def look(self, at: float) -> Window:
        own = self.metrics.snapshot()
        self.window.add(Look(at, Parts(own, [(0, own)], {})))
        return self.window


@pytest.mark.parametrize(
    ("share", "buckets", "found"),
    [
        (0.5, [10, 0, 0, 0], 0.05),
        (0.5, [0, 10, 0, 0], pytest.approx(0.15)),
        (0.95, [0, 0, 20, 0], pytest.approx(0.39)),
        (0.99, [50, 0, 0, 50], 0.4),
        (0.5, [0, 0, 0, 3], 0.4),
        (0.5, [0, 0, 0, 0], None),
    ],
)
def test_percentiles_are_estimated_within_a_bucket(share: float, buckets: list[int], found: float | None) -> None:
    assert quantile(share, BOUNDS, buckets) == found


def test_one_look_has_no_rates() -> None:
    counting = Counting()
    counting.metrics.route("a").exchange("GET", 200, 0.01)
    window = counting.look(10.0)
    assert window.seconds == 0.0
    assert window.observed_rate(ROUTE_SECONDS, ("a",)) == 0.0
    assert window.quantiles(ROUTE_SECONDS, ("a",), (0.5,)) == [None]


def test_rates_are_those_of_the_window() -> None:
    counting = Counting()
    counting.look(0.0)
    for _ in range(20):
        counting.metrics.route("a").exchange("GET", 200, 0.003)
        counting.metrics.route("b").exchange("GET", 503, 0.3)
        counting.metrics.attempts["u"].observe(0.003)
    counting.metrics.retried("u")
    window = counting.look(2.0)
    assert window.observed_rate(ROUTE_SECONDS, ("a", "b")) == 20.0
    assert window.rate("http_requests_5xx_total", "b") == 10.0
    assert window.rate("http_requests_5xx_total", "a") == 0.0
    assert window.rate("retry_attempts_total", "u") == 0.5
    (p50, p99) = window.quantiles(ATTEMPT_SECONDS, ("u",), (0.5, 0.99))
    assert p50 is not None
    assert p99 is not None
    assert 0.0025 < p50 < p99 <= 0.005
    # The looks that are older than the window count no more.
    for at in (4.0, 6.0, 8.0, 10.0):
        counting.look(at)
    assert window.seconds == 6.0
    assert window.observed_rate(ROUTE_SECONDS, ("a", "b")) == 0.0


def test_refusals_are_counted_by_the_service_of_the_route() -> None:
    counting = Counting()
    counting.look(0.0)
    for reason, times in (("rate_limited", 3), ("overloaded", 2)):
        for _ in range(times):
            counting.errors.refused(counting.errors.kind("u", reason, 429), b"", b"", "", 0.0, 0.0)
    # What an attempt had led to was counted with the attempt.
    counting.errors.refused(counting.errors.kind("u", "upstream_timeout", 504), b"", b"", "", 0.0, 0.0)
    window = counting.look(1.0)
    assert window.rates("gateway_service_refusals_total", "u") == {"rate_limited": 3.0, "overloaded": 2.0}


def test_gauges_with_two_labels_are_found_by_the_first_one() -> None:
    counting = Counting()
    runs = {("checkout", "running"): 3.0, ("checkout", "stuck"): 1.0, ("other", "running"): 0.0}
    counting.metrics.gauge("saga_runs", "Runs.", ("workflow", "state"), runs.items, "max")
    counting.metrics.gauge("outbox_pending", "Messages.", (), lambda: (((), 7.0),), "max")
    assert counting.window.states("saga_runs", "checkout") == {}
    window = counting.look(0.0)
    assert window.states("saga_runs", "checkout") == {"running": 3.0, "stuck": 1.0}
    assert window.state_firsts("saga_runs") == ["checkout", "other"]
    assert window.states("adaptive_limit_recent_seconds", "u") == {}
    assert window.gauge("outbox_pending") == 7
    assert window.gauge("outbox_dead") == 0


def test_counts_that_fell_are_no_negative_rates() -> None:
    counting = Counting()
    counting.metrics.route("a").exchange("GET", 500, 0.01)
    counting.look(0.0)
    fallen = Counting()
    own = fallen.metrics.snapshot()
    counting.window.add(Look(1.0, Parts(own, [(0, own)], {})))
    assert counting.window.observed_rate(ROUTE_SECONDS, ("a",)) == 0.0
    assert counting.window.rate("http_requests_5xx_total", "a") == 0.0


NAMES = st.sampled_from("abc")
LEAVES = st.sampled_from([0, 1, True, "x", [], [1]])
INNER = st.dictionaries(NAMES, LEAVES, max_size=2)
OBJECTS = st.dictionaries(NAMES, LEAVES | INNER | st.dictionaries(NAMES, LEAVES | INNER, max_size=2), max_size=3)


@given(OBJECTS, OBJECTS)
def test_a_patch_makes_the_one_document_of_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = json.loads(json.dumps(difference(before, after)))
    assert patched(before, patch) == after
    assert difference(after, after) == {}


def test_a_patch_has_only_what_changed() -> None:
    before = {"a": {"x": 1, "y": 2}, "b": [1], "gone": {"z": 1}}
    assert difference(before, {"a": {"x": 1, "y": 3}, "b": [1]}) == {"a": {"y": 3}, "gone": None}


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"e": 1}, {"a": {"bb": {"ccc": None}}}, {"e": 1, "a": {"bb": {}}}),
    ],
)
def test_examples_of_rfc_7396(target: Any, patch: Any, result: Any) -> None:
    assert patched(target, patch) == result
