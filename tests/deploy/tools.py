"""The programs that the checks run, and the files that they run on."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.processes import ROOT

COMPOSE_FILES = ("docker-compose.yml", "docker-compose.prod.yml", "docker-compose.scale.yml")
SHELL_SCRIPTS = (
    "deploy.sh",
    "test-endpoints.sh",
    "scripts/backup.sh",
    "scripts/restore.sh",
    "scripts/compose.sh",
    "scripts/gateways.sh",
    "scripts/held_port.sh",
    ".ci/run",
    *(f"examples/shop/chaos/scripts/{name}.sh" for name in ("set", "payment_errors", "payment_slow", "inventory_lock")),
)


def tool(name: str) -> str:
    """The program's path. Skips where it is not installed; fails instead under CI=true, which allows no skipping."""
    found = shutil.which(name)
    if found is not None:
        return found
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{name} is not installed, and CI=true allows no skipping")
    pytest.skip(f"{name} is not installed")


def run(
    command: Sequence[str | Path], cwd: Path, env: dict[str, str] | None = None, timeout: float = 150.0
) -> subprocess.CompletedProcess[str]:
    """Run to the end; output and errors are one text in `stdout`."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )


def checkout(directory: Path) -> Path:
    """What `deploy.sh` needs of a clean clone, copied to `directory`."""
    for name in (
        *COMPOSE_FILES,
        ".dockerignore",
        ".env.example",
        ".env.prod",
        "Dockerfile",
        "config",
        "deploy",
        "deploy.sh",
        "nginx.conf",
        "scripts/backup.sh",
        "scripts/compose.sh",
        "scripts/gateways.sh",
        "scripts/held_port.sh",
        "scripts/restore.sh",
        "test-endpoints.sh",
    ):
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target)
        else:
            shutil.copy2(ROOT / name, target)
    return directory
