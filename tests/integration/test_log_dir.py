"""`LOG_DIR`, with a real gateway and the commands of the resilience runbook as they are written there."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import StartGateway
from tests.integration.conftest import Command
from tests.support.gateway_process import GatewayProcess
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

SETTINGS = {
    "RATE_LIMIT_ENABLED": "false",
    "RETRY_MAX_ATTEMPTS": "1",
    "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "4",
    "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": "60",
    "UPSTREAM_TIMEOUT": "2",
}


def shell(command: str, directory: Path) -> str:
    """The runbook says `aura-api-` where our files say `gateway-`."""
    done = subprocess.run(["bash", "-c", command], cwd=directory, capture_output=True, text=True, check=False)
    return done.stdout


def drive(gateway: GatewayProcess) -> None:
    """Three failures and a timeout trip the breaker, which refuses two more."""
    statuses = [gateway.get("/proxy/fail").status for _ in range(3)]
    statuses.append(gateway.get("/proxy/slow?seconds=10", headers={"X-Correlation-ID": "drill-4711"}).status)
    statuses += [gateway.get("/proxy/ok").status for _ in range(2)]
    assert statuses == [500, 500, 500, 504, 503, 503]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_the_commands_of_the_runbook(
    start_gateway: StartGateway, stub: StubProcess, tmp_path: Path, log_format: str
) -> None:
    env = {**SETTINGS, "UPSTREAM_URL": stub.url, "LOG_DIR": str(tmp_path / "logs"), "LOG_FORMAT": log_format}
    gateway = start_gateway(env)
    drive(gateway)
    assert gateway.stop() == 0

    def run(command: str) -> str:
        return shell(command, tmp_path)

    assert "Circuit breaker OPENED for upstream default" in run('grep "Circuit breaker" logs/gateway-*.log | tail -20')
    assert run('grep -c "ERROR" logs/gateway-$(date +%Y%m%d).log') == "6\n"
    timeouts = run('grep "category.*Timeout" logs/gateway-*.log').splitlines()
    assert [json.loads(line)["reason"] for line in timeouts] == ["upstream_timeout"]
    counted = run("grep ERROR logs/gateway-*.log | awk '{print $NF}' | sort | uniq -c | sort -rn")
    assert counted.split() == ["6", '"default"}']
    found = [json.loads(line) for line in run('grep "drill-4711" logs/gateway-*.log').splitlines()]
    assert [each.get("logger", "access") for each in found] == ["gateway.errors", "access"]
    assert len(run("cat logs/errors-$(date +%Y%m%d).log").splitlines()) == 6
    everything = [json.loads(line) for line in run("cat logs/gateway-*.log").splitlines()]
    assert sum("duration_ms" in each for each in everything) == 6, "every request, also where standard output is text"
    assert everything[-1]["message"] == "stopped", "a clean stop loses nothing"


def test_a_deleted_file_comes_back(start_gateway: StartGateway, stub: StubProcess, tmp_path: Path) -> None:
    gateway = start_gateway({**SETTINGS, "UPSTREAM_URL": stub.url, "LOG_DIR": str(tmp_path)})

    def found() -> list[Path]:
        return list(tmp_path.glob("gateway-*.log"))

    eventually(lambda: bool(found()), "there")
    found()[0].unlink()
    gateway.get("/proxy/ok")
    eventually(lambda: bool(found()) and "/proxy/ok" in found()[0].read_text(), "there again")


def test_check_says_whether_the_directory_can_be_written(tmp_path: Path, command: Command) -> None:
    assert command("check", LOG_DIR=str(tmp_path / "new" / "logs")).returncode == 0
    assert not (tmp_path / "new").exists(), "a check changes nothing"
    (tmp_path / "file").touch()
    for wrong in ("file", "file/logs", "/proc/logs"):
        done = command("check", LOG_DIR=wrong)
        assert done.returncode == 1
        assert done.stdout.startswith(
            f'environment LOG_DIR: "{wrong}"; allowed: the path of a directory that can be written'
        )
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o500)
        assert command("check", LOG_DIR="closed").returncode == 1
