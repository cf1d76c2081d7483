"""The limit of open files (`ulimit -n`) and what it leaves of `MAX_CONNECTIONS`."""

import json
import resource
import shlex
import shutil
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.processes import ChildProcess, clean_environment
from tests.support.raw_http import RawClient
from tests.support.stub_process import StubProcess

SAYS = "client connections, as no more than"
HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


class LimitedGateway(GatewayProcess):
    """A gateway whose shell first sets the soft and the hard limit."""

    def __init__(
        self, soft: int, hard: int, directory: Path, env: Mapping[str, str] | None = None, *, ready: bool = True
    ) -> None:
        self.port = free_port()
        shell = f"ulimit -Sn {soft} && ulimit -Hn {hard} && exec {shlex.quote(sys.executable)} -m gateway run"
        environment = clean_environment(**{"PORT": str(self.port), "UPSTREAM_URL": "http://127.0.0.1:1", **(env or {})})
        ChildProcess.__init__(self, "gateway", ["/bin/sh", "-c", shell], env=environment, cwd=directory)
        if ready:
            self.wait_until_ready()

    @property
    def soft_limit(self) -> int:
        (line,) = (
            line for line in Path(f"/proc/{self.worker}/limits").read_text().splitlines() if line.startswith("Max open")
        )
        return int(line.split()[3])


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/limits").exists() or shutil.which("sh") is None or 0 <= HARD < 4096,
    reason="needs /proc, a shell and a hard limit of 4096 open files",
)


def test_the_soft_limit_is_raised_without_a_word(stack: ExitStack, tmp_path: Path) -> None:
    gateway = stack.enter_context(LimitedGateway(256, 4096, tmp_path, {"MAX_CONNECTIONS": "1000"}))
    gateway.wait_for_line("listening on")
    assert gateway.soft_limit == 4096
    assert SAYS not in gateway.output


def test_what_upstreams_cannot_need_is_left_to_clients(stack: ExitStack, tmp_path: Path) -> None:
    limits = {"MAX_CONNECTIONS": "4000", "UPSTREAM_MAX_CONNECTIONS": "30", "MAX_WEBSOCKET_CONNECTIONS": "10"}
    gateway = stack.enter_context(LimitedGateway(256, 1296, tmp_path, limits))
    gateway.wait_for_line("listening on")
    assert f"at most 1000 {SAYS} 1296 files" in gateway.output


def test_a_hard_limit_lowers_the_maximum_and_says_so_once(stack: ExitStack, tmp_path: Path) -> None:
    gateway = stack.enter_context(LimitedGateway(64, 64, tmp_path))
    gateway.wait_for_line("listening on")
    gateway.wait_for_line(SAYS)
    (record,) = (record for record in gateway.log_records() if SAYS in record.get("message", ""))
    assert record["message"] == (
        "at most 16 client connections, as no more than 64 files may be open (ulimit -n); MAX_CONNECTIONS is 20000"
    )
    assert record["level"].upper() == "INFO"
    clients = [
        stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=5.0)) for _ in range(17)
    ]
    for client in clients[:16]:
        # Within a request, nobody gives way.
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n")
    clients[16].sendall(b"GET /proxy/ok HTTP/1.1\r\nHost: a\r\n\r\n")
    assert clients[16].recv(12) == b"HTTP/1.1 429"
    clients[0].sendall(b"\r\n")
    assert clients[0].recv(12) == b"HTTP/1.1 200"


def test_an_upstream_is_not_to_blame_for_files_that_others_hold(
    stack: ExitStack, tmp_path: Path, stub: StubProcess
) -> None:
    names = [f"u{i}" for i in range(4)]
    config = {
        "upstreams": {name: {"endpoints": [stub.url]} for name in names},
        "routes": [{"name": name, "prefix": f"/{name}", "strip_prefix": True, "upstream": name} for name in names],
    }
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps(config))
    settings = {"GATEWAY_CONFIG": str(path), "RATE_LIMIT_ENABLED": "false"}
    gateway = stack.enter_context(LimitedGateway(80, 80, tmp_path, settings))
    # Twenty clients fit, and each of four upstreams keeps as many connections.
    clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(20)]
    statuses = Counter(
        client.read_response().status
        for name in names
        for client in sent(clients, f"GET /{name}/slow?seconds=0.3 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    )
    assert set(statuses) == {200, 503}
    breakers = json.loads(clients[0].request(b"GET /status/breakers HTTP/1.1\r\nHost: a\r\n\r\n").body)
    assert {breakers[name]["state"] for name in names} == {"closed"}


def sent(clients: Sequence[RawClient], request: bytes) -> Sequence[RawClient]:
    for client in clients:
        client.send(request)
    return clients
