"""One fact is counted, logged and answered alike; and what is kept between refusals is never what another is told."""

import json
from typing import Any

from gateway.proxy import writer
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.recorder import Recorder
from gateway.telemetry.log.access import AccessLog
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.record import RouteAccount
from gateway.telemetry.services.errors import ErrorLog
from gateway.wire import ports
from tests.support.tickets import ticket


class Connection(ports.Connection):
    """Takes an answer where a client would."""

    reusable = True
    peer = "192.0.2.9"

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def answer(self, response: bytes, now: float, keep_alive: bool) -> None:
        self.answers.append(response)


class Bench:
    """One gateway's way to refuse."""

    def __init__(self, via_name: str) -> None:
        self.metrics = Metrics(via_name, ["a", "b"], ["orders", "payments"], "1")
        self.errors = ErrorLog(via_name, ["orders", "payments"])
        self.lines: list[bytes] = []
        self.recorder = Recorder(self.metrics, self.errors, AccessLog(self.lines.append), via_name)

    def account(self, route: str, upstream: str) -> RouteAccount:
        return RouteAccount(route, upstream, self.metrics.route(route))

    def refuse(
        self, account: RouteAccount, refusal: Refusal, decisions: dict[str, str]
    ) -> tuple[dict[str, Any], bytes]:
        """The log line and the answer of one refusal."""
        connection = Connection()
        refused = ticket(account=account)
        refused.log_decisions = decisions
        template = self.recorder.refused_at_once(refused, refusal, 0.0, 0.0)
        writer.refusal(connection, refused, b"", template, 0.0, 0.0, close=False)
        return json.loads(self.lines[-1]), connection.answers[0]


def test_one_refusal_of_two_services_and_with_two_decisions() -> None:
    bench = Bench("gw")
    refusal = Refusal(503, "circuit_open", "open", 3)
    allowed, nothing = {"rate_limit": "allowed"}, dict[str, str]()
    told = [
        (bench.account(route, upstream), decisions)
        for route, upstream, decisions in (
            ("a", "orders", allowed),
            ("b", "payments", nothing),
            ("a", "orders", nothing),
            ("a", "orders", allowed),
        )
    ]
    for account, decisions in told:
        line, response = bench.refuse(account, refusal, decisions)
        assert (line["route"], line["upstream"], line["decisions"]) == (account.name, account.service, decisions)
        assert (line["status"], line["reason"], line["endpoint"]) == (503, "circuit_open", None)
        assert line["request_id"].encode() in response
        assert line["bytes_out"] == len(response.partition(b"\r\n\r\n")[2])
    assert [record.service for record in bench.errors.recent(9)] == ["orders", "orders", "payments", "orders"]
    assert bench.metrics.refusals["circuit_open"] == 4
    assert ("GET", 503, 3) in bench.metrics.route("a").counted()


def test_a_refusal_shared_by_two_gateways_speaks_for_each() -> None:
    one, other = Bench("one"), Bench("other")
    refusal = Refusal(503, "draining", "stopping", 1)
    for bench, name in ((one, b"one"), (other, b"other"), (one, b"one")):
        _, response = bench.refuse(bench.account("a", "orders"), refusal, {})
        assert b"\r\nProxy-Status: %b;" % name in response
    assert (one.errors.recorded, other.errors.recorded) == (2, 1)


def test_a_refused_exchange_has_its_attempts_and_its_time_in_the_line() -> None:
    bench = Bench("gw")
    refused = ticket(account=bench.account("a", "orders"))
    refused.attempts, refused.upstream_seconds, refused.endpoint = 2, 0.25, "10.0.0.5:80"
    refused.status, refused.reason = 504, "upstream_timeout"
    bench.recorder.attempt_failed(refused, "orders", "upstream_timeout", None, "no answer in time")
    bench.recorder.refused(refused, Refusal(504, "upstream_timeout", "no answer in time"), 0.5)
    line = json.loads(bench.lines[0])
    assert (line["attempts"], line["duration_ms"], line["upstream_ms"], line["endpoint"]) == (
        2,
        500.0,
        250.0,
        "10.0.0.5:80",
    )
    # The failed attempt is the record; the refusal that it led to is none of its own.
    assert [record.attempt for record in bench.errors.recent(9)] == [2]
    assert bench.metrics.refusals["upstream_timeout"] == 1


def test_what_never_became_a_request_is_counted_under_no_route() -> None:
    bench = Bench("gw")
    template = bench.recorder.refused_connection(b"1" * 32, "192.0.2.9", Refusal(400, "bad_request", "no Host"))
    connection = Connection()
    writer.farewell(connection, b"1" * 32, template)
    line = json.loads(bench.lines[0])
    assert (line["client"], line["status"], line["reason"]) == ("192.0.2.9", 400, "bad_request")
    assert line["bytes_out"] == len(connection.answers[0].partition(b"\r\n\r\n")[2])
    assert ("_OTHER", 400, 1) in bench.metrics.route("").counted()
