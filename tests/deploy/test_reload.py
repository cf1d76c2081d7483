"""What `deploy.sh` and a gateway say to each other over a reload in place: the gateway is real, Docker is not."""

import sys
from pathlib import Path

from tests.deploy.tools import run, tool
from tests.deploy.traffic import Traffic
from tests.support.ports import free_port
from tests.support.processes import ROOT, ChildProcess, clean_environment
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

# `docker`, for the one gateway that runs here: the container's port 5000 is its port, and process 1 its supervisor.
SHIM = """#!/usr/bin/env bash
set -euo pipefail
[[ $1 == exec ]]
shift 2
if [[ $* == "sh -c kill -HUP 1" ]]; then exec kill -HUP "$GATEWAY_PID"; fi
exec "${@//127.0.0.1:5000/127.0.0.1:$GATEWAY_PORT}"
"""

RELOAD = 'set -euo pipefail; . "$1/scripts/compose.sh"; . "$1/scripts/gateways.sh"; reload gateway'


def test_a_real_gateway_says_what_came_of_the_reload(stub: StubProcess, tmp_path: Path) -> None:
    tool("curl")
    port, settings = free_port(), tmp_path / ".env"
    (tmp_path / "config").mkdir()
    settings.write_text("MAX_INFLIGHT=100\n", encoding="utf-8")
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin/docker"
    shim.write_text(SHIM, encoding="utf-8")
    shim.chmod(0o755)
    environment = clean_environment(
        PORT=str(port), UPSTREAM_URL=stub.url, WORKERS="2", RATE_LIMIT_ENABLED="false"
    )  # fmt: skip
    with ChildProcess("gateway", [sys.executable, "-m", "gateway", "run"], env=environment, cwd=tmp_path) as gateway:
        shell = {
            "PATH": f"{shim.parent}:{environment['PATH']}",
            "GATEWAY_PORT": str(port),
            "GATEWAY_PID": str(gateway.pid),
            "READY_SECONDS": "60",
        }

        def reload() -> tuple[int, str]:
            answer = run([tool("bash"), "-c", RELOAD, "bash", str(ROOT)], tmp_path, shell)
            return answer.returncode, answer.stdout

        readable = '. "$1/scripts/gateways.sh"; [[ -n $(last_reload gateway) ]]'
        eventually(
            lambda: run([tool("bash"), "-c", readable, "bash", str(ROOT)], tmp_path, shell).returncode == 0, "started"
        )
        settings.write_text("MAX_INFLIGHT=200\n", encoding="utf-8")
        with Traffic(port, "/proxy/echo") as traffic:
            assert reload() == (0, "==> reloaded in place\n")
        assert traffic.lost() == {}
        settings.write_text("MAX_INFLIGHT=none\n", encoding="utf-8")
        status, output = reload()
        assert status != 0
        assert "restarting the gateway: it has refused the reload; its log says why" in output
        gateway.wait_for_line("reload refused")
        assert gateway.returncode is None, "deploy.sh decides what comes next"
