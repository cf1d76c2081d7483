"""What `make shop` runs: it opens, starts again what was killed, and closes; what is wrong is said."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from shop.processes import PACKAGE

from tests.support import plain_http
from tests.support.ports import free_port, is_listening
from tests.support.processes import ChildProcess, clean_environment


def five_free_ports() -> int:
    """The first of them."""
    while True:
        first = free_port()
        if not any(is_listening(port) for port in range(first, first + 5)):
            return first


def run(first: int, data: Path) -> ChildProcess:
    environment = clean_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(PACKAGE.parent), environment["PYTHONPATH"]])
    command = [sys.executable, "-m", "shop", "--port", str(first), "--data", str(data)]
    return ChildProcess("make shop", command, env=environment)


def health(port: int) -> int | None:
    try:
        return plain_http.request(port, "/health").status
    except OSError:
        return None


def test_it_opens_starts_again_what_was_killed_and_closes(tmp_path: Path) -> None:
    first = five_free_ports()
    with run(first, tmp_path) as shop:
        victim = int(shop.wait_for_line("kill -9").rpartition(" ")[2])
        assert [health(port) for port in range(first, first + 5)] == [200] * 5
        os.kill(victim, signal.SIGKILL)
        shop.wait_for_line("orders was ended by SIGKILL; it starts again")
        shop.wait_until(lambda: health(first + 1) == 200, "orders is back")
        shop.send_signal(signal.SIGINT)
        assert shop.wait(120.0) == 0
    assert not any(is_listening(port) for port in range(first, first + 5))


def test_it_names_the_port_that_is_taken(tmp_path: Path) -> None:
    first = five_free_ports()
    with socket.create_server(("127.0.0.1", first + 2)), run(first, tmp_path) as shop:
        assert shop.wait() == 1
        assert f"payments cannot have port {first + 2}" in shop.output
    assert not is_listening(first)


def test_a_signal_for_make_reaches_the_shop() -> None:
    """A shell between make and the shop would end, and leave the shop running."""
    for target in ("shop", "drills"):
        printed = subprocess.run(
            ["make", "-n", "--no-print-directory", target],
            cwd=PACKAGE.parent.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        assert printed.stdout.splitlines()[-1].startswith("exec env PYTHONPATH=examples ")
