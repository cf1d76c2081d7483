"""`gateway top` in a real terminal: through a trip and its recovery, and what it says where it cannot run."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.processes import clean_environment
from tests.support.stub_process import StubProcess
from tests.support.waiting import PATIENCE

TOP = [sys.executable, "-m", "gateway", "top"]
_DRIVES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """The program behind a pseudo-terminal of 24 rows, and what it has written."""

    def __init__(self, master: int, process: "subprocess.Popen[bytes]") -> None:
        self.master = master
        self.process = process
        self.written = b""

    def wait(self, text: str) -> None:
        """Until this was written since the last call."""
        deadline = time.monotonic() + PATIENCE
        while text.encode() not in _DRIVES.sub(b"", self.written):
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.written.decode(errors='replace')[-4000:]}"
            readable, _, _ = select.select([self.master], [], [], 0.2)
            if readable:
                self.written += os.read(self.master, 65_536)
        self.written = b""

    def press(self, key: str) -> None:
        os.write(self.master, key.encode())


@contextmanager
def terminal(*arguments: str, **env: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 140, 0, 0))
    environment = clean_environment(**{"TERM": "xterm-256color", **env})
    with subprocess.Popen(
        [*TOP, *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    ) as process:
        os.close(slave)
        try:
            yield Terminal(master, process)
        finally:
            process.kill()
            os.close(master)


def test_it_shows_a_trip_and_the_recovery_and_a_gateway_that_comes_back(
    start_gateway: StartGateway, stub: StubProcess
) -> None:
    # The circuit is open for several pictures of the screen, on a busy machine too.
    env = {"UPSTREAM_URL": stub.url, "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": "5", "RETRY_MAX_ATTEMPTS": "1"}
    gateway = start_gateway(env)
    with terminal(GATEWAY_URL=gateway.url) as screen:
        screen.wait("● default")
        for _ in range(6):
            gateway.get("/proxy/fail")
        screen.wait("■ default")
        screen.wait("The circuit of default is")
        screen.wait("upstream_status 500")
        while gateway.get("/api/resilience/circuit-breakers/default").json()["state"] != "Closed":
            gateway.get("/proxy/ok")
        # What is left is a share of failures within five minutes that is too small to count, or nothing.
        screen.wait("closed")
        gateway.kill()
        screen.wait("Trying again")
        start_gateway({**env, "PORT": str(gateway.port), "SERVICE_NAME": "again"})
        screen.wait("again 0.")
        screen.press("q")
        assert screen.process.wait(PATIENCE) == 0


def run(gateway: GatewayProcess, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*TOP, *arguments],
        env=clean_environment(GATEWAY_URL=gateway.url, **env),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_without_a_terminal_it_is_printed_once(start_gateway: StartGateway, stub: StubProcess) -> None:
    token = "correct-horse-battery-staple"
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "CONSOLE_AUTH": "token", "ADMIN_TOKEN": token})
    done = run(gateway, ADMIN_TOKEN=token)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("gateway 0.")
    assert any(line.split()[:2] == ["●", "default"] for line in lines)
    refused = run(gateway)
    assert refused.returncode == 1
    assert "401" in refused.stderr


def test_a_terminal_that_is_not_utf_8_gets_what_it_can_show(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway({"UPSTREAM_URL": stub.url})
    done = run(gateway, "--once", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "? default" in done.stdout


def test_without_rich_it_says_what_to_install(start_gateway: StartGateway, stub: StubProcess, tmp_path: Path) -> None:
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich/__init__.py").write_text("raise ModuleNotFoundError('No module named rich', name='rich')\n")
    done = run(start_gateway({"UPSTREAM_URL": stub.url}), PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == "gateway: top needs the package rich: pip install 'resilient-api-gateway[top]'\n"


def test_where_nobody_answers_it_ends(tmp_path: Path) -> None:
    with terminal(GATEWAY_URL="http://127.0.0.1:9") as screen:
        screen.wait("no answer from http://127.0.0.1:9")
        assert screen.process.wait(PATIENCE) == 3
