"""What the service manager is told, and the sockets that it gives (sd_notify(3), sd_listen_fds(3)), without systemd."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.support import plain_http
from tests.support.ports import free_port
from tests.support.processes import ChildProcess, clean_environment, has_ended
from tests.support.raw_http import RawClient
from tests.support.stub_process import StubProcess
from tests.support.waiting import PATIENCE, eventually

# What the manager does between fork and exec: the socket becomes descriptor 3, and the variables name this process.
LAUNCH = """
import os, sys
fd = int(sys.argv[1])
os.dup2(fd, 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "gateway", "run"])
"""


class Manager:
    """Hears what is sent to `NOTIFY_SOCKET`."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "notify")
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        threading.Thread(target=self._listen, daemon=True).start()

    def count(self, word: str) -> int:
        return sum(word in message.splitlines() for message in list(self.heard))

    def close(self) -> None:
        self._socket.close()

    def _listen(self) -> None:
        while True:
            try:
                self.heard.append(self._socket.recv(65_536).decode())
            except OSError:
                return


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


def settings(stub: StubProcess, manager: Manager, port: int) -> dict[str, str]:
    return clean_environment(
        PORT=str(port), UPSTREAM_URL=stub.url, WORKERS="2", RATE_LIMIT_ENABLED="false",
        NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="500000",
    )  # fmt: skip


NAMES = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM, "unbound": socket.SOCK_STREAM}


@pytest.mark.parametrize(
    ("given", "count", "reason"),
    [
        ("tcp", "2", "LISTEN_FDS: descriptor 4 is no socket that can be used: "),
        ("udp", "1", "LISTEN_FDS: descriptor 3 is no socket for TCP"),
        ("unix", "1", "LISTEN_FDS: descriptor 3 is no socket for TCP"),
        ("unbound", "1", "LISTEN_FDS: descriptor 3 cannot listen: it has no port"),
        ("connected", "1", "LISTEN_FDS: descriptor 3 cannot listen: it is a connection"),
        ("file", "1", "LISTEN_FDS: descriptor 3 is no socket that can be used: "),
        ("tcp", "\u00b2", "LISTEN_FDS is no number of sockets: '\u00b2'"),
        ("tcp", "one", "LISTEN_FDS is no number of sockets: 'one'"),
    ],
)
def test_sockets_that_cannot_be_used_are_a_reason(
    given: str, count: str, reason: str, stub: StubProcess, manager: Manager, tmp_path: Path
) -> None:
    if given == "file":
        made: socket.socket | BinaryIO = (tmp_path / "file").open("wb")
    elif given == "unix":
        made = socket.socket(socket.AF_UNIX)
    elif given == "connected":
        made = socket.create_connection(("127.0.0.1", stub.port))
    else:
        made = socket.socket(socket.AF_INET, NAMES[given])
        if given == "tcp":
            made.bind(("127.0.0.1", 0))
    launch = LAUNCH.replace('LISTEN_FDS="1"', f"LISTEN_FDS={count!r}")
    with made:
        ended = subprocess.run(
            [sys.executable, "-c", launch, str(made.fileno())],
            env=settings(stub, manager, free_port()),
            cwd=tmp_path,
            pass_fds=(made.fileno(),),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith(reason)
    assert ended.stderr.count("\n") == 1


def test_the_manager_hears_of_readiness_reloads_life_and_the_end(
    stub: StubProcess, manager: Manager, tmp_path: Path
) -> None:
    environment = settings(stub, manager, port := free_port())
    with ChildProcess("gateway", [sys.executable, "-m", "gateway", "run"], env=environment, cwd=tmp_path) as gateway:
        eventually(lambda: manager.count("READY=1") == 1, "ready")
        assert plain_http.request(port, "/proxy/ok").status == 200
        eventually(lambda: manager.count("WATCHDOG=1") > 2, "signs of life")
        before = time.monotonic() * 1e6
        gateway.send_signal(signal.SIGHUP)
        eventually(lambda: manager.count("READY=1") == 2, "ready after a reload")
        (reloading,) = [message for message in manager.heard if "RELOADING=1" in message]
        (since,) = [line for line in reloading.splitlines() if line.startswith("MONOTONIC_USEC=")]
        assert before < int(since.partition("=")[2]) < time.monotonic() * 1e6
        (tmp_path / ".env").write_text("MAX_INFLIGHT=none\n")
        gateway.send_signal(signal.SIGHUP)
        eventually(lambda: manager.count("READY=1") == 3, "ready after a reload that was refused")
        assert manager.count("RELOADING=1") == 2
        assert any("STATUS=reload refused" in message for message in manager.heard)
        assert gateway.stop(60.0) == 0
        assert manager.count("STOPPING=1") == 1


def test_sockets_of_the_manager_are_served_over_reloads_and_upgrades(
    stub: StubProcess, manager: Manager, tmp_path: Path
) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        listening.set_inheritable(True)
        port = listening.getsockname()[1]
        # The port of the settings is another one: nobody listens there.
        environment = settings(stub, manager, free_port())
        wrapper = [sys.executable, "-c", LAUNCH, str(listening.fileno())]
        with ChildProcess("gateway", wrapper, env=environment, cwd=tmp_path, pass_fds=(listening.fileno(),)) as gateway:
            for number, order in ((1, None), (2, signal.SIGHUP), (3, signal.SIGUSR2)):
                if order is not None:
                    gateway.send_signal(order)
                eventually(lambda number=number: manager.count("READY=1") >= number, "ready")  # type: ignore[misc]
                for _ in range(10):
                    assert plain_http.request(port, "/proxy/ok").status == 200
            assert gateway.stop(60.0) == 0


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_who_connects_while_no_gateway_runs_is_answered_by_the_next_one(
    ending: signal.Signals, stub: StubProcess, manager: Manager, tmp_path: Path
) -> None:
    """The manager keeps its socket: a gateway that ends leaves it as it was."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        port = listening.getsockname()[1]
        environment = settings(stub, manager, free_port())
        wrapper = [sys.executable, "-c", LAUNCH, str(listening.fileno())]
        launch = partial(
            ChildProcess, "gateway", wrapper, env=environment, cwd=tmp_path, pass_fds=(listening.fileno(),)
        )
        with launch() as gateway:
            eventually(lambda: manager.count("READY=1") == 1, "ready")
            workers = gateway.children()
            gateway.send_signal(ending)
            gateway.wait()
            eventually(lambda: all(map(has_ended, workers)), "its workers have ended")
        with RawClient(port) as early:
            early.send(b"GET /proxy/ok HTTP/1.1\r\nHost: a\r\n\r\n")
            with launch() as gateway:
                assert early.read_response().status == 200
                assert plain_http.request(port, "/proxy/ok").status == 200
                assert gateway.stop(60.0) == 0
