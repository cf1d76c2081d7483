"""What is kept between refusals is never what another request is told."""

import asyncio
import json
import random
import time
from collections.abc import Mapping
from typing import Any, cast

import pytest

from gateway.config.model import EndpointConfig, RouteConfig, UpstreamConfig
from gateway.fleet.circuit import LocalCircuit
from gateway.policy.limit import ConcurrencyLimit, LimitSettings
from gateway.proxy.admission import BULKHEAD, IN_FLIGHT, PASSED, Gates, LimitGate
from gateway.proxy.identity import Identification
from gateway.proxy.ids import Ids
from gateway.proxy.plan import Plan
from gateway.proxy.refusal import Refusal
from gateway.proxy.refuse import Refuser
from gateway.proxy.upstreams import Route, Upstream
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.errors import ErrorLog
from gateway.telemetry.metrics import Metrics
from gateway.wire.request import Limits, Request, check, parse_fields
from gateway.wire.resolver import Resolver
from gateway.wire.server_connection import ServerConnection

LOOP = cast(asyncio.AbstractEventLoop, None)  # nothing here waits


def refuse(cause: str) -> Refusal:
    return Refusal(503, "bulkhead_full", cause, 1)


class Connection:
    """Takes an answer where a client would."""

    reusable = True

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
        rng = random.Random(1)
        log = AccessLog(self.lines.append)
        self.refuser = Refuser(self.metrics, self.errors, log, Ids(rng, 1.0), self.metrics.route(""), via_name)

    def plan(self, route: str, upstream: str) -> Plan:
        config = UpstreamConfig(upstream, (EndpointConfig("127.0.0.1", 5001),), "127.0.0.1:5001")
        limit = ConcurrencyLimit(config.bulkhead)
        circuit = LocalCircuit(upstream, config.breaker)
        behind = Upstream(config, circuit, limit, LOOP, Resolver(60.0), time.monotonic, random.Random(1))
        gate = LimitGate(limit, refuse, LOOP)
        cells = self.metrics.route(route)
        live = Route(
            RouteConfig(route, f"/{route}/", upstream),
            behind,
            None,
            Gates(gate, None, gate),
            cells,
            legacy_headers=True,
        )
        request = self.request(f"/{route}/x".encode())
        return Plan(request, live, Identification((), "gw").direct("192.0.2.1", "http"), None)

    def request(self, target: bytes = b"/a/x") -> Request:
        request = Request("GET", target, 1, parse_fields(b"Host: a\r\n\r\n", Limits()))
        check(request)
        return request

    def say(self, plan: Plan, refusal: Refusal, decisions: Mapping[str, str]) -> tuple[dict[str, Any], bytes]:
        """The log line and the answer of one refusal."""
        connection = Connection()
        self.refuser.at_once(
            cast(ServerConnection, connection), self.request(), plan, refusal, None, decisions, time.monotonic()
        )
        return json.loads(self.lines[-1]), connection.answers[0]


def test_one_refusal_of_two_services_and_with_two_decisions() -> None:
    bench = Bench("gw")
    refusal = Refusal(503, "circuit_open", "open", 3)
    allowed, nothing = {"rate_limit": "allowed"}, dict[str, str]()
    told = [
        (bench.plan(route, upstream), decisions)
        for route, upstream, decisions in (
            ("a", "orders", allowed),
            ("b", "payments", nothing),
            ("a", "orders", nothing),
            ("a", "orders", allowed),
        )
    ]
    for plan, decisions in told:
        line, answer = bench.say(plan, refusal, decisions)
        assert (line["route"], line["upstream"], line["decisions"]) == (plan.route.name, plan.route.service, decisions)
        assert (line["status"], line["reason"], line["endpoint"]) == (503, "circuit_open", None)
        assert line["request_id"].encode() in answer
    assert [record.service for record in bench.errors.recent(9)] == ["orders", "orders", "payments", "orders"]
    assert bench.metrics.refusals["circuit_open"] == 4
    assert bench.metrics.route("a").counts["GET", 503] == 3


def test_a_refusal_shared_by_two_gateways_speaks_for_each() -> None:
    one, other = Bench("one"), Bench("other")
    refusal = Refusal(503, "draining", "stopping", 1)
    for bench, name in ((one, b"one"), (other, b"other"), (one, b"one")):
        _, answer = bench.say(bench.plan("a", "orders"), refusal, {})
        assert b"\r\nProxy-Status: %b;" % name in answer
    assert (one.errors.recorded, other.errors.recorded) == (2, 1)


@pytest.mark.parametrize(("queue", "said"), [(0, "in_flight"), (1, "queue_full")])
def test_beyond_a_limit_and_its_queue_is_refused_at_once(queue: int, said: str) -> None:
    """And holds no place of the limits before it."""
    first, limit = ConcurrencyLimit(LimitSettings(10)), ConcurrencyLimit(LimitSettings(1, queue, 1.0))
    gates = Gates(LimitGate(first, refuse, LOOP), None, LimitGate(limit, refuse, LOOP))
    assert gates.look("client", 0.0) == (PASSED, None, None)
    gates.enter(IN_FLIGHT, PASSED, "client")
    for waiting in range(queue):
        assert gates.look("client", 0.0) == (BULKHEAD, None, None)
        limit.enqueue(waiting, 0.0)
    at, _, refusal = gates.look("client", 0.0)
    assert at == BULKHEAD
    assert refusal is not None
    assert refusal.detail == said
    assert first.in_flight == 1
