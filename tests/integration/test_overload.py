"""Priorities and the adaptive limit through whole gateways and real sockets."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, fresh, ok
from tests.conftest import StartGateway
from tests.integration.conftest import Command
from tests.support.callers import FILE_KEY
from tests.support.gateway_process import GatewayProcess
from tests.support.keys import sha256
from tests.support.raw_http import RawClient
from tests.support.waiting import PATIENCE, eventually


def configuration(url: str, **more: object) -> str:
    common = {"upstream": "orders", "strip_prefix": True, "rate_limit": None}
    routes = [
        {"name": "pay", "prefix": "/pay", "priority": "critical", **common},
        {"name": "report", "prefix": "/report", "priority": "background", **common},
        {"name": "rest", "prefix": "/rest", **common},
    ]
    bulkhead = {"limit": 4, "max_queue": 0}
    return yaml.safe_dump(
        {"upstreams": {"orders": {"endpoints": [url], "bulkhead": bulkhead}}, "routes": routes, **more}
    )


@pytest.fixture
def prioritized(start_gateway: StartGateway, upstream: ProgrammedUpstream) -> GatewayProcess:
    env = {"GATEWAY_CONFIG": "gateway.yaml", "PRIORITY_HEADER": "X-Priority"}
    return start_gateway(env, files={"gateway.yaml": configuration(upstream.url)})


@contextmanager
def held(gateway: GatewayProcess, upstream: ProgrammedUpstream, prefix: str, count: int) -> Iterator[None]:
    """So many requests are at the upstream, and stay there."""
    release = threading.Event()

    def wait(peer: Peer, _seen: Seen) -> None:
        release.wait(PATIENCE)
        peer.send(ok())

    upstream.on(path := fresh(), wait)
    clients = [
        RawClient(gateway.port).send(f"GET {prefix}{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()) for _ in range(count)
    ]
    upstream.wait_for(path, count)
    try:
        yield
    finally:
        release.set()
        assert [client.read_response().status for client in clients] == [200] * count
        for client in clients:
            client.close()


def status(gateway: GatewayProcess, prefix: str, headers: Mapping[str, str] | None = None) -> int:
    return gateway.get(f"{prefix}{fresh()}", headers).status


def test_what_matters_least_is_shed_first(prioritized: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    gateway = prioritized
    with held(gateway, upstream, "/report", 2):
        answer = gateway.get(f"/report{fresh()}")
        assert answer.status == 503
        problem = json.loads(answer.body)
        assert problem["reason"] == "bulkhead_full"
        assert "(priority background)" in problem["detail"]
        assert status(gateway, "/rest") == 200, "normal requests may have 3 of 4 places"
        with held(gateway, upstream, "/rest", 1):
            assert status(gateway, "/rest") == 503
            assert status(gateway, "/pay", {"X-Priority": "low"}) == 503, "a request may lower its own"
            assert status(gateway, "/rest", {"X-Priority": "critical"}) == 503, "and never raises it"
            assert status(gateway, "/pay") == 200, "the last place is for critical ones"
    assert gateway.metric('priority_rejections_total{policy="bulkhead",downstream="orders",priority="background"}') == 1
    assert gateway.metric('priority_rejections_total{policy="bulkhead",downstream="orders",priority="normal"}') == 2
    assert gateway.metric('priority_rejections_total{policy="bulkhead",downstream="orders",priority="critical"}') == 0
    assert gateway.metric('bulkhead_rejections_total{downstream="orders"}') == 4
    (line,) = gateway.wait_for_records(1, status=503, route="report")
    assert line["priority"] == "background"


def test_gateway_routes_shows_priorities_and_the_adaptive_limit(
    upstream: ProgrammedUpstream, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "gateway.yaml").write_text(configuration(upstream.url))
    env = {"GATEWAY_CONFIG": "gateway.yaml", "ADAPTIVE_LIMIT_MODE": "observe", "ADAPTIVE_LIMIT_MIN": "2"}
    shown = command("routes", **env).stdout
    assert "2 to 4 from 4, observed" in shown
    assert "limit=4 percent_by_priority=100/95/90/75/50" in shown
    assert "mode=observe min=2 initial=64" in shown
    (pay,) = [line.split() for line in shown.splitlines() if line.split()[1:3] == ["any", "/pay"]]
    assert "critical" in pay


def test_an_explanation_knows_the_priority(prioritized: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    with held(prioritized, upstream, "/report", 2):
        steps = {}
        for prefix in ("/report/x", "/pay/x"):
            answer = prioritized.get(f"/api/resilience/explain?method=GET&path={prefix}")
            steps[prefix] = {step["policy"]: step for step in json.loads(answer.body)["steps"]}
    assert steps["/report/x"]["bulkhead"]["decision"] == "refuse"
    assert steps["/report/x"]["bulkhead"]["figures"]["priority"] == "background"
    assert steps["/report/x"]["bulkhead"]["figures"]["limit_of_priority"] == 2
    assert steps["/pay/x"]["bulkhead"]["decision"] == "allow"


def test_the_cap_on_all_in_flight_knows_priorities_too(
    start_gateway: StartGateway, upstream: ProgrammedUpstream
) -> None:
    env = {"GATEWAY_CONFIG": "gateway.yaml", "MAX_INFLIGHT": "2", "MAX_INFLIGHT_CLIENT_SHARE": "1"}
    gateway = start_gateway(env, files={"gateway.yaml": configuration(upstream.url)})
    with held(gateway, upstream, "/report", 1):
        assert status(gateway, "/report") == 429
        assert status(gateway, "/pay") == 200
    assert gateway.metric('priority_rejections_total{policy="in_flight",downstream="",priority="background"}') == 1


def test_a_tier_lowers_the_priority_of_its_tenants(start_gateway: StartGateway, upstream: ProgrammedUpstream) -> None:
    text = configuration(
        upstream.url,
        tiers={"free": {"priority": "background"}},
        tenants={"acme": {"tier": "free"}},
        consumers={"web": {"tenant": "acme", "keys": [{"id": FILE_KEY.split("_")[1], "sha256": sha256(FILE_KEY)}]}},
    )
    parsed = yaml.safe_load(text)
    for route in parsed["routes"]:
        if route["name"] == "rest":
            route["authentication"] = "api_key"
    gateway = start_gateway({"GATEWAY_CONFIG": "gateway.yaml"}, files={"gateway.yaml": yaml.safe_dump(parsed)})
    with held(gateway, upstream, "/report", 2):
        assert status(gateway, "/rest", {"X-API-Key": FILE_KEY}) == 503
        assert status(gateway, "/pay") == 200
    assert status(gateway, "/rest", {"X-API-Key": FILE_KEY}) == 200


def test_without_priorities_every_request_may_have_every_place(
    start_gateway: StartGateway, upstream: ProgrammedUpstream
) -> None:
    gateway = start_gateway(plain(upstream.url, BULKHEAD_LIMIT="2", BULKHEAD_QUEUE="0"))
    with held(gateway, upstream, "/proxy", 1):
        assert status(gateway, "/proxy") == 200
    assert "priority_rejections_total" not in gateway.get("/metrics").body.decode()
    assert "adaptive_limit" not in gateway.get("/metrics").body.decode()


@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_the_adaptive_limit_learns_from_answers_and_is_in_force_only_if_asked_for(
    mode: str, start_gateway: StartGateway, upstream: ProgrammedUpstream
) -> None:
    gateway = start_gateway(
        plain(
            upstream.url,
            BULKHEAD_LIMIT="200",
            ADAPTIVE_LIMIT_MODE=mode,
            ADAPTIVE_LIMIT_MIN="4",
            ADAPTIVE_LIMIT_INITIAL="100",
        )
    )
    series = 'adaptive_limit{upstream="default"}'
    assert gateway.metric(series) == 100

    def learnt() -> bool:
        for _ in range(30):
            assert status(gateway, "/proxy") == 200
        return gateway.metric(series) < 100

    # One request at a time is far from the limit, which shrinks towards five times that.
    eventually(learnt, "learnt from fifty answers")
    in_force = gateway.metric('gateway_upstream_limit{upstream="default"}')
    assert (in_force < 100) if mode == "enforce" else (in_force == 200)
    labels = '{upstream="default",latency_group="default"}'
    assert gateway.metric(f"adaptive_limit_recent_seconds{labels}") > 0
    assert gateway.metric(f"adaptive_limit_baseline_seconds{labels}") > 0
    answer = gateway.get("/api/resilience/explain?method=GET&path=/proxy/x")
    (step,) = [step for step in json.loads(answer.body)["steps"] if step["policy"] == "adaptive_limit"]
    assert step["figures"]["mode"] == mode
