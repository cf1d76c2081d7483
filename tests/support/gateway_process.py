"""The gateway as a process of its own, configured by nothing but the variables it is given."""

import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support import plain_http
from tests.support.plain_http import Answer
from tests.support.ports import free_port
from tests.support.processes import COVERAGE, ChildProcess, clean_environment
from tests.support.waiting import PATIENCE


class GatewayProcess(ChildProcess):
    """`python -m gateway run` on a free port, in an empty directory: no `.env` is found. Ready when constructed.

    `PORT` in `env` overrides the free port. `ready=False` returns as soon as it is started. A test that is about
    the start itself wants it executed, and not forked.
    """

    def __init__(self, env: Mapping[str, str], directory: Path, *, ready: bool = True, fork: bool = True) -> None:
        self.port = int(env.get("PORT", "0")) or free_port()
        self.directory = directory
        environment = clean_environment(**{**env, "PORT": str(self.port)})
        command = [sys.executable, "-m", "gateway", "run"]
        super().__init__("gateway", command, env=environment, cwd=directory, fork=fork)
        if ready:
            self.wait_until_ready()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def worker(self) -> int:
        """The pid of the worker that was started last; before there is one, that of the process."""
        return (self.children() or [self.pid])[-1]

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Wait for 200 from `/livez`."""
        self.wait_until(lambda: self._status("/livez") == 200, "answering /livez", timeout)

    def end(self) -> None:
        """Make sure that it is gone, without the time that an orderly end takes (`stop`): nobody looks at that one.
        Coverage is written at an orderly end."""
        if COVERAGE in os.environ:
            super().end()
        else:
            self.kill()

    def request(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        return plain_http.request(self.port, target, method=method, body=body, headers=headers)

    def get(self, target: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("GET", target, headers=headers)

    def log_records(self, **members: object) -> list[dict[str, Any]]:
        """The output lines that are JSON objects with these members, in order.

        Only those that have come by now. A line leaves the gateway up to a tenth of a second after the answer that it
        is about, and reaches this process when the machine runs both: to look at a line, `wait_for_records`. All of
        them are here once the process has ended (`wait`, `stop`).
        """
        records = []
        for line in list(self.lines):
            if line.startswith("{"):
                try:
                    records.append(json.loads(line))
                except ValueError:
                    continue
        return [each for each in records if all(each.get(name) == value for name, value in members.items())]

    def wait_for_records(self, count: int = 1, timeout: float = PATIENCE, **members: object) -> list[dict[str, Any]]:
        """The records with these members, as soon as there are at least that many of them; more are not waited for."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = self.log_records(**members)
            return len(found) >= count

        self.wait_until(there, f"writing {count} records with {members}", timeout)
        return found

    def metric(self, series: str) -> float:
        """The value of this series, labels included, as `/metrics` has it now."""
        return self._series()[series]

    def growth(self) -> Callable[[str], float]:
        """How much a series has grown since now: for tests that share a gateway. One that was not there was 0."""
        before = self._series_of_now()

        def grown(series: str) -> float:
            return self._series_of_now()[series] - before.get(series, 0.0)

        return grown

    def _series_of_now(self) -> dict[str, float]:
        # Polls that come fast may get the figures of the one before. A poll takes CPU time, which is one of the
        # figures: when that has changed, all of them are of after the first poll.
        clock = 'process_cpu_seconds_total{worker="0"}'
        first, found = self._series(), self._series()
        while found[clock] == first[clock]:
            time.sleep(0.02)
            found = self._series()
        return found

    def _series(self) -> dict[str, float]:
        lines = self.get("/metrics").body.decode().splitlines()
        parted = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {series: float(value) for series, _, value in parted}

    def wait_for_metric(self, series: str, value: float, timeout: float = PATIENCE) -> None:
        """Until the series has this value: what the gateway does about an answer or an end goes on after the client
        has seen it."""
        self.wait_until(lambda: self.metric(series) == value, f"showing {series} {value}", timeout)

    def _status(self, target: str) -> int | None:
        try:
            return self.get(target).status
        except (OSError, http.client.HTTPException):
            return None
