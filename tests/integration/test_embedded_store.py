"""Several workers without Redis: limits and circuits are those of all. A worker that dies takes only its own."""

import contextlib
import http.client
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

WORKERS = 4
CAPACITY = 60


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[StubProcess]:
    with StubProcess(tmp_path) as running:
        yield running


@contextlib.contextmanager
def gateway(directory: Path, upstream: str, **more: str) -> Iterator[GatewayProcess]:
    env = {
        "WORKERS": str(WORKERS),
        "UPSTREAM_URL": upstream,
        "RATE_LIMIT_CAPACITY": str(CAPACITY),
        # Not one token flows in while the test runs: that takes 1000 s.
        "RATE_LIMIT_REFILL_RATE": "0.001",
        **more,
    }
    with GatewayProcess(env, directory) as running:
        eventually(lambda: workers(running) == WORKERS, "all workers serve")
        yield running


def health(running: GatewayProcess) -> dict[str, Any]:
    answer = running.get("/health")
    assert answer.status == 200
    found: dict[str, Any] = answer.json()
    return found


def workers(running: GatewayProcess) -> int:
    table = running.get("/api/resilience/workers").json()["workers"]
    return sum(each["state"] == "ready" for each in table)


def most(running: GatewayProcess) -> int:
    """How many requests may be admitted. A machine that stands still for longer than the store may take makes workers
    go on by themselves, which may cost as much again."""
    return CAPACITY if not any("Embedded store lost" in line for line in running.lines) else 2 * CAPACITY


def ask(running: GatewayProcess, count: int) -> Counter[int]:
    """So many requests, each on a connection of its own, sixteen at a time. 0: the connection was lost."""

    def once(_: int) -> int:
        try:
            return running.get("/proxy/ok").status
        except (OSError, http.client.HTTPException):
            return 0

    with ThreadPoolExecutor(16) as pool:
        return Counter(pool.map(once, range(count)))


def test_a_limit_is_exact_over_all_workers(tmp_path: Path, stub: StubProcess) -> None:
    with gateway(tmp_path, stub.url) as running:
        # Leases come back within a few seconds, so a refusal is asked again.
        admitted = 0

        def used_up() -> bool:
            nonlocal admitted
            found = ask(running, 40)
            assert set(found) <= {200, 429}
            admitted += found[200]
            assert admitted <= most(running)
            return admitted >= CAPACITY

        eventually(used_up, "the whole bucket is used", 60.0)
        admitted += ask(running, 40)[200]
        assert CAPACITY <= admitted <= most(running)


def test_a_worker_that_is_killed_brings_no_tokens_back(tmp_path: Path, stub: StubProcess) -> None:
    with gateway(tmp_path, stub.url) as running:
        admitted = ask(running, CAPACITY // 2)[200]
        for pid in running.children()[:2]:
            os.kill(pid, signal.SIGKILL)
        for _ in range(4):
            admitted += ask(running, CAPACITY)[200]
        eventually(lambda: workers(running) == WORKERS, "the dead are replaced")
        admitted += ask(running, CAPACITY)[200]
        # Those that were inside a killed worker may have been admitted without an answer.
        assert CAPACITY // 2 <= admitted <= most(running)


def test_an_upgrade_of_the_supervisor_keeps_what_was_used(tmp_path: Path, stub: StubProcess) -> None:
    with gateway(tmp_path, stub.url) as running:
        before = set(running.children())
        admitted = ask(running, CAPACITY // 2)[200]
        running.send_signal(signal.SIGUSR2)
        eventually(
            lambda: before.isdisjoint(running.children()) and workers(running) == WORKERS, "new workers serve", 120.0
        )
        for _ in range(3):
            admitted += ask(running, CAPACITY)[200]
        assert CAPACITY // 2 <= admitted <= most(running)


def test_a_circuit_that_trips_in_one_worker_is_open_in_all(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    env = {
        "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "3",
        "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": "600",
        "RETRY_MAX_ATTEMPTS": "1",
    }
    with gateway(tmp_path, nobody, RATE_LIMIT_REFILL_RATE="1000", **env) as running:

        def open_everywhere() -> bool:
            answers = [running.get("/proxy/ok") for _ in range(8 * WORKERS)]
            return all(answer.json().get("reason") == "circuit_open" for answer in answers)

        eventually(open_everywhere, "every worker refuses")
        assert health(running)["status"] == "unhealthy"


def test_nothing_says_that_there_is_a_redis(tmp_path: Path, stub: StubProcess) -> None:
    with gateway(tmp_path, stub.url) as running:
        found = health(running)
        assert found["status"] == "healthy"
        assert "up" not in found["checks"]["redis"]
        eventually(lambda: f"gateway_replicas {WORKERS}\n" in metrics(running), "the workers are counted", 20.0)
        assert "\nredis_up " not in metrics(running)
        assert "redis_commands_total{" not in metrics(running)
        ask(running, 20)
        assert not [line for line in running.lines if "Redis" in line and "no Redis" not in line]


def metrics(running: GatewayProcess) -> str:
    return running.get("/metrics").body.decode()
