"""Metric cells and their exposition, with prometheus_client's own parsers and encoder as the judge."""

import math
from collections.abc import Iterator
from http import HTTPStatus
from itertools import pairwise

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway.compiled import COMPILED
from gateway.reasons import CATEGORIES
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.cells import LATENCY_BOUNDS, Histogram, Labels
from gateway.telemetry.metrics.exposition import negotiate
from gateway.telemetry.metrics.route_cells import METHODS

OPENMETRICS_ACCEPT = "application/openmetrics-text;version=1.0.0"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def make() -> Metrics:
    return Metrics("gateway", ["default", "api"], ["default", "payments"], "1.2.3", policies=["default"])


def samples(metrics: Metrics) -> Samples:
    text = metrics.render(None)[0].decode()
    found: Samples = {}
    for family in parse_text(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, "a series may appear once only"
            found[key] = sample.value
    return found


def value(metrics: Metrics, name: str, /, **labels: str) -> float:
    return samples(metrics)[name, frozenset(labels.items())]


def exercised() -> Metrics:
    metrics = make()
    for route in ("default", "api", ""):
        for status in (200, 404, 429, 500, 503, 777, 599, 99):
            metrics.route(route).exchange("GET", status, status / 1000)
    metrics.route("default").exchange("BREW", 200, 100.0)
    metrics.route("default").duration.exemplify(0.2, "0af7651916cd43dd8448eb211c80319c", 1_700_000_000.25)
    metrics.route("default").duration.exemplify(100.0, "4bf92f3577b34da6a3ce929d0e0e4736", 1_700_000_001.5)
    metrics.attempts["payments"].observe(0.2)
    metrics.redis_command("evalsha", 0.0004)
    metrics.rate_limit("default")[False] += 1
    metrics.shed("in_flight")
    metrics.refusals["circuit_open"] += 1
    metrics.bulkhead_rejected("payments")
    metrics.retried("payments")
    metrics.retry_budget_exhausted("payments")
    metrics.upstream_error("payments", "Timeout")
    metrics.circuit_transition("payments", "open")
    metrics.client_closed()
    metrics.gauge("odd_value", "A \\ gauge\nof two lines.", ("name",), lambda: [(('a"b\\c\nd',), math.inf)])
    metrics.counter("told_total", "Counted elsewhere.", (), lambda: [((), 3)])
    return metrics


def test_alert_series_exist_from_the_start() -> None:
    found = samples(make())
    for name, labels in [
        ("http_requests_5xx_total", {"service": "gateway", "route": "api"}),
        ("http_requests_429_total", {"service": "gateway", "route": "none"}),
        ("http_requests_total", {"service": "gateway", "method": "GET", "route": "default", "status": "200"}),
        ("load_shed_total", {"reason": "in_flight"}),
        ("bulkhead_rejections_total", {"downstream": "payments"}),
        ("rate_limit_decisions_total", {"policy": "default", "decision": "limited"}),
        ("retry_attempts_total", {"upstream": "payments"}),
        ("retry_budget_exhausted_total", {"upstream": "default"}),
        ("circuit_breaker_transitions_total", {"upstream": "default", "to": "open"}),
        ("gateway_refusals_total", {"reason": "circuit_open"}),
        ("gateway_client_closed_total", {}),
        ("http_request_duration_seconds_count", {"route": "api"}),
        ("upstream_request_duration_seconds_count", {"upstream": "payments"}),
        *(("downstream_errors_total", {"to_service": "payments", "category": each}) for each in CATEGORIES),
    ]:
        assert found[name, frozenset(labels.items())] == 0
    own = {("version", "1.2.3"), ("compiled", "true" if COMPILED else "false")}
    assert found["gateway_build_info", frozenset(own)] == 1
    assert found["process_cpu_seconds_total", frozenset()] > 0
    assert found["process_open_fds", frozenset()] > 2
    assert found["process_max_fds", frozenset()] > 2
    assert found["process_resident_memory_bytes", frozenset()] > 1_000_000
    assert found["process_start_time_seconds", frozenset()] > 1_600_000_000


def test_every_event_moves_its_series() -> None:
    metrics = exercised()
    for name, labels, expected in [
        ("http_requests_total", {"service": "gateway", "method": "GET", "route": "api", "status": "503"}, 1),
        ("http_requests_total", {"service": "gateway", "method": "_OTHER", "route": "default", "status": "200"}, 1),
        ("upstream_request_duration_seconds_sum", {"upstream": "payments"}, 0.2),
        ("redis_commands_total", {"command": "evalsha"}, 1),
        ("redis_command_duration_seconds_bucket", {"command": "evalsha", "le": "0.0005"}, 1),
        ("redis_command_duration_seconds_bucket", {"command": "evalsha", "le": "0.00025"}, 0),
        ("rate_limit_decisions_total", {"policy": "default", "decision": "limited"}, 1),
        ("load_shed_total", {"reason": "in_flight"}, 1),
        ("gateway_refusals_total", {"reason": "circuit_open"}, 1),
        ("bulkhead_rejections_total", {"downstream": "payments"}, 1),
        ("retry_attempts_total", {"upstream": "payments"}, 1),
        ("retry_budget_exhausted_total", {"upstream": "payments"}, 1),
        ("downstream_errors_total", {"to_service": "payments", "category": "Timeout"}, 1),
        ("circuit_breaker_transitions_total", {"upstream": "payments", "to": "open"}, 1),
        ("gateway_client_closed_total", {}, 1),
        ("told_total", {}, 3),
        ("odd_value", {"name": 'a"b\\c\nd'}, math.inf),
    ]:
        assert value(metrics, name, **labels) == expected, name


def test_statuses_are_bounded_and_still_match_their_class() -> None:
    metrics = exercised()
    counted = {
        dict(labels)["status"]: count
        for (name, labels), count in samples(metrics).items()
        if name == "http_requests_total" and ("route", "api") in labels
    }
    assert counted == {"200": 1, "404": 1, "429": 1, "500": 1, "503": 1, "5xx": 1, "other": 2}


def test_the_totals_of_5xx_and_429_are_those_of_the_requests() -> None:
    metrics = exercised()
    for route in ("api", "none"):
        assert value(metrics, "http_requests_5xx_total", service="gateway", route=route) == 3
        assert value(metrics, "http_requests_429_total", service="gateway", route=route) == 1


def test_any_method_and_status_make_a_bounded_number_of_series() -> None:
    metrics = make()
    for number in range(3000):
        metrics.route("api").exchange(f"M{number}", number, 0.0)
    for method in METHODS:
        for number in range(1000):
            metrics.route("api").exchange(method, number, 0.0)
    series = [key for key in samples(metrics) if key[0] == "http_requests_total"]
    assert len(series) <= (len(METHODS) + 1) * (len(HTTPStatus) + 7) + 2


def test_the_route_of_nothing_shares_its_series_with_a_route_called_none() -> None:
    metrics = Metrics("gateway", ["none"], [], "1")
    metrics.route("").exchange("GET", 404, 0.0)
    metrics.route("none").exchange("GET", 404, 0.0)
    assert value(metrics, "http_requests_total", service="gateway", method="GET", route="none", status="404") == 2


def test_a_request_refused_at_once_is_counted_like_any_other_and_took_no_time() -> None:
    metrics = make()
    for status in (429, 429, 777):
        metrics.route("api").exchange("GET", status, 0.0)
    found = samples(metrics)
    by_status = {
        dict(labels)["status"]: count
        for (name, labels), count in found.items()
        if name == "http_requests_total" and ("route", "api") in labels
    }
    assert by_status == {"200": 0, "429": 2, "other": 1}
    assert value(metrics, "http_request_duration_seconds_count", route="api") == 3
    assert value(metrics, "http_request_duration_seconds_bucket", route="api", le="0.001") == 3
    assert value(metrics, "http_request_duration_seconds_sum", route="api") == 0


def test_names_that_were_not_configured_get_their_series_when_first_seen() -> None:
    metrics = make()
    metrics.route("new").exchange("GET", 200, 0.01)
    metrics.attempts["new"].observe(0.01)
    metrics.attempts["new"].observe(0.01)
    assert value(metrics, "http_request_duration_seconds_count", route="new") == 1
    assert value(metrics, "upstream_request_duration_seconds_count", upstream="new") == 2


@pytest.mark.parametrize("bound", LATENCY_BOUNDS)
def test_a_value_belongs_to_the_bucket_whose_bound_it_equals(bound: float) -> None:
    histogram = Histogram(LATENCY_BOUNDS)
    histogram.observe(bound)
    histogram.observe(math.nextafter(bound, math.inf))
    index = LATENCY_BOUNDS.index(bound)
    assert histogram.buckets[index : index + 2] == [1, 1]
    assert histogram.count == 2


def test_bounds_ascend() -> None:
    assert all(low < high for low, high in pairwise(LATENCY_BOUNDS))


def test_the_text_is_what_prometheus_client_would_say() -> None:
    metrics = exercised()
    ours = {line for line in metrics.render(None)[0].decode().splitlines() if "process_" not in line}
    theirs = {line for line in generate_latest(metrics.registry).decode().splitlines() if "process_" not in line}
    assert {_canonical(line) for line in ours} == {_canonical(line) for line in theirs}


def test_the_openmetrics_are_what_prometheus_client_would_say() -> None:
    metrics = exercised()
    body, content_type = metrics.render(OPENMETRICS_ACCEPT)
    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert body.endswith(b"\n# EOF\n")
    ours = list(parse_openmetrics(body.decode()))  # type: ignore[no-untyped-call]
    text = generate_openmetrics(metrics.registry).decode()  # type: ignore[no-untyped-call]
    theirs = list(parse_openmetrics(text))  # type: ignore[no-untyped-call]
    assert [family for family in ours if not family.name.startswith("process_")] == [
        family for family in theirs if not family.name.startswith("process_")
    ]
    assert {family.name for family in ours} == {family.name for family in theirs}


def _canonical(line: str) -> str:
    """Comments as they are; samples with sorted labels and a float."""
    if line.startswith("#"):
        return line
    series, _, number = line.rpartition(" ")
    name, _, labels = series.partition("{")
    return f"{name} {sorted(labels.removesuffix('}').split(','))} {float(number)}"


def test_the_latest_trace_of_a_bucket_is_its_exemplar_in_openmetrics_alone() -> None:
    metrics = make()
    duration = metrics.route("default").duration
    for seconds, trace_id in ((0.2, "a" * 32), (0.21, "b" * 32), (0.3, "c" * 32)):
        duration.observe(seconds)
        duration.exemplify(seconds, trace_id, 1_700_000_000.0)
    text = metrics.render(OPENMETRICS_ACCEPT)[0].decode()
    series = 'http_request_duration_seconds_bucket{route="default",le='
    assert f'{series}"0.25"}} 2 # {{trace_id="{"b" * 32}"}} 0.21 1700000000.0\n' in text
    assert f'{series}"0.5"}} 3 # {{trace_id="{"c" * 32}"}} 0.3 1700000000.0\n' in text
    assert f'{series}"1.0"}} 3\n' in text
    assert "trace_id" not in metrics.render(None)[0].decode()


def test_a_second_scrape_says_the_same_and_then_what_is_new() -> None:
    metrics = exercised()
    lines = [set(metrics.render(None)[0].splitlines()) for _ in range(2)]
    assert {line for line in lines[0] ^ lines[1] if not line.startswith(b"process_")} == set()
    metrics.retried("payments")
    assert value(metrics, "retry_attempts_total", upstream="payments") == 2


def test_a_name_is_taken_once_and_a_counter_says_that_it_is_one() -> None:
    metrics = make()
    with pytest.raises(ValueError, match="exists already"):
        metrics.gauge("http_requests_total", "", (), list)
    with pytest.raises(ValueError, match="suffix"):
        metrics.counter("lines_dropped", "", (), list)


def test_a_gauge_that_fails_is_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> Iterator[tuple[Labels, float]]:
        yield (), 1.0
        raise LookupError

    metrics = make()
    metrics.gauge("broken", "It is.", (), read)
    metrics.gauge("whole", "It is.", (), lambda: [((), 1)])
    body, _ = metrics.render(None)
    assert b"broken" not in body
    assert b"whole 1\n" in body
    assert [record.getMessage() for record in caplog.records] == ["metric could not be read"]


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("text/html,*/*;q=0.8", False),
        ("text/plain", False),
        (OPENMETRICS_ACCEPT, True),
        ("Application/OpenMetrics-Text", True),
        (PROMETHEUS_3, True),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.5", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=nonsense", False),
        ("application/openmetrics-text ; q = 0.5 , text/* ; q=0.1", True),
        (";;,,=", False),
    ],
)
def test_the_format_follows_accept(accept: str | None, *, openmetrics: bool) -> None:
    assert negotiate(accept) is openmetrics
