"""`gateway status`, `explain`, `errors`, `circuit`, `reset` and `endpoint`, against real gateways."""

import json
import os
from collections.abc import Callable, Mapping
from subprocess import CompletedProcess

import pytest

from tests.conftest import StartGateway
from tests.integration.conftest import Command
from tests.support.fake_upstream import Close, FakeUpstream, ReadHead, Send
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.stub_process import StubProcess

TOKEN = "correct-horse-battery-staple"
Gateway = Callable[..., CompletedProcess[str]]


@pytest.fixture
def gateway(command: Command) -> Gateway:
    def run(*arguments: str, env: Mapping[str, str] | None = None) -> CompletedProcess[str]:
        return command(*arguments, **(env or {}))

    return run


def at(process: GatewayProcess, token: str | None = TOKEN) -> dict[str, str]:
    return {"GATEWAY_URL": process.url, **({"ADMIN_TOKEN": token} if token else {})}


def settings(stub: StubProcess) -> dict[str, str]:
    return {"UPSTREAM_URL": stub.url, "ADMIN_TOKEN": TOKEN, "RATE_LIMIT_ENABLED": "false"}


@pytest.fixture
def running(start_gateway: StartGateway, stub: StubProcess) -> GatewayProcess:
    return start_gateway(settings(stub))


@pytest.fixture
def shared(shared_gateway: StartGateway, stub: StubProcess) -> GatewayProcess:
    """The gateway of the module, which its tests leave as it is."""
    return shared_gateway(settings(stub))


def test_status(gateway: Gateway, running: GatewayProcess) -> None:
    done = gateway("status", env=at(running))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Healthy: gateway ")
    assert lines[0].endswith("0 of 1000 in flight, no Redis")
    (row,) = [line.split() for line in lines if line.startswith("default ")]
    assert row == ["default", "Healthy", "Closed", "0", "0.0%", "1", "of", "1"]
    as_json = json.loads(gateway("status", "--json", "--url", running.url).stdout)
    assert as_json["process"]["status"] == "healthy"
    assert as_json["health"]["services"][0]["service"] == "default"


def test_a_circuit_in_an_operators_hand(gateway: Gateway, running: GatewayProcess) -> None:
    env = {**at(running), "USER": "alice"}
    held = gateway("circuit", "open", "--for", "10m", "--reason", "migration", env=env)
    assert (held.returncode, held.stderr) == (0, "")
    assert held.stdout.startswith("default: held Open until ")
    assert held.stdout.endswith(" in the whole fleet\n")
    assert running.get("/proxy/ok").status == 503
    status = gateway("status", env=env)
    assert status.returncode == 1
    assert "held open by an operator (migration)" in status.stdout
    refused = gateway("explain", "/proxy/ok", "--client", "192.0.2.7", env=env)
    assert refused.returncode == 1
    assert refused.stdout.startswith("GET /proxy/ok from 192.0.2.7: refused\n  503 circuit_open: ")
    assert gateway("circuit", "release", "default", env=env).stdout == "default: Closed in the whole fleet\n"
    assert gateway("explain", "/proxy/ok", "--json", env=env).returncode == 0
    closed = gateway("circuit", "close", "--reason", "x", "--for", "5", "--json", env=env)
    assert json.loads(closed.stdout)["action"] == "force-closed"
    records = running.wait_for_records(3, event="admin_action")
    assert [record["action"] for record in records] == ["force-open", "release", "force-closed"]
    assert {record["operator"] for record in records} == {"alice"}


def test_errors_and_reset(gateway: Gateway, running: GatewayProcess) -> None:
    assert gateway("errors", env=at(running)).stdout == "no errors\n"
    for _ in range(3):
        running.get("/proxy/fail")
    found = gateway("errors", "--count", "2", "--service", "default", env=at(running))
    assert found.returncode == 0
    header, *rows = found.stdout.splitlines()
    assert header.split()[:4] == ["TIME", "SERVICE", "CATEGORY", "REASON"]
    assert len(rows) == 2
    assert all("Dependency" in row for row in rows)
    done = gateway("reset", env=at(running))
    assert (done.returncode, done.stdout) == (
        0,
        "default: figures forgotten in the whole fleet, circuit Closed in the whole fleet\n",
    )


def test_endpoints(gateway: Gateway, shared: GatewayProcess, stub: StubProcess) -> None:
    one = f"127.0.0.1:{stub.port}"
    done = gateway("endpoint", "drain", "default", one, "--for", "1h", "--reason", "new disk", env=at(shared))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"default {one}: drained until ")
    listed = gateway("endpoint", "list", env=at(shared)).stdout.splitlines()
    assert listed[1].split()[:3] == ["default", one, "drained"]
    assert listed[1].endswith("new disk")
    status = gateway("status", env=at(shared))
    assert status.returncode == 1
    assert f"default {one}  drained" in status.stdout
    assert shared.get("/proxy/ok").status == 503
    disabled = gateway("endpoint", "disable", "default", one, "--reason", "x", "--json", env=at(shared))
    assert json.loads(disabled.stdout)["endpoint"]["state"] == "disabled"
    assert gateway("endpoint", "enable", "default", one, env=at(shared)).returncode == 0
    assert shared.get("/proxy/ok").status == 200


def test_what_the_gateway_refuses_is_1(gateway: Gateway, shared: GatewayProcess) -> None:
    order = ("circuit", "open", "--reason", "x")
    without = gateway(*order, env=at(shared, None))
    assert (without.returncode, without.stdout) == (1, "")
    assert without.stderr.startswith("gateway: 401 ")
    assert without.stderr.endswith("; set ADMIN_TOKEN in the environment\n")
    wrong = gateway(*order, env=at(shared, "wrong-token-hunter2"))
    assert (wrong.returncode, "hunter2" in wrong.stderr) == (1, False)
    unknown = gateway("circuit", "open", "nobody", "--reason", "x", env=at(shared))
    assert unknown.returncode == 1
    assert "unknown_service" in unknown.stderr
    assert gateway("circuit", "open", "--for", "2d", "--reason", "x", env=at(shared)).returncode == 1
    assert gateway("endpoint", "enable", "default", "h:1", env=at(shared)).returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("circuit",),
        ("circuit", "open"),
        ("circuit", "open", "--reason", "x", "--for", "soon"),
        ("endpoint", "drain", "default"),
        ("status", "--url", "ftp://h"),
        ("status", "--url", "http://user:hunter2@h"),
        ("status", "--url", "https://h", "--ca-file", "nix.pem"),
        ("explain",),
    ],
)
def test_a_wrong_command_line_is_2(gateway: Gateway, arguments: tuple[str, ...]) -> None:
    done = gateway(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "hunter2" not in done.stderr


def test_no_answer_is_3(gateway: Gateway) -> None:
    port = free_port()
    nobody = gateway("status", env={"PORT": str(port)})
    assert (nobody.returncode, nobody.stderr) == (
        3,
        f"gateway: no answer from http://127.0.0.1:{port}: connection refused\n",
    )
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhtml"
    with FakeUpstream([ReadHead(), Send(page), Close()]) as somebody:
        other = gateway("status", env={"GATEWAY_URL": somebody.url, "ADMIN_TOKEN": TOKEN})
        assert other.returncode == 3
        assert "not as the control plane of a gateway does (status 200)" in other.stderr
        # A question carries no token, whoever it was asked.
        assert TOKEN.encode() not in somebody.received


def test_nothing_that_controls_a_terminal_is_printed(gateway: Gateway) -> None:
    body = json.dumps({"count": 1, "errors": [{"time": "t", "service": "\x1b[2J", "category": "c", "reason": "r",
                       "status": None, "attempt": 1, "requestId": "i", "message": "a\nb\x9b1m"}]}).encode()  # fmt: skip
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
    with FakeUpstream([ReadHead(), Send(answer), Close()]) as somebody:
        printed = gateway("errors", "--url", somebody.url).stdout
    assert len(printed.splitlines()) == 2
    assert all(each.isprintable() for line in printed.splitlines() for each in line)


def test_the_environment_of_the_container_is_enough(gateway: Gateway, shared: GatewayProcess) -> None:
    assert gateway("status", env={"PORT": str(shared.port), "ADMIN_PORT": ""}).returncode == 0
    assert "http_proxy" not in os.environ or gateway("status", "--url", shared.url).returncode == 0
