"""One production deployment on a network and ports of its own, for all tests; removed with its data afterwards."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.deploy.tools import checkout, run
from tests.support.ports import free_port
from tests.support.processes import ROOT

PROJECT = "gateway-deploy-test"


class Stack:
    """A clean clone and its Compose project. `COMPOSE` in the environment picks the Compose, as for deploy.sh."""

    def __init__(self, clone: Path) -> None:
        self.clone = checkout(clone)
        for name in ("gateway", "upstream_stub"):
            shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "requirements.lock"):
            shutil.copy2(ROOT / name, clone / name)
        self.port = free_port()
        self.variables = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": PROJECT,
            "DOCKER_IMAGE": PROJECT,
            "DOCKER_PUBLISH": str(self.port),
            "DOCKER_SUBNET": "172.31.251.0/24",
            # What does not come up ends sooner; this is for a machine that is busy with other things.
            "READY_SECONDS": "240",
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def deploy(self, *arguments: str, **more: str) -> tuple[int, str]:
        answer = run(["bash", "deploy.sh", *arguments], self.clone, {**self.variables, **more}, timeout=900)
        return answer.returncode, answer.stdout

    def compose(self, *arguments: str, **more: str) -> str:
        """Compose's output; fails when it does."""
        command = self.variables.get("COMPOSE") or ("docker compose" if _plugin() else "docker-compose")
        answer = run([*command.split(), *arguments], self.clone, {**self.variables, **more}, timeout=300)
        assert answer.returncode == 0, answer.stdout
        return answer.stdout

    def ids(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).split()

    def inside(self, service: str, *command: str) -> tuple[int, str]:
        """Run in the first container of a service."""
        answer = run(["docker", "exec", self.ids(service)[0], *command], self.clone)
        return answer.returncode, answer.stdout

    def env(self) -> str:
        return (self.clone / ".env").read_text(encoding="utf-8")

    def set_env(self, values: Mapping[str, str]) -> None:
        """Set settings; each name stands once in the file, as the gateway wants it."""
        others = [line for line in self.env().splitlines() if line.partition("=")[0] not in values]
        lines = [*others, *(f"{name}={value}" for name, value in values.items())]
        (self.clone / ".env").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _plugin() -> bool:
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def docker() -> None:
    """Skips where there is no Docker: these tests are worth nothing without it."""
    try:
        answer = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("the deployment tests need Docker, and there is no docker command here")
    if answer.returncode:
        pytest.skip(f"the deployment tests need Docker, and it does not answer: {answer.stderr.strip()[-200:]}")


@pytest.fixture(scope="session")
def stack(docker: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Deployed for production, from a clean clone."""
    stack = Stack(tmp_path_factory.mktemp("deploy") / "clone")
    try:
        status, output = stack.deploy("prod")
        assert status == 0, output
        yield stack
    finally:
        if (stack.clone / ".env").exists():
            stack.compose("down", "--volumes")
        tags = [f"{PROJECT}{kind}:{tag}" for kind in ("", "-stub") for tag in ("latest", "previous", "candidate")]
        subprocess.run(["docker", "rmi", *tags], capture_output=True, check=False)
