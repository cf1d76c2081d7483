"""A real `redis-server` on a free port of the loopback, to be stopped, killed, paused and restarted at will.

Nothing is persisted: a restart comes back empty and without scripts, like a failover to an empty replica.
"""

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import redis

from tests.support.ports import free_port, is_listening
from tests.support.processes import ChildProcess


def redis_is_installed() -> bool:
    return shutil.which("redis-server") is not None


def require_redis() -> None:
    """Skips without `redis-server`; fails instead where CI says that everything must run."""
    if redis_is_installed():
        return
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail("redis-server is not installed, and CI=true allows no skipping")
    pytest.skip("redis-server is not installed")


class RedisServer:
    """Started on construction. `arguments` are further `redis-server` options. Without one the test is skipped, whoever
    asks for a server."""

    def __init__(self, directory: Path, *arguments: str, password: str | None = None) -> None:
        require_redis()
        self.host = "127.0.0.1"
        self.port = free_port()
        self.password = password
        self._directory = directory
        self._arguments = [*arguments, *(["--requirepass", password] if password else [])]
        self._process = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.end()

    @property
    def url(self) -> str:
        return f"redis://{f':{self.password}@' if self.password else ''}{self.host}:{self.port}/0"

    @property
    def variables(self) -> dict[str, str]:
        """For gateways in whose tests Redis is not the fault: they wait for it as long as they can. With the 50 ms of
        production, a busy machine makes each of them go on alone for a while, and counts are its own then."""
        return {"REDIS_URL": self.url, "REDIS_TIMEOUT": "5", "REDIS_TIMEOUT_MAX": "5"}

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def stop(self) -> None:
        """SIGTERM: connections end in order, then connecting is refused."""
        self._process.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def pause(self) -> None:
        """SIGSTOP: connections stay, new ones are accepted by the kernel, nothing is answered."""
        self._process.pause()

    def resume(self) -> None:
        self._process.resume()

    def restart(self) -> None:
        """Start again on the same port, empty; ends the running one first."""
        self._process.end()
        self._process = self._start()

    def ensure_running(self) -> None:
        """Undo whatever a test has done to it."""
        self.resume()
        if not self.running:
            self.restart()

    def execute(self, *command: str | bytes | int | float) -> Any:
        """Run one command, as `redis-cli` would, and return its reply with strings decoded."""
        with self._client() as client:
            return client.execute_command(*command)

    def flush(self) -> None:
        """Forget every key and every script, and count statistics from zero."""
        with self._client() as client:
            client.execute_command("FLUSHALL")
            client.execute_command("SCRIPT", "FLUSH", "SYNC")
            client.execute_command("CONFIG", "RESETSTAT")

    def _client(self) -> redis.Redis:
        return redis.Redis(
            host=self.host, port=self.port, password=self.password, decode_responses=True, socket_timeout=30.0
        )

    def _start(self) -> ChildProcess:
        command = [
            *("redis-server", "--port", str(self.port), "--bind", self.host, "--dir", str(self._directory)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "notice"),
            *self._arguments,
        ]
        process = ChildProcess("redis-server", command)
        process.wait_until(lambda: is_listening(self.port), "listening")
        return process
