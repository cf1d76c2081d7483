"""The Compose files: valid, understood alike by both versions of Compose, and as strict as production needs."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import load
from tests.deploy.compose_rules import violations
from tests.deploy.tools import COMPOSE_FILES, checkout, run, tool
from tests.support.processes import ROOT


def document(name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return parsed


def services(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = document(name)["services"]
    return found


PRODUCTION = [
    (name, service)
    for file in ("docker-compose.prod.yml", "docker-compose.scale.yml")
    for name, service in services(file).items()
    if "image" in service
]


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_means_the_same_to_both_versions(name: str) -> None:
    assert violations(document(name), (ROOT / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ("name: x", "top level"),
        ("services: {a: {image: b, environment: {X: true}}}", "must be quoted"),
        ("services: {a: {image: b, environment: {X: '${Y:+z}'}}}", "refused by 1.29"),
        ("services: {a: {image: b, environment: {X: '${Y:-${Z:-1}}'}}}", "nested defaults"),
        ("services: {a: {image: b, depends_on: {c: {condition: service_started, required: false}}}}", "only condition"),
        ("services: {a: {image: b, healthcheck: {test: [CMD, x], start_interval: 1s}}}", "start_interval"),
        ("services: {a: {image: b, deploy: {resources: {limits: {pids: 5}}}}}", "limits.pids"),
        ("services: {a: {image: b, pids_limit: 5, deploy: {resources: {limits: {cpus: '1'}}}}}", "refused by v2"),
        ("services: {a: {image: b, pull_policy: missing}}", "if_not_present"),
        ("services: {a: {build: .}}", "needs image"),
        ("services: {a: {build: ., image: c}, b: {build: ., image: c}}", "built by 2 services"),
        ("services: {a: {image: b, ports: [{target: 1, host_ip: 127.0.0.1}]}}", "strings"),
        ("services: {a: {image: b, env_file: [{path: x, required: false}]}}", "env_file"),
    ],
)
def test_each_rule_catches_its_mistake(broken: str, complaint: str) -> None:
    found = violations(yaml.safe_load(broken), broken)
    assert any(complaint in each for each in found), found


@pytest.mark.parametrize(
    "files", ["docker-compose.yml", "docker-compose.prod.yml", "docker-compose.prod.yml:docker-compose.scale.yml"]
)
def test_compose_accepts_it(files: str, tmp_path: Path) -> None:
    command = compose_command(tmp_path)
    answer = run([*command, "config", "-q"], checkout(tmp_path / "clone"), environment(tmp_path, files))
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(
    ("file", "text", "instead"),
    [
        ("docker-compose.yml", "    ports:", "    prots:"),
        ("docker-compose.prod.yml", "    read_only: true\n    tmpfs", "    read_only: [true]\n    tmpfs"),
        ("docker-compose.prod.yml", "condition: service_healthy", "condition: service_well"),
    ],
)
def test_compose_refuses_it_when_broken(file: str, text: str, instead: str, tmp_path: Path) -> None:
    command = compose_command(tmp_path)
    clone = checkout(tmp_path / "clone")
    broken = (clone / file).read_text(encoding="utf-8").replace(text, instead, 1)
    assert instead in broken
    (clone / file).write_text(broken, encoding="utf-8")
    answer = run([*command, "config", "-q"], clone, environment(tmp_path, file))
    assert answer.returncode != 0


def test_production_needs_a_password(tmp_path: Path) -> None:
    command = compose_command(tmp_path)
    variables = environment(tmp_path, "docker-compose.prod.yml")
    del variables["REDIS_PASSWORD"]
    answer = run([*command, "config", "-q"], checkout(tmp_path / "clone"), variables)
    assert answer.returncode != 0
    assert "REDIS_PASSWORD" in answer.stdout


def compose_command(tmp_path: Path) -> list[str]:
    """docker-compose, or the v2 plugin where only that is installed."""
    if shutil.which("docker-compose") is None and shutil.which("docker") is not None:
        plugin = run(["docker", "compose", "version"], tmp_path)
        if plugin.returncode == 0:
            return ["docker", "compose"]
    return [tool("docker-compose")]


def environment(tmp_path: Path, files: str) -> dict[str, str]:
    path = tool("env").rpartition("/")[0]
    found = shutil.which("docker-compose")
    return {
        "PATH": f"{found.rpartition('/')[0]}:{path}" if found else f"/usr/local/bin:{path}",
        "HOME": str(tmp_path),
        "COMPOSE_FILE": files,
        "REDIS_PASSWORD": "secret",
    }


@pytest.mark.parametrize(("name", "service"), PRODUCTION, ids=[name for name, _ in PRODUCTION])
def test_production_service_has_only_what_it_needs(name: str, service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["restart"] == "unless-stopped"
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory"} <= set(limits)
    assert isinstance(limits["cpus"], str)
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    assert not service.get("privileged", False)
    tag = service["image"].rpartition(":")[2]
    assert "build" in service or re.match(r"\d+\.\d+", tag), f"{name} is not pinned"


def options(service: dict[str, Any]) -> dict[str, str]:
    command = service["command"]
    return {word[2:]: command[index + 1] for index, word in enumerate(command) if word.startswith("--")}


def test_redis_keeps_what_must_last() -> None:
    redis = services("docker-compose.prod.yml")["redis"]
    given = options(redis)
    # Any policy that may evict keys without an expiry would lose state that has none for a reason.
    assert given["maxmemory-policy"] in {"volatile-ttl", "volatile-lru", "volatile-lfu", "noeviction"}
    assert given["appendonly"] == "yes"
    megabytes = int(given["maxmemory"].removesuffix("mb"))
    assert megabytes * 2 <= int(redis["deploy"]["resources"]["limits"]["memory"].removesuffix("M"))
    assert "redis-data:/data" in redis["volumes"]
    assert "ports" not in redis


def test_development_has_a_password_that_everybody_knows() -> None:
    """With none, `redis-cli` prints a failed AUTH for each command, and Redis answers nobody but itself."""
    file = services("docker-compose.yml")
    password = file["redis"]["environment"]["REDISCLI_AUTH"]
    assert password == "${REDIS_PASSWORD:-development}"
    assert file["proxy-service"]["environment"]["REDIS_PASSWORD"] == password
    assert services("docker-compose.monitoring.yml")["redis-exporter"]["environment"]["REDIS_PASSWORD"] == password
    assert "ports" not in file["redis"]


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.prod.yml"])
def test_a_second_gateway_without_the_scale_file_fails_on_its_name(name: str) -> None:
    """Before it is made: with the same fixed port it could only stay behind, dead."""
    assert services(name)["proxy-service"]["container_name"].endswith("-proxy-service")
    assert services("docker-compose.scale.yml")["proxy-service"]["container_name"] == ""


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.prod.yml"])
def test_log_files_and_the_journal_have_volumes(name: str) -> None:
    for volume, directory in (("logs", "/app/logs"), ("journal", "/app/var")):
        assert f"{volume}:{directory}" in services(name)["proxy-service"]["volumes"]
        assert volume in document(name)["volumes"]
        assert re.search(f"install -d -m 1777 .*{directory}", (ROOT / "Dockerfile").read_text(encoding="utf-8"))


def test_a_clean_clone_mounts_nothing_that_it_lacks() -> None:
    binds = [each for each in services("docker-compose.yml")["proxy-service"]["volumes"] if isinstance(each, dict)]
    tracked = {".", "./config"}
    assert {each["source"] for each in binds} == tracked


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.prod.yml"])
def test_redis_cli_needs_no_password_argument(name: str) -> None:
    redis = services(name)["redis"]
    assert redis["environment"]["REDISCLI_AUTH"].startswith("${REDIS_PASSWORD")
    assert "redis-cli ping" in redis["healthcheck"]["test"][1]
    assert "REDIS_PASSWORD" not in " ".join(redis["command"]), "the process list would show it"


def test_the_grace_period_is_longer_than_the_drain(tmp_path: Path) -> None:
    server = production_config(tmp_path).server
    grace = services("docker-compose.prod.yml")["proxy-service"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > server.drain_delay + server.drain_timeout


def test_several_gateways_publish_no_fixed_port() -> None:
    assert "ports" not in services("docker-compose.scale.yml")["proxy-service"]
    assert services("docker-compose.prod.yml")["proxy-service"]["ports"] == ["${DOCKER_PUBLISH:-5000}:5000"]
    assert services("docker-compose.scale.yml")["proxy-service"]["deploy"]["replicas"] == 3


def test_the_template_for_production_is_a_configuration_without_secrets(tmp_path: Path) -> None:
    text = (ROOT / ".env.prod").read_text(encoding="utf-8")
    assert re.findall(r"^REDIS_PASSWORD=(.*)$", text, re.MULTILINE) == [""]
    config = production_config(tmp_path)
    assert config.environment == "production"
    assert config.redis is not None
    assert config.redis.mode == "single"
    assert list(config.upstreams) == ["default"]


def production_config(tmp_path: Path) -> Any:
    path = tmp_path / "env"
    text = (ROOT / ".env.prod").read_text(encoding="utf-8")
    path.write_text(text.replace("REDIS_PASSWORD=", "REDIS_PASSWORD=secret"), encoding="utf-8")
    return load({}, path)
