"""`docs/operations.md` names only what there is: commands, files, settings, unit file."""

import configparser
import re

import pytest
import yaml

from gateway.config.building.variables import ALIASES, VARIABLES
from tests.support.processes import ROOT

TEXT = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
SCRIPT = (ROOT / "deploy.sh").read_text(encoding="utf-8")
COMMANDS = set(re.findall(r"^  (\w+)(?: [\[A-Z].*?)?  +\S", SCRIPT, re.MULTILINE))
FILES = r"(?<!\.)(?:deploy|scripts|docs)/[\w-]+\.\w+|docker-compose\.\w+\.yml|\.env\.\w+|nginx\.conf"
OF_SCRIPTS = {"READY_SECONDS", "HOLD_SECONDS", "KEEP"}
OF_COMMANDS = {"GATEWAY_URL"}


def test_commands_of_deploy_sh() -> None:
    used = set(re.findall(r"bash deploy\.sh ([a-z]+)", TEXT))
    assert {"prod", "dev", "status", "logs", "stop", "backup", "restore", "update", "rollback"} <= COMMANDS
    assert used <= COMMANDS


@pytest.mark.parametrize("path", sorted(set(re.findall(FILES, TEXT))))
def test_files(path: str) -> None:
    assert path == ".env.rejected" or (ROOT / path).exists()


TABLE = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in TEXT.partition("## Names of the runbooks")[2].splitlines()
    if line.startswith("| ") and not line.startswith(("| runbook", "| ---"))
]
"""The runbook, its name, and ours."""


def test_the_table_of_the_runbooks_names() -> None:
    assert {row[0] for row in TABLE} == {
        "operations", "resilience", "resilience summary", "failure recovery", "platform"
    }  # fmt: skip
    theirs = " ".join(row[1] for row in TABLE)
    # Every toggle of the platform runbook, and what the parser knows as a name of theirs.
    for name in ALIASES:
        assert f"`{name}`" in theirs, name
    queries = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "monitoring/rules").glob("*.yml"))
    rules = set(re.findall(r"(?:record|alert): (\S+)", queries))
    for rule in set(
        re.findall(r"`((?:job|route|upstream|policy|instance):[a-z0-9_:]+)", " ".join(r[2] for r in TABLE))
    ):
        assert rule in rules, rule
    for alert in re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", next(r[1] for r in TABLE if "`ServiceDown`" in r[1])):
        assert alert in rules, alert


# What the platform runbook names, in its own words.
PLATFORM_TOGGLES = (
    *("TIMEOUT_THRESHOLD_MS", "CIRCUIT_BREAKER_TIMEOUT", "MAX_RETRIES"),
    *("TOOL_TIMEOUT_MS", "TOOL_RETRY_ATTEMPTS", "CIRCUIT_BREAKER_THRESHOLD"),
    *("VALIDATION_STRICT_MODE", "VALIDATION_TIMEOUT_MS", "LOG_VALIDATION_ERRORS"),
    *("MAX_WEBSOCKET_CONNECTIONS", "BACKPRESSURE_THRESHOLD", "WEBSOCKET_TIMEOUT_MS"),
)
PLATFORM_METRICS = (
    *("service_latency_histogram", "tool_service_health_check", "validation_errors_total"),
    *("websocket_connections_active", "websocket_backpressure_drops"),
)
PLATFORM_PATTERNS = ("timeout", "validation failed", "connections", "active connections", "backpressure")
PLATFORM_DASHBOARDS = ("Service Latency", "Tool Service Health", "Validation Error", "WebSocket")
PLATFORM_COMMANDS = (
    *("get pods", "top pods", "logs -f", "scale", "rollout restart", "describe pod", "get endpoints", "get ingress"),
    *("get networkpolicies", "get pv"),
)
PLATFORM = [row for row in TABLE if row[0] == "platform"]


@pytest.mark.parametrize("name", PLATFORM_TOGGLES)
def test_each_toggle_of_the_platform_runbook_works(name: str) -> None:
    (ours,) = [row[2] for row in PLATFORM if f"`{name}`" in row[1]]
    assert name in VARIABLES or name in ALIASES
    assert "accepted" in ours or "the same" in ours
    assert name in VARIABLES or f"`{ALIASES[name].target}`" in ours


@pytest.mark.parametrize("name", PLATFORM_METRICS)
def test_each_metric_of_the_platform_runbook_is_there(name: str) -> None:
    (ours,) = [row[2] for row in PLATFORM if f"`{name}`" in row[1]]
    assert not ours.startswith("not here yet")
    rules = (ROOT / "monitoring/rules/recording.yml").read_text(encoding="utf-8")
    exposed = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8").partition("## Metrics")[2]
    assert f"record: {name}\n" in rules or f"`{name}" in exposed.partition("## Queries")[0]


def test_everything_else_that_the_platform_runbook_names_is_in_the_table() -> None:
    theirs = " ".join(row[1] for row in PLATFORM)
    for words in (*PLATFORM_PATTERNS, *PLATFORM_DASHBOARDS, *PLATFORM_COMMANDS):
        assert words in theirs, words
    boards = [path.read_text(encoding="utf-8") for path in (ROOT / "monitoring/grafana/dashboards").glob("*.json")]
    for board in set(re.findall(r'"(Gateway: [^"]+)"', " ".join(row[2] for row in PLATFORM))):
        assert any(f'"title": "{board}"' in text for text in boards), board


def test_what_kubectl_is_to_act_on_is_in_k8s() -> None:
    base = ROOT / "k8s/base"
    objects = [each for path in base.glob("*.yaml") for each in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    found = {(each["kind"], each["metadata"]["name"]) for each in objects if "metadata" in each}
    assert {("Namespace", "api-gateway"), ("Deployment", "proxy-service"), ("Service", "proxy-service")} <= found
    assert {("HorizontalPodAutoscaler", "proxy-service")} <= found
    assert any(kind == "NetworkPolicy" for kind, _ in found)
    assert "namespace: api-gateway" in (base / "kustomization.yaml").read_text(encoding="utf-8")
    commands = re.findall(r"^kubectl.*$", TEXT, re.MULTILINE)
    assert commands
    assert all("-n api-gateway" in command for command in commands)
    (port,) = set(re.findall(r"kubectl.*exec.*http://localhost:(\d+)", TEXT))
    assert f"ADMIN_PORT={port}\n" in (base / "kustomization.yaml").read_text(encoding="utf-8")


def test_settings() -> None:
    named_here = TEXT.partition("## Names of the runbooks")[0] + " ".join(row[2] for row in TABLE)
    assigned = set(re.findall(r"\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?==|`)", named_here))
    known = {*VARIABLES, *ALIASES, *OF_SCRIPTS, *OF_COMMANDS}
    compose = "".join(
        (ROOT / name).read_text(encoding="utf-8") for name in ("docker-compose.prod.yml", "docker-compose.scale.yml")
    )
    for name in assigned - known:
        if name.startswith("COMPOSE_"):
            continue
        assert name.startswith("DOCKER_") or name == "PYTHON_IMAGE", name
        assert name in compose or name in (ROOT / "Dockerfile").read_text(encoding="utf-8"), name


def test_the_unit_starts_and_stops_with_commands_there_are() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.read(ROOT / "deploy/api-gateway.service")
    for key in ("ExecStart", "ExecReload", "ExecStop"):
        program, script, command, *options = unit["Service"][key].split()
        assert (program, script) == ("/bin/bash", "deploy.sh")
        assert command in COMMANDS
        assert all(f"    {option}) " in SCRIPT.replace("      --", "    --") for option in options)
    assert unit["Service"]["WorkingDirectory"] == "/opt/resilient-api-gateway"


def test_archives_and_tokens_are_for_their_owner_only() -> None:
    archives = [line for line in TEXT.splitlines() if "tar -c" in line]
    assert archives
    assert all("(umask 077; tar -c" in line for line in archives)
    assert not re.search(r"(?:-H|--header) .*\$\{?token", TEXT)
