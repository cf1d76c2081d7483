"""Failures as an operator sees them in the log: one line a second for each kind, and what refusals have sent."""

import time
from typing import Any

from tests.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually


def told(gateway: GatewayProcess, event: str) -> list[dict[str, Any]]:
    return gateway.log_records(event=event)


def until_told(gateway: GatewayProcess, event: str, count: int) -> list[dict[str, Any]]:
    eventually(lambda: sum(record["count"] for record in told(gateway, event)) >= count, f"told of {count} {event}")
    return told(gateway, event)


def test_failures_of_an_upstream_are_lines_with_a_count(stub: StubProcess, start_gateway: StartGateway) -> None:
    settings = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000", "CIRCUIT_BREAKER_MINIMUM_CALLS": "1000"}
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "RATE_LIMIT_CAPACITY": "1000", **settings})
    began = time.monotonic()
    for _ in range(60):
        assert gateway.get("/proxy/fail").status == 500
    seconds = time.monotonic() - began
    lines = until_told(gateway, "upstream_error", 60)
    assert {(line["level"], line["logger"], line["upstream"]) for line in lines} == {
        ("ERROR", "gateway.errors", "default")
    }
    assert sum(line["count"] for line in lines) == 60
    assert len(lines) <= seconds + 3


def test_refusals_are_lines_when_the_gateway_is_at_fault(start_gateway: StartGateway) -> None:
    upstream = f"http://127.0.0.1:{free_port()}"
    settings = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1", "RETRY_MAX_ATTEMPTS": "1", "RATE_LIMIT_CAPACITY": "5"}
    gateway = start_gateway({"UPSTREAM_URL": upstream, "RATE_LIMIT_REFILL_RATE": "0.001", **settings})
    statuses = [gateway.get("/proxy/ok").status for _ in range(8)]
    assert statuses == [502, 503, 503, 503, 503, 429, 429, 429]
    (error,) = until_told(gateway, "upstream_error", 1)
    assert (error["reason"], error["category"], error["count"]) == ("upstream_unreachable", "Network", 1)
    refused = until_told(gateway, "refused", 4)
    assert {(line["level"], line["service"], line["reason"]) for line in refused} == {
        ("WARNING", "default", "circuit_open")
    }
    assert sum(line["count"] for line in refused) == 4  # a 429 is an answer, not a failure


def test_the_last_failures_are_told_at_the_end(start_gateway: StartGateway) -> None:
    gateway = start_gateway({"UPSTREAM_URL": f"http://127.0.0.1:{free_port()}", "RETRY_MAX_ATTEMPTS": "1"})
    assert gateway.get("/proxy/ok").status == 502
    gateway.stop()
    assert sum(line["count"] for line in told(gateway, "upstream_error")) == 1


def test_the_access_log_has_the_bytes_of_refusals(start_gateway: StartGateway) -> None:
    """At once, after an attempt, to HEAD, with an id of the client's, and of what never became a request."""
    settings = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1", "RETRY_MAX_ATTEMPTS": "1"}
    gateway = start_gateway({"UPSTREAM_URL": f"http://127.0.0.1:{free_port()}", **settings})
    answers = [
        gateway.get("/proxy/first"),
        gateway.get("/proxy/second"),
        gateway.get("/proxy/third", headers={"X-Request-ID": "short"}),
        gateway.get("/elsewhere"),
    ]
    assert [answer.status for answer in answers] == [502, 503, 503, 404]
    assert gateway.request("HEAD", "/proxy/fifth").status == 503
    assert gateway.stop() == 0
    lines = [record for record in gateway.log_records() if "bytes_out" in record]
    assert [line["bytes_out"] for line in lines] == [*(len(answer.body) for answer in answers), 0]
    assert lines[0]["bytes_out"] > 200
