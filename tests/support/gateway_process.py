"""The gateway as a process of its own, configured by nothing but the variables it is given."""

import http.client
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import plain_http
from tests.support.plain_http import Answer
from tests.support.ports import free_port
from tests.support.processes import ChildProcess, clean_environment


class GatewayProcess(ChildProcess):
    """`python -m gateway run` on a free port, in an empty directory: no `.env` is found. Ready when constructed.

    `PORT` in `env` overrides the free port. `ready=False` returns as soon as it is started.
    """

    def __init__(self, env: Mapping[str, str], directory: Path, *, ready: bool = True) -> None:
        self.port = int(env.get("PORT", "0")) or free_port()
        environment = clean_environment(**{**env, "PORT": str(self.port)})
        super().__init__("gateway", [sys.executable, "-m", "gateway", "run"], env=environment, cwd=directory)
        if ready:
            self.wait_until_ready()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Wait for 200 from `/livez`."""
        self.wait_until(lambda: self._status("/livez") == 200, "answering /livez", timeout)

    def request(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        return plain_http.request(self.port, target, method=method, body=body, headers=headers)

    def get(self, target: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("GET", target, headers=headers)

    def log_records(self) -> list[dict[str, Any]]:
        """The output lines that are JSON objects, in order."""
        records = []
        for line in list(self.lines):
            if line.startswith("{"):
                try:
                    records.append(json.loads(line))
                except ValueError:
                    continue
        return records

    def _status(self, target: str) -> int | None:
        try:
            return self.get(target).status
        except (OSError, http.client.HTTPException):
            return None
