"""The stack for Docker Swarm, and how much memory the limits leave to workers wherever the gateway is deployed."""

import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import load
from tests.deploy.kustomize import build
from tests.support.processes import ROOT

STACK = ROOT / "deploy/docker-stack.yml"
FIRST, FURTHER = 512, 256
"""Mebibytes that the documentation gives to a gateway with one worker, and to each further worker."""


def services(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["services"]
    return found


def limits() -> dict[str, dict[str, Any]]:
    found = {
        path.name: services(path)["proxy-service"]["deploy"]["resources"]["limits"]
        for path in (STACK, ROOT / "docker-compose.prod.yml")
    }
    (deployment,) = [
        each
        for each in build(ROOT / "k8s")
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "proxy-service")
    ]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    kubernetes = container["resources"]["limits"]
    return {**found, "k8s": {"cpus": kubernetes["cpu"], "memory": kubernetes["memory"]}}


@pytest.mark.parametrize("where", ["docker-stack.yml", "docker-compose.prod.yml", "k8s"])
def test_there_is_memory_for_a_worker_on_each_cpu_and_for_a_reload(where: str) -> None:
    limit = limits()[where]
    workers = max(1, math.floor(float(limit["cpus"])))
    assert int(re.match(r"\d+", limit["memory"])[0]) >= FIRST + (workers - 1) * FURTHER  # type: ignore[index]


@pytest.mark.parametrize(
    "path", ["docker-compose.prod.yml", "docs/operations.md", "k8s/base/deployment.yaml", "deploy/docker-stack.yml"]
)
def test_the_same_memory_is_named_everywhere(path: str) -> None:
    assert re.search(rf"\b{FURTHER} ?Mi?B?\b", (ROOT / path).read_text(encoding="utf-8"))


def test_no_secret_is_in_the_description_of_a_service() -> None:
    """Whoever may `docker service inspect` sees environments and commands."""
    for name, service in services(STACK).items():
        text = yaml.safe_dump({key: value for key, value in service.items() if key != "secrets"})
        assert "${REDIS_PASSWORD" not in text.replace("$$", ""), name
        assert "${ADMIN_TOKEN" not in text, name
        assert service["secrets"], name


def test_a_gateway_has_the_time_that_it_needs_to_stop() -> None:
    gateway = services(STACK)["proxy-service"]
    server = load({}, ROOT / ".env.prod").server
    assert float(gateway["stop_grace_period"].removesuffix("s")) > server.drain_delay + server.drain_timeout
    (port,) = gateway["ports"]
    assert (port["target"], port["mode"]) == (server.port, "host")
    # With the port of the host there is room for one at a time.
    assert gateway["deploy"]["mode"] == "global"
    assert gateway["deploy"]["update_config"]["order"] == "stop-first"


def test_redis_is_that_of_production() -> None:
    ours, theirs = services(STACK)["redis"], services(ROOT / "docker-compose.prod.yml")["redis"]
    for option in ("--maxmemory", "--maxmemory-policy", "--appendonly", "--save"):
        mine, production = (each["command"][each["command"].index(option) + 1] for each in (ours, theirs))
        assert mine == production, option
    assert ours["image"] == theirs["image"]


def test_redis_reads_the_password_and_does_not_start_without(tmp_path: Path) -> None:
    script = services(STACK)["redis"]["command"][2]
    script = script.replace("$$", "$").replace("exec redis-server", "exec echo")
    settings, config = tmp_path / "settings", tmp_path / "redis.conf"
    script = script.replace("/run/secrets/settings", str(settings)).replace("/tmp/redis.conf", str(config))  # noqa: S108 - of the container

    def start(text: str) -> int:
        settings.write_text(text, encoding="utf-8")
        return subprocess.run(["sh", "-ec", script, "redis-server"], check=False, timeout=60).returncode

    assert start("REDIS_HOST=redis\nREDIS_PASSWORD=abc123\n") == 0
    assert config.read_text(encoding="utf-8") == 'requirepass "abc123"\n'
    config.unlink()
    assert start("REDIS_PASSWORD=\n") != 0


def stack_config(tmp_path: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which("docker") is None or subprocess.run(
        ["docker", "stack", "config", "--help"], capture_output=True, timeout=60, check=False
    ).returncode:  # fmt: skip
        pytest.skip("needs docker stack config (Docker 25)")
    (tmp_path / "deploy").mkdir()
    shutil.copy(STACK, tmp_path / "deploy")
    (tmp_path / ".env").write_text("REDIS_PASSWORD=a\n", encoding="utf-8")
    environment = {"PATH": f"{Path(shutil.which('docker') or '').parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    return subprocess.run(
        ["docker", "stack", "config", "-c", "deploy/docker-stack.yml"],
        cwd=tmp_path, env=environment | variables, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_swarm_accepts_it(tmp_path: Path) -> None:
    answer = stack_config(tmp_path, DOCKER_IMAGE="registry.example/gateway", SETTINGS="0123456789ab")
    assert answer.returncode == 0, answer.stderr
    stack = yaml.safe_load(answer.stdout)
    assert stack["services"]["proxy-service"]["image"] == "registry.example/gateway:latest"
    assert stack["secrets"]["settings"] == {
        "name": "api-gateway-settings-0123456789ab",
        "file": str(tmp_path / ".env"),
    }
    assert stack["services"]["proxy-service"]["secrets"][0]["mode"] == 0o400


def test_swarm_refuses_it_without_the_name_of_the_settings(tmp_path: Path) -> None:
    answer = stack_config(tmp_path, DOCKER_IMAGE="registry.example/gateway")
    assert answer.returncode != 0
    assert "SETTINGS" in answer.stderr
