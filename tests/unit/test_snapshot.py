"""Snapshots of several workers as one exposition."""

import math
from typing import Any

import orjson
import pytest

from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.cells import Combine, Family, Histogram, HistogramFamily
from gateway.telemetry.metrics.exposition import Exposition
from gateway.telemetry.metrics.snapshot import SERIES, Parts, Snapshot, taken
from tests.unit.test_metrics import exercised


def sent(snapshot: Snapshot) -> Snapshot:
    """As it arrives in another process."""
    found: Snapshot = orjson.loads(orjson.dumps(snapshot))
    return found


def of(combine: Combine, value: float, kind: Any = "gauge") -> Snapshot:
    name = "x_total" if kind == "counter" else "x"
    return sent(taken([Family(name, kind, "", ("a",), lambda: [(("k",), value)], combine)]))


def combined(combine: Combine, *values: float) -> dict[str, Any]:
    living = [(slot, of(combine, value)) for slot, value in enumerate(values)]
    series: dict[str, Any] = Parts(living[0][1], living, {}).combined("x")[SERIES]
    return series


@pytest.mark.parametrize(("combine", "value"), [("sum", 6), ("min", 1), ("max", 3), ("mine", 2), ("seen", 2)])
def test_how_gauges_combine(combine: Combine, value: float) -> None:
    assert combined(combine, 2, 1, 3) == {"k": value}


def test_a_gauge_of_each_worker_is_that_of_the_newest_in_its_slot() -> None:
    assert combined("worker", 2, 1) == {"k\x1f0": 2, "k\x1f1": 1}
    living = [(0, of("worker", 1)), (1, of("worker", 2)), (0, of("worker", 3))]
    assert Parts(living[0][1], living, {}).combined("x")[SERIES] == {"k\x1f0": 3, "k\x1f1": 2}


def test_infinities_and_odd_names_arrive() -> None:
    assert combined("max", math.inf, 1) == {"k": math.inf}
    family = Family("x", "gauge", "", ("a", "b"), lambda: [(("\udc80", ""), 1)])
    assert sent(taken([family]))["x"][SERIES] == {"?\x1f": 1}


def test_one_worker_alone_says_what_it_would_say_without_a_supervisor() -> None:
    metrics = exercised()
    own = metrics.snapshot()
    for accept in (None, "application/openmetrics-text"):
        pieces, kind = metrics.pieces_of_several(accept, Parts(own, [(0, own)], {}))
        text, kind_alone = metrics.render(accept)
        assert kind == kind_alone
        lines = b"".join(pieces).splitlines()
        assert [line for line in lines if b"process_" not in line] == [
            line for line in text.splitlines() if b"process_" not in line
        ]
        assert any(line.startswith(b'process_cpu_seconds_total{worker="0"} ') for line in lines)


def test_of_several_workers_the_latest_trace_of_a_bucket_is_the_exemplar() -> None:
    snapshots: list[tuple[int, Snapshot]] = []
    for at, trace_id in ((3.0, "a" * 32), (5.0, "b" * 32), (4.0, "c" * 32)):
        metrics = Metrics("gateway", ["orders"], [], "1")
        metrics.route("orders").exchange("GET", 200, 0.2)
        metrics.route("orders").duration.exemplify(0.2, trace_id, at)
        snapshots.append((len(snapshots), sent(metrics.snapshot())))
    pieces, _ = metrics.pieces_of_several("application/openmetrics-text", Parts(snapshots[0][1], snapshots, {}))
    text = b"".join(pieces).decode()
    line = f'http_request_duration_seconds_bucket{{route="orders",le="0.25"}} 3 # {{trace_id="{"b" * 32}"}} 0.2 5.0\n'
    assert line in text
    assert "exemplars" not in text
    pieces, _ = metrics.pieces_of_several(None, Parts(snapshots[0][1], snapshots, {}))
    assert b"trace_id" not in b"".join(pieces)


def test_what_only_another_version_has_is_shown() -> None:
    ours, theirs = Exposition(), Exposition()
    ours.add(Family("same_total", "counter", "", ("a",), lambda: [(("k",), 1)]))
    theirs.add(Family("same_total", "counter", "", ("a", "b"), lambda: [(("k", "l"), 5)]))
    theirs.add(Family("new_total", "counter", "", (), lambda: [((), 7)]))
    histogram = Histogram((1.0,))
    histogram.observe(0.5)
    theirs.add(HistogramFamily("new_seconds", "", (), lambda: [((), histogram)]))
    own, other = taken(ours.families), sent(taken(theirs.families))
    parts = Parts(own, [(0, own), (1, other)], {})
    text = b"".join(ours.pieces_of_several(parts, openmetrics=False)).decode()
    assert 'same_total{a="k"} 1\n' in text
    assert "new_total 7\n" in text
    assert 'new_seconds_bucket{le="1.0"} 1\n' in text


def test_nonsense_of_another_process_hides_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics("gateway", ["r"], ["u"], "1")
    own = metrics.snapshot()
    other = sent(own)
    other["http_requests_total"][SERIES] = {"gateway\x1fGET\x1fr\x1f200": ["?"]}
    pieces, _ = metrics.pieces_of_several(None, Parts(own, [(0, own), (1, other)], {}))
    text = b"".join(pieces)
    assert b"http_requests_total{" not in text
    assert b"http_requests_5xx_total{" in text
    assert "metric could not be combined" in [record.getMessage() for record in caplog.records]


def test_no_piece_of_several_workers_is_long() -> None:
    metrics = Metrics("gateway", [f"r{index}" for index in range(100)], [f"u{index}" for index in range(50)], "1")
    own = metrics.snapshot()
    living = [(slot, sent(own)) for slot in range(4)]
    pieces, _ = metrics.pieces_of_several(None, Parts(own, [(0, own), *living[1:]], {}))
    lengths = [piece.count(b"\n") for piece in pieces]
    assert max(lengths) <= 900
    assert len(lengths) > 10
