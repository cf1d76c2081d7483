"""The scripts beside the deployment: how they read `.env`, a restore, and the questions of `test-endpoints.sh`."""

import fcntl
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.deploy.deployment import Deployment
from tests.deploy.tools import run, tool
from tests.support.processes import ROOT


def test_a_secret_gets_a_line_of_its_own(deploy: Deployment) -> None:
    template = (deploy.clone / ".env.prod").read_text(encoding="utf-8")
    deploy.set_env(template.replace("ADMIN_TOKEN=\n", "").rstrip("\n"))
    assert deploy("prod")[0] == 0
    assert re.search(r"^DRAIN_TIMEOUT_SECONDS=30\nADMIN_TOKEN=[0-9a-f]{48}$", deploy.env(), re.MULTILINE)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NAME=5290 # behind nginx", "5290"),
        ("NAME=5290#1", "5290#1"),
        ("NAME='a # b' # c", "a # b"),
        ('NAME="a # b"', "a # b"),
        ("export NAME = 1\r", "1"),
        ("NAME=1\nNAME=2", "2"),
        ("OTHER=1", ""),
        ("# caf\xe9\nNAME=1 # caf\xe9", "1"),
        ("NAME=  caf\xe9 ", "caf\xe9"),
    ],
)
def test_values_are_those_that_compose_reads(line: str, value: str, tmp_path: Path) -> None:
    # Whatever its encoding: this one is no UTF-8 beyond ASCII.
    (tmp_path / ".env").write_text(line + "\n", encoding="latin-1", newline="")
    script = '. "$1" && setting NAME >value'
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    answer = run([tool("bash"), "-c", script, "bash", ROOT / "scripts/compose.sh"], tmp_path, env=environment)
    assert answer.returncode == 0, answer.stdout
    assert (tmp_path / "value").read_text(encoding="latin-1").strip() == value


def restore(deployment: Deployment, name: str) -> str:
    command = [tool("bash"), "clone/deploy.sh", "restore", name]
    answer = run(command, deployment.clone.parent, deployment.docker.environment())
    assert answer.returncode == 1
    return answer.stdout


def test_a_file_to_restore_is_one_of_the_caller_and_leaves_nothing_when_it_is_damaged(deployed: Deployment) -> None:
    (deployed.clone.parent / "here.rdb").write_bytes(b"REDIS0011")
    # The fake volume takes nothing in.
    assert "here.rdb did not arrive complete. Redis was not touched." in restore(deployed, "here.rdb")
    assert deployed.docker.calls()[-1].endswith("rm -f /data/restore.rdb")


def test_a_restore_waits_for_a_deployment_to_end(deployed: Deployment) -> None:
    tool("flock")
    (deployed.clone.parent / "here.rdb").write_bytes(b"REDIS0011")
    with (deployed.clone / ".deploy/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "Another deployment or restore is under way." in restore(deployed, "here.rdb")
    assert not any("restore.rdb" in call for call in deployed.docker.calls())


class Asked(BaseHTTPRequestHandler):
    """Answers 404 to everything and notes each POST, and whether it bore the token."""

    posts: list[tuple[str, bool]]

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.posts.append((self.path, self.headers["Authorization"] == "Bearer " + "t" * 32))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def asked() -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    posts: list[tuple[str, bool]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Noting", (Asked,), {"posts": posts}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", posts
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_endpoints_are_tested_without_changing_anything(asked: tuple[str, list[tuple[str, bool]]]) -> None:
    tool("curl")
    url, posts = asked
    environment = {"PATH": "/usr/bin:/bin", "ADMIN_TOKEN": "t" * 32, "STUB": "no"}
    answer = run([tool("bash"), "test-endpoints.sh", url], ROOT, environment)
    assert "POST with the token" in answer.stdout
    assert posts == [("/api/resilience/circuit-breakers/no-such-service/release", token) for token in (False, True)]


class Front(BaseHTTPRequestHandler):
    """nginx in front of a gateway whose circuit is open: 403 for the control plane, the gateway's refusal behind
    /proxy/. The first request there gets a 429."""

    limited: list[str]
    REFUSAL = b'{"type": "urn:problem:gateway:%s", "detail": "because", "reason": "%s", "retry_after": 1}\n'

    def do_GET(self) -> None:
        if self.path.startswith(("/metrics", "/status", "/api")):
            status, body = 403, b"<html>403 Forbidden</html>"
        elif self.path.startswith("/proxy") and not self.limited:
            self.limited.append(self.path)
            status, body = 429, self.REFUSAL % (b"rate_limited", b"rate_limited")
        elif self.path.startswith("/proxy"):
            status, body = 503, self.REFUSAL % (b"circuit_open", b"circuit_open")
        elif self.path.startswith("/no-such-route"):
            status, body = 404, self.REFUSAL % (b"not_found", b"not_found")
        else:
            status, body = 200, b'{"status": "healthy", "alive": 1, "ready": 1}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_the_endpoints_say_what_really_stops_them() -> None:
    tool("curl")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Its", (Front,), {"limited": []}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        answer = run([tool("bash"), "test-endpoints.sh", url], ROOT, {"PATH": "/usr/bin:/bin"})
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert "a proxy in front of the gateway refuses it (403)" in answer.stdout
    assert re.search(r"^FAIL +proxy +circuit_open: because", answer.stdout, re.MULTILINE)
    assert "not the stub" not in answer.stdout
    assert answer.stdout.endswith("\n4 passed, 1 failed\n")


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        (".env.rejected", True),
        (".env.live", True),
        ("redis-backup-1.rdb", True),
        ("backup-20260101-000000.tar.gz", True),
        ("redis-backups/settings-1.tar.gz", True),
        (".env.example", False),
        (".env.prod", False),
    ],
)
def test_what_holds_secrets_is_not_committed(name: str, ignored: bool, tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_bytes((ROOT / ".gitignore").read_bytes())
    assert run([tool("git"), "init", "--quiet"], tmp_path).returncode == 0
    assert run([tool("git"), "check-ignore", "--quiet", name], tmp_path).returncode == (0 if ignored else 1)
