"""A clean clone with `deploy.sh` in it, and a docker that starts nothing."""

import copy
import shutil
from pathlib import Path

from tests.deploy.fake_docker import FakeDocker
from tests.deploy.tools import checkout, run, tool
from tests.support.ports import free_port

LATEST = "resilient-api-gateway:latest"
PREVIOUS = "resilient-api-gateway:previous"
CANDIDATE = "resilient-api-gateway:candidate"


class Deployment:
    """A clean clone and a fake docker. Ports are free ones, so that nothing on this machine is in the way; nobody else
    gets them in this run."""

    def __init__(self, directory: Path) -> None:
        self.clone = checkout(directory / "clone")
        self.docker = FakeDocker(directory / "docker")
        self.port = free_port()
        self.single = ""
        self.variables = {
            "DOCKER_PUBLISH": str(self.port),
            "DOCKER_STUB_PUBLISH": str(free_port()),
            "READY_SECONDS": "1",
            "NGINX_SECONDS": "0",
        }

    def copied(self, directory: Path) -> "Deployment":
        """The same at another place, as it stands now. What becomes of the one changes nothing of the other."""
        other = copy.copy(self)
        other.clone = shutil.copytree(self.clone, directory / "clone")
        other.docker = copy.copy(self.docker)
        other.docker.directory = shutil.copytree(self.docker.directory, directory / "docker")
        other.variables = dict(self.variables)
        return other

    def __call__(self, *arguments: str, **more: str) -> tuple[int, str]:
        answer = run(
            [tool("bash"), "deploy.sh", *arguments], self.clone, self.docker.environment(**{**self.variables, **more})
        )
        return answer.returncode, answer.stdout

    def env(self) -> str:
        return (self.clone / ".env").read_text(encoding="utf-8")

    def set_env(self, text: str) -> None:
        (self.clone / ".env").write_text(text, encoding="utf-8")
