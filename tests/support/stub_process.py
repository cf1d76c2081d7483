"""The stub upstream as a process of its own."""

import sys
from pathlib import Path
from typing import Any

from tests.support import plain_http
from tests.support.processes import ChildProcess, clean_environment


class StubProcess(ChildProcess):
    """`python -m upstream_stub` on a free port; ready when the constructor returns."""

    def __init__(self, directory: Path, port: int = 0) -> None:
        environment = clean_environment(PORT=str(port))
        super().__init__("stub", [sys.executable, "-m", "upstream_stub"], env=environment, cwd=directory, fork=True)
        self.port = int(self.wait_for_line("upstream stub on http://").rpartition(":")[2])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stats(self) -> dict[str, Any]:
        """What `/stats` says: total, in_flight, max_in_flight, connections, requests and max_in_flight_by_path."""
        return self._ask("GET")

    def requests(self, path: str) -> int:
        """How many requests for this path (without query) arrived."""
        count: int = self.stats()["requests"].get(path, 0)
        return count

    def reset_stats(self) -> None:
        self._ask("DELETE")

    def _ask(self, method: str) -> dict[str, Any]:
        answer: dict[str, Any] = plain_http.request(self.port, "/stats", method=method).json()
        return answer
