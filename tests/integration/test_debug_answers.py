"""What an answer says of its making: `X-Gateway-Debug` for who bears the admin token, and `Server-Timing`."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, framed, fresh, ok
from tests.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.plain_http import Answer

TOKEN = "correct-horse-battery-staple"
ASKED = {"X-Gateway-Debug": TOKEN}
RETRYING = {"RETRY_MAX_ATTEMPTS": "2", "RETRY_BASE_DELAY_SECONDS": "0.01", "RETRY_BUDGET_MIN_PER_SECOND": "1000"}


@pytest.fixture(scope="module")
def gateway(upstream: ProgrammedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    variables = plain(upstream.url, ADMIN_TOKEN=TOKEN, SERVER_TIMING="true", **RETRYING)
    with GatewayProcess(variables, tmp_path_factory.mktemp("gateway")) as running:
        yield running


def debug(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(answer.headers["X-Gateway-Debug"] or "")
    return told


def timing(answer: Answer) -> dict[str, float]:
    return {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([0-9.]+)", answer.headers["Server-Timing"] or "")}


def gates(told: dict[str, Any]) -> dict[str, str]:
    return {each["gate"]: each["decision"] for each in told["gates"]}


@pytest.mark.parametrize("streamed", [False, True])
def test_it_says_what_the_gates_decided_and_how_each_attempt_went(
    streamed: bool, gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    good = framed(b"HTTP/1.1 200 OK\r\n\r\n", b"good") if streamed else ok(b"good")
    upstream.on(path := fresh(), ok(b"no", status=503), good)
    answer = gateway.get(f"/proxy{path}?secret=1", ASKED)
    assert (answer.status, answer.body) == (200, b"good")
    told = debug(answer)
    assert (told["route"], told["upstream"], told["reason"]) == ("proxy", "default", None)
    assert told["request_id"] == told["trace_id"] == answer.headers["X-Request-ID"]
    assert gates(told)["circuit"] == gates(told)["bulkhead"] == "passed"
    first, second = told["attempts"]
    assert (first["outcome"], second["outcome"]) == ("503", "200")
    assert first["endpoint"] == second["endpoint"] == upstream.url.removeprefix("http://")
    assert 0 <= first["start_ms"] <= second["start_ms"] <= told["ms"]
    assert 0 < second["ms"] <= told["ms"]
    assert "secret" not in answer.headers["X-Gateway-Debug"]
    # The field does not go on, and the trace of the client would.
    assert [each.get("X-Gateway-Debug") for each in upstream.requests(path)] == [None, None]
    times = timing(answer)
    assert times["total"] == pytest.approx(times["upstream"] + times["gateway"], abs=0.002)
    assert times["upstream"] > 0


def test_what_an_upstream_says_in_its_name_is_not_in_a_debug_answer(
    gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), ok(b"good", b'x-gateway-debug: {"route":"forged"}'))
    answer = gateway.get(f"/proxy{path}", ASKED)
    assert (answer.status, answer.body) == (200, b"good")
    assert debug(answer)["route"] == "proxy"
    assert "forged" not in str(answer.headers)


@pytest.mark.parametrize("given", [None, "", "wrong", TOKEN + "x", f"Bearer {TOKEN}"])
def test_without_the_token_the_answer_is_as_for_everybody(
    given: str | None, gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), ok())
    answer = gateway.get(f"/proxy{path}", {} if given is None else {"X-Gateway-Debug": given})
    assert answer.status == 200
    assert answer.headers["X-Gateway-Debug"] is None
    assert upstream.only(path).get("X-Gateway-Debug") is None


@pytest.mark.parametrize("name", ["X_Gateway_Debug", "x-gateway_debug"])
def test_what_an_upstream_could_take_for_the_field_does_not_go_on(
    name: str, gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), ok())
    assert gateway.get(f"/proxy{path}", {name: TOKEN}).headers["X-Gateway-Debug"] is None
    assert TOKEN.encode() not in upstream.only(path).head


def test_where_nothing_is_exported_the_trace_of_a_client_goes_on_unchanged(
    gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    upstream.on(path := fresh(), ok(b"no", status=503), ok())
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    told = debug(gateway.get(f"/proxy{path}", {**ASKED, "traceparent": trace}))
    assert told["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert [each.get("traceparent") for each in upstream.requests(path)] == [trace, trace]


def test_a_refusal_says_which_gate_it_was(upstream: ProgrammedUpstream, start_gateway: StartGateway) -> None:
    gateway = start_gateway(
        plain(
            upstream.url,
            ADMIN_TOKEN=TOKEN,
            RATE_LIMIT_ENABLED="true",
            RATE_LIMIT_CAPACITY="1",
            RATE_LIMIT_REFILL_RATE="0.001",
        )
    )
    upstream.on(path := fresh(), ok())
    assert gates(debug(gateway.get(f"/proxy{path}", ASKED)))["rate_limit"] == "allowed"
    answer = gateway.get(f"/proxy{path}", ASKED)
    assert answer.status == 429
    told = debug(answer)
    assert told["reason"] == "rate_limited"
    assert told["attempts"] == []
    decided = gates(told)
    assert decided["in_flight"] == "passed"
    assert decided["rate_limit"] == "limited"
    assert decided["circuit"] == "not asked"
    assert answer.headers["Server-Timing"] is None


def test_an_upstream_that_breaks_off_is_told_by_its_reason(
    gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    def reset(peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        peer.reset()

    upstream.on(path := fresh(), reset)
    answer = gateway.request("POST", f"/proxy{path}", b"x", ASKED)
    assert answer.status == 502
    told = debug(answer)
    assert told["reason"] == "upstream_unreachable"
    assert [each["outcome"] for each in told["attempts"]][-1] == "upstream_unreachable"


def test_a_trace_that_goes_no_further_does_not_show_the_token(gateway: GatewayProcess) -> None:
    answer = gateway.request("TRACE", "/proxy/ok", headers={**ASKED, "Max-Forwards": "0"})
    assert answer.status == 200
    assert TOKEN.encode() not in answer.body


def test_who_guesses_gets_nothing_for_a_while(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), ok())
    for _ in range(12):
        gateway.get(f"/proxy{path}", {"X-Gateway-Debug": "guess"})
    # A busy machine may have taken more than the second: then the right one is good again.
    gateway.wait_until(lambda: gateway.get(f"/proxy{path}", ASKED).headers["X-Gateway-Debug"] is not None, "admitting")


def test_a_last_good_answer_has_neither_field(upstream: ProgrammedUpstream, start_gateway: StartGateway) -> None:
    upstream.on(path := fresh(), ok(b"good"), ok(status=503))
    fallback = {"on": ["5xx"], "stale_if_error": "5m"}
    route = {"name": "stale", "prefix": "/stale", "strip_prefix": True, "upstream": "a", "fallback": fallback}
    upstreams = {"a": {"endpoints": [upstream.url], "retry": {"max_attempts": 1}}}
    gateway = start_gateway(
        {"GATEWAY_CONFIG": "gateway.yaml", "ADMIN_TOKEN": TOKEN, "SERVER_TIMING": "true"},
        files={"gateway.yaml": yaml.safe_dump({"upstreams": upstreams, "routes": [route]})},
    )
    assert debug(gateway.get(f"/stale{path}", ASKED))["attempts"]
    again = gateway.get(f"/stale{path}")
    assert (again.status, again.body) == (200, b"good")
    assert "stale" in (again.headers["Cache-Status"] or "")
    assert again.headers["X-Gateway-Debug"] is None
    assert again.headers["Server-Timing"] is None


def test_an_answer_that_is_kept_has_neither_field(upstream: ProgrammedUpstream, start_gateway: StartGateway) -> None:
    upstream.on(path := fresh(), ok(b"kept"))
    gateway = start_gateway(plain(upstream.url, ADMIN_TOKEN=TOKEN, SERVER_TIMING="true", IDEMPOTENCY_MODE="optional"))
    fields = {"Idempotency-Key": "a"}
    first = gateway.request("POST", f"/proxy{path}", b"x", {**fields, **ASKED})
    assert debug(first)["attempts"]
    again = gateway.request("POST", f"/proxy{path}", b"x", fields)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["X-Gateway-Debug"] is None
    assert again.headers["Server-Timing"] is None
