"""The ports that tests listen on."""

import socket
import subprocess
import sys
from pathlib import Path

from tests.support.ports import free_port, is_listening

ROOT = Path(__file__).resolve().parents[2]


def test_no_port_is_given_twice() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50


def test_a_port_is_not_given_to_another_process() -> None:
    ours = {free_port() for _ in range(50)}
    script = (
        "from tests.support import ports\n"
        f"print([port for port in {sorted(ours)} if ports._reserve(port)])\n"
        "print(ports.free_port())"
    )
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    taken, port = answer.stdout.splitlines()
    assert taken == "[]"
    assert int(port) not in ours


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert is_listening(port)
        assert free_port() != port
    assert not is_listening(port)
