"""What stands in spans, for what integration tests do not reach."""

import random
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.proxy.requests.ids import Ids
from gateway.telemetry.metrics.route_cells import RouteCells
from gateway.telemetry.record import LogPart, Record, RouteAccount
from gateway.telemetry.tracing.spans import SpanEncoder
from gateway.telemetry.tracing.trace import Trace, Traces
from gateway.telemetry.tracing.tracer import OWN, SERVER, FinishedExchange
from tests.support.collector import SeenSpan

NOW = 100.0
WALL = 1_700_000_000_000_000_000


def began() -> Trace:
    ids = Ids(random.Random(1))
    return Traces(ids.new, 1.0, exported=True).begin(ids.new(), None, [])


def attempt(
    trace: Trace, at: float, *, endpoint: str = "h:1", until: float | None = NOW, answered: bool = True
) -> None:
    trace.attempt("orders", endpoint, b"GET /x?s HTTP/1.1\r\n\r\n", at, probe=False)
    trace.attempts[-1].head = b"/x"
    if until is not None:
        trace.settled(until, at, answered=answered)


def spans(trace: Trace, part: LogPart | None = None, kind: str = SERVER, **changes: Any) -> list[SeenSpan]:
    part = part or LogPart({"target": "/a/x?s=1", "client": "192.0.2.1"}, "http", b"shop.example")
    record = Record(RouteAccount("a", "orders", RouteCells(), "/a"), part, b"r", b"r")
    record.status = 200
    for name, value in changes.items():
        setattr(record, name, value)
    encoder = SpanEncoder({"service.name": "edge", "process.pid": 7}, {"orders": "https"}, "1.2.3")
    made = encoder.encode(FinishedExchange(record, trace, "GET", 1.5, NOW, WALL, "", kind))
    (of_resource,) = ExportTraceServiceRequest.FromString(encoder.request([made])).resource_spans
    assert of_resource.scope_spans[0].scope.version == "1.2.3"
    return [SeenSpan(each, {}) for each in of_resource.scope_spans[0].spans]


@pytest.mark.parametrize(
    ("authority", "host", "port"),
    [
        (b"shop.example", "shop.example", None),
        (b"shop.example:8443", "shop.example", 8443),
        (b"[2001:db8::1]", "2001:db8::1", None),
        (b"[2001:db8::1]:80", "2001:db8::1", 80),
        (b"", None, None),
    ],
)
def test_the_address_of_the_server_is_the_one_that_was_asked_for(
    authority: bytes, host: str | None, port: int | None
) -> None:
    (server,) = spans(began(), LogPart({}, "https", authority))
    assert (server.attributes.get("server.address"), server.attributes.get("server.port")) == (host, port)
    assert server.attributes["url.scheme"] == "https"


def test_times_are_those_of_the_wall_clock() -> None:
    trace = began()
    attempt(trace, NOW - 1.0, until=NOW - 0.25)
    server, client = spans(trace)
    assert (server.span.start_time_unix_nano, server.span.end_time_unix_nano) == (WALL - 1_500_000_000, WALL)
    assert (client.span.start_time_unix_nano, client.span.end_time_unix_nano) == (WALL - 10**9, WALL - 250_000_000)
    assert client.attributes["url.full"] == "https://h:1/x"


def test_only_the_last_attempt_has_the_status_of_the_answer() -> None:
    trace = began()
    attempt(trace, NOW - 1.0)
    trace.failed("upstream_timeout", None)
    attempt(trace, NOW - 0.5)
    _, first, second = spans(trace, status=404)
    assert first.attributes["error.type"] == "upstream_timeout"
    assert "http.response.status_code" not in first.attributes
    assert second.attributes["http.response.status_code"] == 404
    assert second.failed  # a 4xx is an error for who has asked


def test_of_two_attempts_at_once_the_one_that_answered_has_the_status_and_the_other_made_no_mistake() -> None:
    trace = began()
    attempt(trace, NOW - 1.0, until=None)
    other, _ = trace.beside("orders", "h:2", b"/x", NOW - 0.5)
    other.failed("superseded", None)
    other.settled(NOW, NOW - 0.5, answered=False)
    trace.settled(NOW, NOW - 1.0, answered=True)
    server, first, second = spans(trace, log_decisions={"hedge": "lost"})
    assert first.attributes["http.response.status_code"] == 200
    assert "gateway.hedge" not in first.attributes
    assert second.attributes["gateway.hedge"] is True
    assert (second.attributes["http.request.resend_count"], second.attributes["error.type"]) == (1, "superseded")
    assert not second.failed
    names = [event.name for event in server.span.events]
    assert names == ["gateway.hedged", "gateway.hedge"], "when it was made, and what came of it"
    assert server.span.events[0].time_unix_nano == WALL - 500_000_000


def test_an_attempt_that_was_never_answered_takes_the_reason_of_the_exchange() -> None:
    trace = began()
    attempt(trace, NOW - 1.0, answered=False)
    server, client = spans(trace, status=413, reason="body_too_large")
    assert client.attributes["error.type"] == "body_too_large"
    assert "http.response.status_code" not in client.attributes
    assert not server.failed


def test_an_answer_that_broke_off_is_an_error_of_both() -> None:
    trace = began()
    attempt(trace, NOW - 1.0)
    trace.failed("upstream_truncated", 200)
    server, client = spans(trace, reason="upstream_truncated", log_decisions={"truncated": "the body stood still"})
    assert server.failed
    assert client.failed
    assert server.attributes["error.type"] == client.attributes["error.type"] == "upstream_truncated"
    assert client.attributes["http.response.status_code"] == 200
    (event,) = server.span.events
    assert (event.name, event.time_unix_nano) == ("gateway.truncated", WALL)


def test_an_attempt_that_is_not_over_ends_with_the_exchange() -> None:
    trace = began()
    attempt(trace, NOW - 1.0, until=None)
    assert spans(trace)[1].span.end_time_unix_nano == WALL


def test_a_long_path_is_cut() -> None:
    (server,) = spans(began(), LogPart({"target": "/" + "a" * 9000}, "http", b"h"))
    assert len(server.attributes["url.path"]) == 1024


def test_what_cannot_be_text_is_no_reason_to_lose_a_batch() -> None:
    (server,) = spans(began(), LogPart({"target": "/\\xff\u20ac"}, "http", b"\xff\xfe"))
    assert server.attributes["server.address"] == "\xff\xfe"


def test_a_request_of_the_gateways_own_has_no_client() -> None:
    (own,) = spans(began(), LogPart({}), OWN, status=0, reason="circuit_open")
    assert (own.kind, own.name, own.failed) == ("INTERNAL", "GET orders", True)
    assert not [name for name in own.attributes if name.startswith(("client", "http", "url", "server"))]
