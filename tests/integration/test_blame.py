"""Who is to blame: what must not count against an upstream, and who must not be waited for."""

import json
import threading
import time
from typing import Any

import pytest
import yaml

from tests.conformance.wire.clients import plain
from tests.conformance.wire.conftest import PLAIN
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, ok
from tests.conftest import StartGateway
from tests.support.fake_upstream import Close, FakeUpstream, Pause, ReadHead, Reset, Send, respond
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.stub_process import StubProcess
from tests.support.waiting import PATIENCE, eventually

_CIRCUIT = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "3", "RETRY_BASE_DELAY_SECONDS": "0.01"}

ABOUT_THE_REQUEST = (501, 505, 507, 508, 511)
FAILURES = (500, 503, 509, 520, 599)
_PROBED: dict[str, Any] = {"breaker": {"reset_timeout": 1}, "timeouts": {"attempt": 30, "total": 60}}
# Each case has an upstream of its own, and with it a circuit.
UPSTREAMS: dict[str, dict[str, Any]] = {
    **{f"s{status}": {} for status in (*ABOUT_THE_REQUEST, *FAILURES)},
    **{name: {} for name in ("half", "bare", "informs")},
    "hangs": {"timeouts": {"attempt": 1}},
    "left-early": {"timeouts": {"attempt": 20}},
    "slow": {"timeouts": {"attempt": 20}, "breaker": {"slow_call_threshold": 0.2, "minimum_calls": 3}},
    "probed": _PROBED,
    "probed-expecting": _PROBED,
}


@pytest.fixture
def gateway(shared_gateway: StartGateway, upstream: ProgrammedUpstream) -> GatewayProcess:
    """The gateway of the module. All its upstreams are the same one, each under the prefix of its name."""
    document = {
        "upstreams": {name: {"endpoints": [upstream.url], **settings} for name, settings in UPSTREAMS.items()},
        "routes": [{"name": name, "prefix": f"/{name}", "upstream": name} for name in UPSTREAMS],
    }
    env = {**PLAIN, **_CIRCUIT, "GATEWAY_CONFIG": "gateway.yaml"}
    return shared_gateway(env, files={"gateway.yaml": yaml.safe_dump(document)})


def circuit(gateway: GatewayProcess, name: str) -> dict[str, Any]:
    found: dict[str, Any] = gateway.get("/status/breakers").json()[name]
    return found


def at_once(gateway: GatewayProcess, target: str, count: int) -> list[int]:
    """The statuses of that many requests sent at the same time."""
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(gateway.get(target).status)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def in_flight(gateway: GatewayProcess) -> float:
    return gateway.metric("http_requests_in_flight")


def test_connections_that_died_of_old_age_do_not_count_against_the_upstream(start_gateway: StartGateway) -> None:
    # Every connection serves one request, slowly enough for eight to be open, and resets the next.
    script = (ReadHead(), Pause(1.0), Send(respond(b"ok")), ReadHead(), Reset())
    with FakeUpstream(*[script] * 24) as upstream:
        gateway = start_gateway(plain(upstream.url, **_CIRCUIT))
        assert at_once(gateway, "/proxy/x", 8) == [200] * 8
        for _ in range(6):
            assert gateway.get("/proxy/x").status == 200


def test_a_post_on_a_dead_connection_is_not_repeated_and_not_counted(start_gateway: StartGateway) -> None:
    script = (ReadHead(), Pause(1.0), Send(respond(b"ok")), ReadHead(), Reset())
    with FakeUpstream(*[script] * 12) as upstream:
        gateway = start_gateway(plain(upstream.url, **_CIRCUIT))
        assert at_once(gateway, "/proxy/x", 5) == [200] * 5
        for _ in range(5):
            assert gateway.request("POST", "/proxy/x", b"").status == 502
        assert gateway.get("/status/breakers").json()["default"]["state"] == "closed"


@pytest.mark.parametrize("status", ABOUT_THE_REQUEST)
def test_a_status_about_the_request_is_no_failure(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, status: int
) -> None:
    name = f"s{status}"
    upstream.on(f"/{name}", b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
    assert [gateway.get(f"/{name}").status for _ in range(6)] == [status] * 6
    found = circuit(gateway, name)
    assert (found["state"], found["failures"]) == ("closed", 0)
    assert gateway.get(f"/api/resilience/metrics/{name}").json()["errorRate"] == 0.0
    assert gateway.metric(f'downstream_errors_total{{to_service="{name}",category="Dependency"}}') == 0


@pytest.mark.parametrize("status", FAILURES)
def test_any_other_5xx_is_one(gateway: GatewayProcess, upstream: ProgrammedUpstream, status: int) -> None:
    name = f"s{status}"
    upstream.on(f"/{name}", b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
    for _ in range(3):
        gateway.get(f"/{name}")
    assert circuit(gateway, name)["state"] == "open"


def test_which_statuses_are_failures_can_be_set(start_gateway: StartGateway) -> None:
    with ProgrammedUpstream() as upstream:
        upstream.on("/busy", b"HTTP/1.1 429 X\r\nContent-Length: 0\r\n\r\n")
        upstream.on("/bad", b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")
        gateway = start_gateway(plain(upstream.url, **_CIRCUIT, UPSTREAM_FAILURE_STATUSES="429,502-504"))
        for _ in range(5):
            gateway.get("/proxy/bad")
        assert gateway.get("/status/breakers").json()["default"]["state"] == "closed"
        for _ in range(3):
            gateway.get("/proxy/busy")
        assert gateway.get("/status/breakers").json()["default"]["state"] == "open"


def test_waiting_for_our_own_pool_is_not_the_upstreams_failure(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway(
        plain(stub.url, **_CIRCUIT, UPSTREAM_MAX_CONNECTIONS="2", UPSTREAM_TIMEOUT="2.5", UPSTREAM_TOTAL_TIMEOUT="20")
    )
    statuses = at_once(gateway, "/proxy/slow?seconds=1.5", 8)
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 2
    circuit = gateway.get("/status/breakers").json()["default"]
    assert (circuit["state"], circuit["failures"]) == ("closed", 0)


def test_a_client_that_leaves_behind_unread_bytes_is_noticed(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway(plain(stub.url, UPSTREAM_TIMEOUT="30", UPSTREAM_TOTAL_TIMEOUT="40"))
    with RawClient(gateway.port) as client:
        client.send(b"GET /proxy/slow?seconds=20 HTTP/1.1\r\nHost: a\r\n\r\n")
        client.send(b"GET /proxy/ok HTTP/1.1\r\nHost: a\r\n\r\n" * 8000)
        eventually(lambda: in_flight(gateway) == 1, "the request being in flight")
        client.reset()
    eventually(lambda: in_flight(gateway) == 0, "the exchange of the client that left being over")


def test_neither_side_moving_does_not_last_for_ever(start_gateway: StartGateway) -> None:
    """The client reads nothing of a response without end and sends a body that nobody takes."""
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    script = (ReadHead(), Send(endless + (b"4000\r\n" + b"y" * 0x4000 + b"\r\n") * 1500), Pause(30.0), Close())
    with FakeUpstream(script) as upstream:
        gateway = start_gateway(plain(upstream.url, CLIENT_IDLE_TIMEOUT_SECONDS="1", UPSTREAM_IDLE_TIMEOUT="2"))
        with RawClient(gateway.port) as client:
            client.send(b"POST /proxy/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
            feeding = threading.Thread(target=_feed, args=(client,))
            feeding.start()
            eventually(lambda: in_flight(gateway) == 1, "the exchange being in flight")
            eventually(lambda: in_flight(gateway) == 0, "the exchange being given up")
            feeding.join()


def _feed(client: RawClient) -> None:
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            client.send(b"z" * 65_536)
    except OSError:
        return


def test_an_upstream_that_takes_a_body_slowly_but_steadily_is_waited_for(start_gateway: StartGateway) -> None:
    size = 6_000_000

    def take(peer: Peer, seen: Seen) -> None:
        taken = len(peer.buffer)
        while taken < size:
            taken += len(peer.socket.recv(100_000))
            time.sleep(0.08)
        peer.buffer = b""
        peer.send(ok())

    with ProgrammedUpstream() as upstream:
        upstream.on("/take", take)
        gateway = start_gateway(plain(upstream.url, **_CIRCUIT, UPSTREAM_TIMEOUT="2", UPSTREAM_TOTAL_TIMEOUT="2.5"))
        with RawClient(gateway.port) as client:
            client.send(b"POST /proxy/take HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            client.send(b"x" * size)
            assert client.read_response().status == 200


def test_an_upstream_that_stops_taking_a_body_is_given_up(start_gateway: StartGateway) -> None:
    with FakeUpstream((ReadHead(), Pause(60.0), Close())) as upstream:
        gateway = start_gateway(plain(upstream.url, UPSTREAM_TIMEOUT="1", UPSTREAM_TOTAL_TIMEOUT="1.5"))
        with RawClient(gateway.port) as client:
            client.send(b"POST /proxy/x HTTP/1.1\r\nHost: a\r\nContent-Length: 30000000\r\n\r\n")
            feeding = threading.Thread(target=_feed, args=(client,))
            feeding.start()
            assert client.read_response().status == 504
            client.close()
            feeding.join()


def test_an_answer_that_breaks_off_is_counted(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    def half(peer: Peer, seen: Seen) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        peer.close()

    upstream.on("/half", half)
    with RawClient(gateway.port) as client:
        assert client.request(b"GET /half HTTP/1.1\r\nHost: a\r\n\r\n").ending == "closed"
    gateway.wait_for_metric('gateway_refusals_total{reason="upstream_truncated"}', 1)


def test_an_upstream_that_ends_lines_with_bare_line_feeds_is_told_so_at_once(
    gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    upstream.on("/bare", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello")
    assert gateway.get("/bare").json()["reason"] == "upstream_protocol_error"


def test_an_upstream_that_informs_without_end_is_cut_off(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    upstream.on("/informs", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 40 + ok())
    with RawClient(gateway.port) as client:
        answer = client.request(b"GET /informs HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (answer.status, json.loads(answer.body)["reason"]) == (502, "upstream_protocol_error")
    assert len(answer.interim) == 16


def hang(upstream: ProgrammedUpstream, name: str) -> None:
    """Have this one not answer at all."""

    def wait(peer: Peer, seen: Seen) -> None:
        peer.until(b"never")

    upstream.on(f"/{name}", wait)


def leave(gateway: GatewayProcess, name: str, after: float) -> None:
    with RawClient(gateway.port) as client:
        client.send(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % name.encode())
        time.sleep(after)


def test_an_upstream_that_hangs_is_noticed_though_its_clients_leave(
    gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    hang(upstream, "hangs")
    for _ in range(3):
        leave(gateway, "hangs", after=0.9)
    eventually(lambda: circuit(gateway, "hangs")["state"] == "open", "open")


def test_clients_that_leave_early_prove_nothing(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    hang(upstream, "left-early")
    for _ in range(5):
        leave(gateway, "left-early", after=0.1)
    eventually(lambda: in_flight(gateway) == 0, "all exchanges being over")
    assert circuit(gateway, "left-early")["failures"] == 0


def test_what_was_waited_for_too_long_is_a_slow_call_though_the_client_left(
    gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    hang(upstream, "slow")
    for _ in range(3):
        leave(gateway, "slow", after=0.6)
    eventually(lambda: circuit(gateway, "slow")["state"] == "open", "open")


@pytest.mark.parametrize(("name", "expects"), [("probed", b""), ("probed-expecting", b"Expect: 100-continue\r\n")])
def test_only_complete_requests_probe(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, name: str, expects: bytes
) -> None:
    upstream.on(f"/{name}/bad", b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")
    upstream.on(f"/{name}/up", ok())
    upstream.on(f"/{name}/ok", ok(), ok(), ok())
    for _ in range(3):
        gateway.get(f"/{name}/bad")

    def state() -> str:
        return str(circuit(gateway, name)["state"])

    # A busy machine may have it half-open before anybody asks.
    *_, trip = gateway.get(f"/api/resilience/circuit-breakers/{name}").json()["transitions"]
    assert (trip["fromState"], trip["toState"]) == ("Closed", "Open")
    eventually(lambda: state() == "half_open", "half-open")
    with RawClient(gateway.port) as dripping:
        head = b"POST /%b/up HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n%b\r\n" % (name.encode(), expects)
        dripping.send(head)
        eventually(lambda: in_flight(gateway) == 1, "the upload being in flight")
        dripping.send(b"a")
        assert [gateway.get(f"/{name}/ok").status for _ in range(2)] == [200, 200]
        # The store of all workers has the last word, a moment after the client has its answer.
        eventually(lambda: state() == "closed", "closed")
        # The upload was kept waiting for nothing but its own body.
        dripping.send(b"bcd")
        assert dripping.read_response().status == 200
    assert [seen.body for seen in upstream.requests(f"/{name}/up")] == [b"abcd"]
