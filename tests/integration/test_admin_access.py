"""Who may change what through a real gateway, what is written down about it, and where the control plane listens."""

import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartGateway
from tests.support import plain_http
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

TOKEN = "correct-horse-battery-staple"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
JSON = {"Content-Type": "application/json"}
FORCE = b'{"duration": 60, "reason": "maintenance"}'
CHANGES = (
    ("/api/resilience/metrics/default/reset", None),
    ("/api/resilience/circuit-breakers/default/force-open", FORCE),
    ("/api/resilience/circuit-breakers/default/force-closed", FORCE),
    ("/api/resilience/circuit-breakers/default/release", None),
    ("/api/admin/cleanup/alerts", None),
)


def change(gateway: GatewayProcess, path: str, body: bytes | None, headers: dict[str, str]) -> int:
    return gateway.request("POST", path, body, {**(JSON if body else {}), **headers}).status


def audit(gateway: GatewayProcess, event: str) -> list[dict[str, Any]]:
    return gateway.log_records(logger="gateway.audit", event=event)


@pytest.mark.parametrize(("path", "body"), CHANGES)
def test_no_change_works_without_its_token(
    start_gateway: StartGateway, stub: StubProcess, path: str, body: bytes | None
) -> None:
    # One of its own: whoever asks without the token ten times has to wait.
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "ADMIN_TOKEN": TOKEN})
    assert change(gateway, path, body, {}) == 401
    assert change(gateway, path, body, {"Authorization": "Bearer wrong"}) == 401
    # Access goes before everything else that might be said about the request.
    assert change(gateway, path.replace("default", "nobody"), b"{", {}) == 401
    assert change(gateway, path, body, BEARER) == 200


@pytest.mark.parametrize(("path", "body"), CHANGES)
def test_without_a_token_only_a_direct_peer_on_loopback_may(
    shared_gateway: StartGateway, stub: StubProcess, path: str, body: bytes | None
) -> None:
    gateway = shared_gateway({"UPSTREAM_URL": stub.url})
    for headers in (
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"Host": "gateway.example"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert change(gateway, path, body, headers) == 403, headers
    assert change(gateway, path, body, {}) == 200


def test_an_address_that_is_not_loopback_may_not(shared_gateway: StartGateway, stub: StubProcess) -> None:
    address = own_address()
    gateway = shared_gateway({"UPSTREAM_URL": stub.url})
    answer = plain_http.request(
        gateway.port, "/api/admin/cleanup/alerts", method="POST", host=address, headers={"Host": "localhost"}
    )
    assert (answer.status, answer.json()["reason"]) == (403, "forbidden")
    assert plain_http.request(gateway.port, "/api/resilience/health", host=address).status == 200


def test_a_proxy_that_adds_nothing_and_speaks_http_1_0_may_not(shared_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = shared_gateway({"UPSTREAM_URL": stub.url})
    request = f"POST /api/admin/cleanup/alerts HTTP/1.%d\r\nHost: 127.0.0.1:{gateway.port}\r\nConnection: close\r\n\r\n"
    for minor, status in ((0, b"403"), (1, b"200")):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as connection:
            connection.sendall((request % minor).encode())
            assert connection.recv(4096).split()[1] == status


def test_in_production_nothing_changes_without_a_token(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "ENVIRONMENT": "production"})
    answer = gateway.request("POST", "/api/admin/cleanup/alerts")
    assert answer.status == 403
    assert "ADMIN_TOKEN" in answer.json()["detail"]
    assert gateway.get("/api/resilience/health").status == 200


def own_address() -> str:
    """An address of this machine that is not loopback; nothing is sent to find it."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        address: str = probe.getsockname()[0]
        if not address.startswith("127."):
            return address
    pytest.skip("this machine has no address but loopback")


def test_a_gateway_before_itself_is_a_proxy(
    start_gateway: StartGateway, shared_gateway: StartGateway, stub: StubProcess
) -> None:
    inner = shared_gateway({"UPSTREAM_URL": stub.url})
    outer = start_gateway({"UPSTREAM_URL": inner.url, "VIA_NAME": "outer", "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "9"})
    answer = outer.request("POST", "/proxy/api/admin/cleanup/alerts")
    assert (answer.status, answer.json()["reason"]) == (403, "forbidden")


def test_guessing_is_limited_and_logged(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "ADMIN_TOKEN": TOKEN})
    path = "/api/admin/cleanup/alerts"
    statuses = [change(gateway, path, None, {"Authorization": f"Bearer guess-{index}"}) for index in range(40)]
    assert statuses[:10] == [401] * 10
    # One try comes back every six seconds.
    assert statuses[10:].count(429) >= 28
    late = [gateway.request("POST", path, None, {"Authorization": "Bearer guess-x"}) for _ in range(2)][1]
    assert (late.status, late.json()["reason"]) == (429, "too_many_attempts")
    assert 1 <= int(late.headers["Retry-After"]) <= 6
    # The operator is not locked out by who shares the address.
    assert change(gateway, path, None, BEARER) == 200
    assert gateway.get("/api/resilience/health").status == 200
    # No more of them come than are here: all are once the process has ended.
    assert gateway.stop() == 0
    refused = audit(gateway, "admin_refused")
    assert len(refused) >= 10
    assert len(refused) <= 12
    assert {line["peer"] for line in refused} == {"127.0.0.1"}
    assert TOKEN not in gateway.output
    assert "guess-" not in gateway.output


def test_each_change_leaves_an_audit_line(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "ADMIN_TOKEN": TOKEN})
    headers = {**BEARER, "X-Operator": "ada", "X-Request-ID": "change-42"}
    assert change(gateway, "/api/resilience/circuit-breakers/DEFAULT/force-open", FORCE, headers) == 200
    assert change(gateway, "/api/resilience/circuit-breakers/default/release", None, BEARER) == 200
    assert change(gateway, "/api/resilience/metrics/default/reset", None, BEARER) == 200
    assert change(gateway, "/api/admin/cleanup/alerts", None, BEARER) == 200
    forced, released, reset, cleaned = gateway.wait_for_records(4, logger="gateway.audit", event="admin_action")
    expected = {
        "level": "INFO", "action": "force-open", "service": "default", "operator": "ada", "authenticated_by": "token",
        "peer": "127.0.0.1", "reason": "maintenance", "duration": 60.0, "before": "closed", "after": "forced_open",
        "request_id": "change-42",
    }  # fmt: skip
    assert {key: forced[key] for key in expected} == expected
    assert (released["before"], released["after"], released["operator"]) == ("forced_open", "closed", None)
    assert reset["before"]["circuit"] == reset["after"]["circuit"] == "closed"
    assert cleaned["action"] == "cleanup-alerts"
    assert TOKEN not in gateway.output


def test_admin_port_moves_everything_but_health(start_gateway: StartGateway, stub: StubProcess) -> None:
    admin = free_port()
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "ADMIN_PORT": str(admin), "ADMIN_TOKEN": TOKEN})
    moved = ["/metrics", "/status/breakers", "/api/resilience/health", "/api/openapi.json", "/api/docs"]
    for path in ["/health", "/livez", "/readyz"]:
        assert gateway.get(path).status == 200
        assert gateway.get(f"{path}?x=1").status == 200
        assert plain_http.request(admin, path).status == 200
    for path in moved:
        answer = gateway.get(path)
        assert (answer.status, answer.json()["reason"]) == (404, "not_found"), path
        assert plain_http.request(admin, path).status == 200
    assert change(gateway, "/api/admin/cleanup/alerts", None, BEARER) == 404
    done = plain_http.request(admin, "/api/admin/cleanup/alerts", method="POST", headers=BEARER)
    assert done.status == 200
    # The proxy is not there.
    assert plain_http.request(admin, "/proxy/ok").status == 404
    assert gateway.get("/proxy/ok").status == 200


def test_a_route_for_everything_gets_the_paths_that_moved(
    start_gateway: StartGateway, stub: StubProcess, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(f'upstreams: {{u: {{endpoints: ["{stub.url}"]}}}}\nroutes: [{{name: r, prefix: /, upstream: u}}]\n')
    gateway = start_gateway({"GATEWAY_CONFIG": str(file), "ADMIN_PORT": str(free_port())})
    gateway.get("/status/200")
    gateway.get("/health")
    assert (stub.requests("/status/200"), stub.requests("/health")) == (1, 0)


def test_an_admin_port_that_is_taken_stops_the_start(start_gateway: StartGateway, stub: StubProcess) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        gateway = start_gateway({"UPSTREAM_URL": stub.url, "ADMIN_PORT": str(port)}, ready=False)
        assert gateway.wait() == 1
    assert f"cannot listen on 127.0.0.1:{port}" in gateway.output


def test_errors_tell_nothing_of_the_inside(
    start_gateway: StartGateway, stub: StubProcess, own_redis: RedisServer
) -> None:
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "REDIS_URL": own_redis.url, "ADMIN_TOKEN": TOKEN})
    eventually(lambda: gateway.get("/health").json()["checks"]["redis"]["up"], "with Redis")
    own_redis.kill()
    answers = [gateway.request("POST", path, body, {**(JSON if body else {}), **BEARER}) for path, body in CHANGES]
    answers += [gateway.get(f"/api/resilience/{name}") for name in ("health", "metrics", "errors/recent", "alerts")]
    answers += [gateway.get("/health"), gateway.get("/api/resilience/explain?path=/proxy/ok")]
    assert {answer.status for answer in answers} == {200}
    for answer in answers:
        text = answer.body.decode()
        assert "Traceback" not in text
        assert str(own_redis.port) not in text
        assert TOKEN not in text
