"""Traces through whole gateways, to a collector that reads them with the official messages."""

import re
import signal
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import yaml

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, fresh, ok
from tests.conftest import StartGateway
from tests.support.collector import Collector, SeenSpan
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.waiting import eventually

SOON = {"OTEL_BSP_SCHEDULE_DELAY": "20"}
RETRYING = {"RETRY_MAX_ATTEMPTS": "3", "RETRY_BASE_DELAY_SECONDS": "0.01", "RETRY_BUDGET_MIN_PER_SECOND": "1000"}
PARENT = "00f067aa0ba902b7"
_numbers = count(1)


def fresh_trace() -> str:
    return f"4bf92f3577b34da6a3ce929d{next(_numbers):08x}"


def sampled(trace_id: str, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{PARENT}-{flags}"}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    collector: Collector, upstream: ProgrammedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """It samples nothing that a client has not sampled, and keeps one of each kind a second."""
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-api-key=of%20the%20collector",
        "OTEL_SERVICE_NAME": "edge",
        "OTEL_RESOURCE_ATTRIBUTES": "team=payments,service.name=other",
        "OTEL_TRACES_SAMPLER_ARG": "0",
        "TRACE_SLOW_SECONDS": "0.2",
        "TRACE_KEEP_PER_SECOND": "1000",
        "UPSTREAM_TIMEOUT": "5",
        **SOON,
    }
    directory = tmp_path_factory.mktemp("gateway")
    with GatewayProcess(plain(upstream.url, **variables, **RETRYING), directory) as running:
        yield running


def parent_of(seen: Seen) -> tuple[str, str, str]:
    """Trace, parent and flags that an upstream has got."""
    found = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", seen.get("traceparent") or "")
    assert found is not None, seen.get("traceparent")
    return found[1], found[2], found[3]


def kinds(spans: list[SeenSpan]) -> list[str]:
    return [each.kind for each in spans]


def test_a_server_span_and_a_client_span_for_each_attempt(
    gateway: GatewayProcess, collector: Collector, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), ok(b"no", status=503), ok(b"good"))
    trace_id = fresh_trace()
    fields = {**sampled(trace_id), "tracestate": "vendor=1", "Authorization": "Bearer s3cret", "Cookie": "sid=s3cret"}
    answer = gateway.get(f"/proxy{path}?token=s3cret", fields)
    assert answer.status == 200
    server, first, second = collector.wait_for(trace_id, 3)
    assert kinds([server, first, second]) == ["SERVER", "CLIENT", "CLIENT"]
    assert server.parent_id == PARENT
    assert first.parent_id == second.parent_id == server.span_id
    assert server.name == "GET /proxy/"
    port = gateway.port
    assert server.attributes == {
        "http.request.method": "GET",
        "http.route": "/proxy/",
        "http.response.status_code": 200,
        "http.response.body.size": 4,
        "url.scheme": "http",
        "url.path": f"/proxy{path}",
        "server.address": "127.0.0.1",
        "server.port": port,
        "client.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "gateway.route": "proxy",
        "gateway.upstream": "default",
        "gateway.request_id": answer.headers["X-Request-ID"],
    }
    assert not server.failed
    assert [event for event in server.events if event[0] == "gateway.retry"] == [
        ("gateway.retry", {"gateway.reason": "503"})
    ]
    address = upstream.url.removeprefix("http://")
    common = {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": int(address.rpartition(":")[2]),
        "url.scheme": "http",
        "url.full": f"http://{address}{path}",
        "network.protocol.version": "1.1",
        "gateway.upstream": "default",
    }
    assert first.attributes == common | {"http.response.status_code": 503, "error.type": "503"}
    assert second.attributes == common | {"http.response.status_code": 200, "http.request.resend_count": 1}
    assert first.failed
    assert not second.failed
    seen = upstream.requests(path)
    assert [parent_of(each) for each in seen] == [(trace_id, first.span_id, "01"), (trace_id, second.span_id, "01")]
    assert {each.get("tracestate") for each in seen} == {"vendor=1"}
    assert {each.span.trace_state for each in (server, first, second)} == {"vendor=1"}
    assert server.resource["service.name"] == "edge"
    assert server.resource["team"] == "payments"
    assert re.fullmatch(r"[0-9a-f-]{36}", server.resource["service.instance.id"])
    assert collector.posts[-1].get("x-api-key") == "of the collector"


def test_a_trace_that_is_exported_is_an_exemplar_of_its_duration(
    gateway: GatewayProcess, collector: Collector, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), ok())
    trace_id = fresh_trace()
    gateway.get(f"/proxy{path}", sampled(trace_id))
    text = gateway.get("/metrics", {"Accept": "application/openmetrics-text"}).body.decode()
    assert [line for line in text.splitlines() if f'# {{trace_id="{trace_id}"}}' in line]
    assert "trace_id" not in gateway.get("/metrics").body.decode()


def test_nothing_secret_is_in_any_span(
    gateway: GatewayProcess, collector: Collector, upstream: ProgrammedUpstream
) -> None:
    key = "gw_abcdefgh_" + "s3cret" * 7
    upstream.on(f"/{key}", ok(b"s3cret"))
    trace_id = fresh_trace()
    fields = {"Authorization": f"Bearer {key}", "Cookie": "s3cret", "X-Gateway-Debug": "s3cret", "Referer": "s3cret"}
    gateway.request("POST", f"/proxy/{key}?s3cret=s3cret", b"s3cret", {**sampled(trace_id), **fields})
    spans = collector.wait_for(trace_id, 2)
    assert not [each for each in spans if "s3cret" in str(each.span)]
    assert spans[0].attributes["url.path"] == "/proxy/gw_abcdefgh_***"
    assert spans[1].attributes["url.full"].endswith("/gw_abcdefgh_***")


def test_a_trace_through_two_gateways_with_a_retry_has_the_right_parents(
    gateway: GatewayProcess, collector: Collector, upstream: ProgrammedUpstream, start_gateway: StartGateway
) -> None:
    front = start_gateway(
        plain(gateway.url, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/v1/traces", VIA_NAME="front", **SOON)
    )
    upstream.on(path := fresh(), ok(b"no", status=503), ok(b"good"))
    answer = front.get(f"/proxy/proxy{path}")
    trace_id = answer.headers["X-Request-ID"]
    assert trace_id is not None
    # It begins at the front gateway, which samples it, with its own id as the trace's.
    spans = collector.wait_for(trace_id, 5)
    by_id = {each.span_id: each for each in spans}
    tree = sorted((each.resource["service.name"], each.kind, kind_of_parent(each, by_id)) for each in spans)
    assert tree == [
        ("edge", "CLIENT", "edge SERVER"),
        ("edge", "CLIENT", "edge SERVER"),
        ("edge", "SERVER", "gateway CLIENT"),
        ("gateway", "CLIENT", "gateway SERVER"),
        ("gateway", "SERVER", ""),
    ]
    assert {parent_of(each)[1] for each in upstream.requests(path)} <= set(by_id)
    # Our ids follow a rule: the flag that says random is not set.
    assert {parent_of(each)[2] for each in upstream.requests(path)} == {"01"}


def kind_of_parent(span: SeenSpan, by_id: dict[str, SeenSpan]) -> str:
    if not span.parent_id:
        return ""
    parent = by_id[span.parent_id]
    return f"{parent.resource['service.name']} {parent.kind}"


def test_the_random_flag_of_a_client_goes_on(
    gateway: GatewayProcess, collector: Collector, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), ok())
    gateway.get(f"/proxy{path}", sampled(fresh_trace(), "03"))
    gateway.get(f"/proxy{path}", sampled(fresh_trace(), "02"))
    gateway.get(f"/proxy{path}", sampled(fresh_trace(), "f9"))
    assert [parent_of(each)[2] for each in upstream.requests(path)] == ["03", "02", "01"]


def slow(peer: Peer, seen: Seen) -> None:
    peer.read_body(seen)
    time.sleep(0.25)
    peer.send(ok())


@pytest.mark.parametrize(
    ("kept", "answers"),
    [
        ("error", [ok(status=500)]),
        ("retried", [ok(status=503), ok()]),
        ("slow", [slow]),
        ("", [ok(status=404)]),
    ],
)
def test_what_was_not_sampled_is_kept_for_a_reason(
    kept: str, answers: list[Any], gateway: GatewayProcess, collector: Collector, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), *answers)
    trace_id = fresh_trace()
    gateway.get(f"/proxy{path}", sampled(trace_id, "00"))
    assert {parent_of(each)[2] for each in upstream.requests(path)} == {"00"}
    if kept:
        spans = collector.wait_for(trace_id, 1 + len(answers))
        assert spans[0].attributes["gateway.kept"] == kept
        assert spans[0].failed == (kept == "error")
    else:
        gateway.get("/proxy/", sampled(later := fresh_trace()))
        collector.wait_for(later, 1)
        assert collector.of(trace_id) == []


def test_two_attempts_at_once_have_a_span_each(
    collector: Collector, upstream: ProgrammedUpstream, start_gateway: StartGateway
) -> None:
    """The upstream is told them apart by the parent, too, and nothing counts as an error."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "HEDGE_AFTER": "250ms", **SOON}
    gateway = start_gateway(plain(upstream.url, **variables))

    def silent(peer: Peer, seen: Seen) -> None:
        peer.wait_for_end()

    upstream.on(path := fresh(), silent, ok(b"good"))
    trace_id = fresh_trace()
    assert gateway.get(f"/proxy{path}", sampled(trace_id)).body == b"good"
    server, first, second = collector.wait_for(trace_id, 3)
    assert kinds([server, first, second]) == ["SERVER", "CLIENT", "CLIENT"]
    assert first.attributes["error.type"] == "superseded"
    assert (second.attributes["http.request.resend_count"], second.attributes["gateway.hedge"]) == (1, True)
    assert second.attributes["http.response.status_code"] == 200
    assert not any(each.failed for each in (server, first, second))
    assert ("gateway.hedge", {"gateway.decision": "won"}) in server.events
    assert "gateway.retry" not in [name for name, _ in server.events]
    ids = [parent_of(each)[1] for each in upstream.requests(path)]
    assert ids == [first.span_id, second.span_id]


def test_a_refusal_is_a_span_with_its_reason(gateway: GatewayProcess, collector: Collector) -> None:
    trace_id = fresh_trace()
    assert gateway.get("/elsewhere", sampled(trace_id, "00")).status == 404
    (span,) = collector.wait_for(trace_id, 1)
    assert span.name == "GET"
    assert span.attributes["gateway.reason"] == "not_found"
    assert span.attributes["gateway.kept"] == "refused"
    assert "error.type" not in span.attributes
    assert ("gateway.refused", {"gateway.reason": "not_found"}) in span.events
    assert not span.failed


def test_an_upstream_that_cannot_be_reached_is_an_error_with_its_reason(
    collector: Collector, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(plain("http://127.0.0.1:1", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **SOON, **RETRYING))
    trace_id = fresh_trace()
    assert gateway.get("/proxy/", sampled(trace_id)).status == 502
    server, *attempts = collector.wait_for(trace_id, 4)
    assert server.attributes["error.type"] == "upstream_unreachable"
    assert server.failed
    assert [each.attributes["error.type"] for each in attempts] == ["upstream_unreachable"] * 3
    assert [each.attributes.get("http.request.resend_count") for each in attempts] == [None, 1, 2]


def test_an_unusual_method_has_a_name_of_few(
    gateway: GatewayProcess, collector: Collector, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), ok())
    trace_id = fresh_trace()
    gateway.request("PURGE", f"/proxy{path}", headers=sampled(trace_id))
    server, client = collector.wait_for(trace_id, 2)
    assert (server.name, client.name) == ("HTTP /proxy/", "HTTP")
    for span in (server, client):
        assert span.attributes["http.request.method"] == "_OTHER"
        assert span.attributes["http.request.method_original"] == "PURGE"


def test_a_client_that_leaves_ends_its_spans_without_an_error(
    gateway: GatewayProcess, collector: Collector, upstream: ProgrammedUpstream
) -> None:
    def silence(peer: Peer, _seen: Seen) -> None:
        peer.wait_for_end()

    upstream.on(path := fresh(), silence)
    trace_id = fresh_trace()
    with RawClient(gateway.port) as client:
        client.send(
            b"GET /proxy%b HTTP/1.1\r\nHost: a\r\ntraceparent: 00-%b-%b-01\r\n\r\n"
            % (path.encode(), trace_id.encode(), PARENT.encode())
        )
        upstream.wait_for(path)
    server, attempt = collector.wait_for(trace_id, 2)
    assert server.attributes["http.response.status_code"] == 499
    assert server.attributes["gateway.reason"] == "client_closed"
    assert attempt.attributes["error.type"] == "client_closed"
    assert not server.failed
    assert not attempt.failed


def test_a_tunnel_is_one_exchange_however_long(
    gateway: GatewayProcess, collector: Collector, upstream: ProgrammedUpstream
) -> None:
    def switch(peer: Peer, _seen: Seen) -> None:
        peer.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        peer.wait_for_end()

    upstream.on(path := fresh(), switch)
    trace_id = fresh_trace()
    with RawClient(gateway.port) as client:
        client.send(
            b"GET /proxy%b HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"traceparent: 00-%b-%b-01\r\n\r\n" % (path.encode(), trace_id.encode(), PARENT.encode())
        )
        assert client.read_response().status == 101
        assert collector.of(trace_id) == []
    server, attempt = collector.wait_for(trace_id, 2)
    assert server.attributes["http.response.status_code"] == attempt.attributes["http.response.status_code"] == 101
    assert [name for name, _ in server.events if name == "gateway.tunnel"] == ["gateway.tunnel"]
    assert "gateway.kept" not in server.attributes


def test_what_is_sent_later_has_a_trace_of_its_own_with_a_link_to_the_request_it_comes_of(
    collector: Collector, upstream: ProgrammedUpstream, start_gateway: StartGateway
) -> None:
    upstream.on(path := fresh(), ok())
    upstream.on(step := fresh(), ok())
    route = {
        "name": "hooks",
        "prefix": "/hooks",
        "strip_prefix": True,
        "upstream": "receiver",
        "deliver": {"enabled": True},
    }
    workflow = {"name": "checkout", "prefix": "/checkout", "workflow": "checkout"}
    first = {"name": "pay", "upstream": "receiver", "method": "PUT", "path": step, "pivot": True}
    file = {
        "upstreams": {"receiver": {"endpoints": [upstream.url]}},
        "workflows": {"checkout": {"steps": [first]}},
        "routes": [route, workflow],
    }
    text = yaml.safe_dump(file)
    gateway = start_gateway(
        {"GATEWAY_CONFIG": "gateway.yaml", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **SOON},
        files={"gateway.yaml": text},
    )
    for asked, sent, method in ((f"/hooks{path}", path, "POST"), ("/checkout", step, "PUT")):
        client = fresh_trace()
        assert gateway.request("POST", asked, b"{}", sampled(client)).status == 202
        (accepting,) = collector.wait_for(client, 1)
        seen = upstream.wait_for(sent)[0]
        trace_id, parent, _ = parent_of(seen)
        assert seen.head.lower().count(b"\r\ntraceparent:") == 1
        own, attempt = collector.wait_for(trace_id, 2)
        assert (own.kind, own.name, attempt.kind) == ("INTERNAL", f"{method} receiver", "CLIENT")
        assert (own.parent_id, attempt.parent_id, attempt.span_id) == ("", own.span_id, parent)
        (link,) = own.span.links
        assert (link.trace_id.hex(), link.span_id.hex(), link.flags & 1) == (client, accepting.span_id, 1)
        assert attempt.attributes["http.response.status_code"] == 200
        assert not own.failed


# The collector.


def counts(gateway: GatewayProcess) -> dict[str, float]:
    return {
        outcome: gateway.metric(f'gateway_traces_spans_total{{outcome="{outcome}"}}')
        for outcome in ("exported", "failed", "dropped")
    }


def test_a_collector_that_is_busy_gets_the_same_batch_again(
    upstream: ProgrammedUpstream, start_gateway: StartGateway
) -> None:
    with Collector() as collector:
        collector.answers += [(429, b"Retry-After: 0"), 503]
        gateway = start_gateway(
            plain(
                upstream.url, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_EXPORTER_OTLP_COMPRESSION="gzip", **SOON
            )
        )
        upstream.on(path := fresh(), ok())
        trace_id = fresh_trace()
        gateway.get(f"/proxy{path}", sampled(trace_id))
        collector.wait_for(trace_id, 2)
        assert len({each.body for each in collector.posts[:3]}) == 1
        assert collector.posts[0].get("Content-Encoding") == "gzip"
        assert collector.posts[0].get("Content-Type") == "application/x-protobuf"
        gateway.wait_for_metric('gateway_traces_spans_total{outcome="exported"}', 2)
        assert gateway.metric("gateway_traces_export_retries_total") == 2
        # What will never be taken is not sent again, and a part may be rejected.
        collector.answers.append(400)
        gateway.get(f"/proxy{path}", sampled(fresh_trace()))
        gateway.wait_for_metric('gateway_traces_spans_total{outcome="failed"}', 2)
        collector.rejects = 1
        gateway.get(f"/proxy{path}", sampled(fresh_trace()))
        gateway.wait_for_metric('gateway_traces_spans_total{outcome="failed"}', 3)
        assert counts(gateway) == {"exported": 3, "failed": 3, "dropped": 0}


def test_while_the_collector_says_nothing_requests_go_on_and_spans_are_dropped(
    upstream: ProgrammedUpstream, start_gateway: StartGateway
) -> None:
    upstream.on(path := fresh(), ok())
    with Collector() as collector, collector.held():
        gateway = start_gateway(
            plain(
                upstream.url,
                OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
                OTEL_BSP_MAX_QUEUE_SIZE="10",
                OTEL_BSP_MAX_EXPORT_BATCH_SIZE="2",
                **SOON,
            )
        )
        for _ in range(20):
            assert gateway.get(f"/proxy{path}", sampled(fresh_trace())).status == 200
        eventually(lambda: counts(gateway)["dropped"] >= 20, "spans dropped")
        assert gateway.metric("gateway_traces_queue_spans") <= 10
        # The stop does not wait for the collector longer than it says.
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(60.0) == 0


def test_at_a_stop_what_waits_is_sent(upstream: ProgrammedUpstream, start_gateway: StartGateway) -> None:
    upstream.on(path := fresh(), ok())
    with Collector() as collector:
        gateway = start_gateway(
            plain(upstream.url, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="60000", WORKERS="2")
        )
        traces = [fresh_trace() for _ in range(12)]
        for trace_id in traces:
            gateway.get(f"/proxy{path}", sampled(trace_id))
        assert collector.posts == []
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(60.0) == 0
        assert {each.trace_id for each in collector.spans} == set(traces)
        # Each worker speaks for itself.
        instances = {(each.resource["service.instance.id"], each.resource["process.pid"]) for each in collector.spans}
        assert len(instances) == len({pid for _, pid in instances}) <= 2


def test_a_reload_changes_where_traces_go(upstream: ProgrammedUpstream, start_gateway: StartGateway) -> None:
    upstream.on(path := fresh(), ok())
    with Collector() as collector:
        gateway = start_gateway(plain(upstream.url), files={".env": ""})
        gateway.get(f"/proxy{path}", sampled(before := fresh_trace()))
        assert parent_of(upstream.requests(path)[0]) == (before, PARENT, "01")
        (gateway.directory / ".env").write_text(
            f"OTEL_EXPORTER_OTLP_ENDPOINT={collector.url}\nOTEL_BSP_SCHEDULE_DELAY=20\n"
        )
        gateway.send_signal(signal.SIGHUP)

        def traced() -> bool:
            # The old worker may still take some of them.
            gateway.get(f"/proxy{path}", sampled(fresh_trace()))
            return bool(collector.spans)

        eventually(traced, "spans after the reload")
        assert collector.of(before) == []
