"""The limit of open files (`ulimit -n`) and what it leaves of `MAX_CONNECTIONS`."""

import resource
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.processes import ChildProcess, clean_environment

SAYS = "client connections, as no more than"
HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


class LimitedGateway(GatewayProcess):
    """A gateway whose shell first sets the soft and the hard limit."""

    def __init__(self, soft: int, hard: int, directory: Path, **env: str) -> None:
        self.port = free_port()
        shell = f"ulimit -Sn {soft} && ulimit -Hn {hard} && exec {shlex.quote(sys.executable)} -m gateway run"
        environment = clean_environment(PORT=str(self.port), UPSTREAM_URL="http://127.0.0.1:1", **env)
        ChildProcess.__init__(self, "gateway", ["/bin/sh", "-c", shell], env=environment, cwd=directory)
        self.wait_until_ready()

    @property
    def soft_limit(self) -> int:
        (line,) = (
            line for line in Path(f"/proc/{self.pid}/limits").read_text().splitlines() if line.startswith("Max open")
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
    gateway = stack.enter_context(LimitedGateway(256, 4096, tmp_path, MAX_CONNECTIONS="1000"))
    gateway.wait_for_line("listening on")
    assert gateway.soft_limit == 4096
    assert SAYS not in gateway.output


def test_what_upstreams_cannot_need_is_left_to_clients(stack: ExitStack, tmp_path: Path) -> None:
    limits = {"MAX_CONNECTIONS": "4000", "UPSTREAM_MAX_CONNECTIONS": "30", "MAX_WEBSOCKET_CONNECTIONS": "10"}
    gateway = stack.enter_context(LimitedGateway(256, 1296, tmp_path, **limits))
    gateway.wait_for_line("listening on")
    assert f"at most 1000 {SAYS} 1296 files" in gateway.output


def test_a_hard_limit_lowers_the_maximum_and_says_so_once(stack: ExitStack, tmp_path: Path) -> None:
    gateway = stack.enter_context(LimitedGateway(64, 64, tmp_path))
    gateway.wait_for_line("listening on")
    (record,) = (record for record in gateway.log_records() if SAYS in record.get("message", ""))
    assert record["message"] == (
        "at most 16 client connections, as no more than 64 files may be open (ulimit -n); MAX_CONNECTIONS is 20000"
    )
    assert record["level"].upper() == "INFO"
    clients = [
        stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=5.0)) for _ in range(17)
    ]
    assert clients[16].recv(12) == b"HTTP/1.1 429"
    clients[0].sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    assert clients[0].recv(12) == b"HTTP/1.1 200"
