"""Rules for the Dockerfile: what it builds from, what it leaves out, how it runs; and what never reaches a build."""

import fnmatch
import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.deploy.tools import run
from tests.support.processes import ROOT

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = [
    line for line in re.sub(r"\\\n\s*", " ", TEXT).splitlines() if line.strip() and not line.lstrip().startswith("#")
]
COMPILERS = {"gcc", "g++", "build-essential", "clang", "make", "python3-dev", "cargo", "rustc"}


def stages() -> dict[str, list[str]]:
    """The instructions of each stage, those of the stages it is built on first."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in LINES:
        if from_ := re.fullmatch(r"FROM (\S+)(?: AS (\S+))?", line):
            current = list(found.get(from_[1], []))
            found[from_[2] or "default"] = current
        elif not line.startswith("ARG"):
            current.append(line)
    return found


STAGES = stages()
RUN = ("production", "stub", "shop", "development")


def test_one_pinned_slim_base() -> None:
    assert re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", TEXT, re.MULTILINE) == [
        next(iter(re.findall(r"python:3\.\d+\.\d+-slim-\w+", TEXT)))
    ]
    known = {name for name in STAGES if name != "default"}
    assert {line.split()[1] for line in LINES if line.startswith("FROM")} <= {"${PYTHON_IMAGE}", *known}


def test_no_buildkit_is_needed() -> None:
    assert not re.search(r"^# *syntax=|RUN --|COPY --link|<<", TEXT, re.MULTILINE)


def test_wheels_come_from_the_hashed_lock() -> None:
    wheels = "\n".join(STAGES["wheels"])
    assert re.search(r"pip wheel --require-hashes .*-r requirements\.lock", wheels)
    installs = [step for line in LINES for step in line.split("&&") if re.search(r"\bpip .*\binstall\b", step)]
    assert installs
    assert all("--no-index" in step or "--require-hashes" in step for step in installs)


@pytest.mark.parametrize("name", RUN)
def test_runs_as_a_numeric_user(name: str) -> None:
    users = [line.split()[1] for line in STAGES[name] if line.startswith("USER")]
    assert users
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


@pytest.mark.parametrize("name", RUN)
def test_starts_and_is_checked_without_a_shell(name: str) -> None:
    command = [line.partition(" ")[2] for line in STAGES[name] if line.startswith("CMD")]
    assert len(command) == 1
    assert json.loads(command[0])
    check = next(line for line in STAGES[name] if line.startswith("HEALTHCHECK"))
    found = re.search(r"--interval=(\d+)s --timeout=(\d+)s .* CMD (\[.*\])$", check)
    assert found is not None
    assert int(found[1]) >= 30
    assert json.loads(found[3])[0] == "curl"


def test_the_command_of_the_runbook_is_there_in_development_too(tmp_path: Path) -> None:
    """In the other images it comes with the package."""
    steps = [step.strip() for line in STAGES["development"] for step in line.removeprefix("RUN").split("&&")]
    made = [step.replace("/usr/local/bin", str(tmp_path)) for step in steps if "/usr/local/bin/gateway" in step]
    answer = run(["sh", "-ec", "\n".join(made)], ROOT)
    assert answer.returncode == 0, answer.stdout
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    answer = run([tmp_path / "gateway", "explain", "--help"], ROOT, {**os.environ, "PATH": path})
    assert answer.returncode == 0, answer.stdout
    assert "usage: gateway explain" in answer.stdout


@pytest.mark.parametrize("name", ["production", "stub"])
def test_nothing_to_compile_with_and_nothing_to_test(name: str) -> None:
    installed = {word for line in STAGES[name] if "apt-get install" in line for word in line.split()}
    assert {"curl", "iputils-ping"} <= installed
    assert not installed & COMPILERS
    assert not any(line.startswith("COPY") and "--from=" not in line for line in STAGES[name])


def test_the_default_is_production() -> None:
    assert LINES[-1] == "FROM production"
    assert STAGES["default"] == STAGES["production"]


@pytest.mark.parametrize("path", [".env", ".env.rejected", ".git", ".deploy", "redis-backups", "dump.rdb", ".venv"])
def test_never_sent_to_a_build(path: str) -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line]
    kept = {line[1:] for line in patterns if line.startswith("!")}
    assert path not in kept
    assert any(fnmatch.fnmatch(path, line.rstrip("/")) for line in patterns if not line.startswith("#"))
