"""`docs/operations.md` names only what there is: commands, files, settings, unit file."""

import configparser
import re

import pytest

from gateway.config import near_misses
from gateway.config.variables import ALIASES, VARIABLES
from tests.support.processes import ROOT

TEXT = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
SCRIPT = (ROOT / "deploy.sh").read_text(encoding="utf-8")
COMMANDS = set(re.findall(r"^  (\w+)(?: [\[A-Z].*?)?  +\S", SCRIPT, re.MULTILINE))
FILES = r"(?<!\.)(?:deploy|scripts|docs)/[\w-]+\.\w+|docker-compose\.\w+\.yml|\.env\.\w+|nginx\.conf"
OF_SCRIPTS = {"READY_SECONDS", "KEEP"}
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
    for name in (*ALIASES, *near_misses.ABSENT, *near_misses.TOGGLES):
        assert f"`{name}`" in theirs, name
    queries = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "monitoring/rules").glob("*.yml"))
    rules = set(re.findall(r"(?:record|alert): (\S+)", queries))
    for rule in set(
        re.findall(r"`((?:job|route|upstream|policy|instance):[a-z0-9_:]+)", " ".join(r[2] for r in TABLE))
    ):
        assert rule in rules, rule
    for alert in re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", next(r[1] for r in TABLE if "`ServiceDown`" in r[1])):
        assert alert in rules, alert


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
