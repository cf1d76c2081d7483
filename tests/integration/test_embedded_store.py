"""Several workers without Redis: limits and circuits are those of all. A worker that dies takes only its own."""

import http.client
import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

WORKERS = 4
CAPACITY = 60


@pytest.fixture
def running(shared_gateway: StartGateway, stub: StubProcess) -> GatewayProcess:
    """The gateway of the module, with all its workers. Each test is a client of its own, and so has a full bucket."""
    env = {
        "WORKERS": str(WORKERS),
        "UPSTREAM_URL": stub.url,
        "TRUSTED_PROXIES": "127.0.0.1",
        "RATE_LIMIT_CAPACITY": str(CAPACITY),
        # Not one token flows in while the test runs: that takes 1000 s.
        "RATE_LIMIT_REFILL_RATE": "0.001",
    }
    gateway = shared_gateway(env)
    eventually(lambda: workers(gateway) == WORKERS, "all workers serve")
    return gateway


class Client:
    """Who asks this gateway from an address that nobody else has."""

    def __init__(self, gateway: GatewayProcess, address: str) -> None:
        self._gateway = gateway
        self._fields = {"X-Forwarded-For": address}
        self._lines = len(gateway.lines)

    @property
    def most(self) -> int:
        """How many requests may be admitted. A machine that stands still for longer than the store may take makes
        workers go on by themselves, which may cost as much again."""
        lost = any("Embedded store lost" in line for line in self._gateway.lines[self._lines :])
        return 2 * CAPACITY if lost else CAPACITY

    def ask(self, count: int) -> Counter[int]:
        """So many requests, each on a connection of its own, sixteen at a time. 0: the connection was lost."""

        def once(_: int) -> int:
            try:
                return self._gateway.get("/proxy/ok", self._fields).status
            except (OSError, http.client.HTTPException):
                return 0

        with ThreadPoolExecutor(16) as pool:
            return Counter(pool.map(once, range(count)))


def health(running: GatewayProcess) -> dict[str, Any]:
    answer = running.get("/health")
    assert answer.status == 200
    found: dict[str, Any] = answer.json()
    return found


def workers(running: GatewayProcess) -> int:
    table = running.get("/api/resilience/workers").json()["workers"]
    return sum(each["state"] == "ready" for each in table)


def test_a_limit_is_exact_over_all_workers(running: GatewayProcess) -> None:
    # Leases come back within a few seconds, so a refusal is asked again.
    client, admitted = Client(running, "192.0.2.1"), 0

    def used_up() -> bool:
        nonlocal admitted
        found = client.ask(40)
        assert set(found) <= {200, 429}
        admitted += found[200]
        assert admitted <= client.most
        return admitted >= CAPACITY

    eventually(used_up, "the whole bucket is used", 60.0)
    admitted += client.ask(40)[200]
    assert CAPACITY <= admitted <= client.most


def test_nothing_says_that_there_is_a_redis(running: GatewayProcess) -> None:
    found = health(running)
    assert found["status"] == "healthy"
    assert "up" not in found["checks"]["redis"]
    eventually(lambda: f"gateway_replicas {WORKERS}\n" in metrics(running), "the workers are counted", 20.0)
    assert "\nredis_up " not in metrics(running)
    assert "redis_commands_total{" not in metrics(running)
    Client(running, "192.0.2.2").ask(20)
    assert not [line for line in running.lines if "Redis" in line and "no Redis" not in line]


def test_a_worker_that_is_killed_brings_no_tokens_back(running: GatewayProcess) -> None:
    client = Client(running, "192.0.2.3")
    admitted = client.ask(CAPACITY // 2)[200]
    for pid in running.children()[:2]:
        os.kill(pid, signal.SIGKILL)
    for _ in range(4):
        admitted += client.ask(CAPACITY)[200]
    eventually(lambda: workers(running) == WORKERS, "the dead are replaced")
    admitted += client.ask(CAPACITY)[200]
    # Those that were inside a killed worker may have been admitted without an answer.
    assert CAPACITY // 2 <= admitted <= client.most


def test_an_upgrade_of_the_supervisor_keeps_what_was_used(running: GatewayProcess) -> None:
    client, before = Client(running, "192.0.2.4"), set(running.children())
    admitted = client.ask(CAPACITY // 2)[200]
    running.send_signal(signal.SIGUSR2)
    eventually(
        lambda: before.isdisjoint(running.children()) and workers(running) == WORKERS, "new workers serve", 120.0
    )
    for _ in range(3):
        admitted += client.ask(CAPACITY)[200]
    assert CAPACITY // 2 <= admitted <= client.most


def test_a_circuit_that_trips_in_one_worker_is_open_in_all(start_gateway: StartGateway) -> None:
    env = {
        "WORKERS": str(WORKERS),
        "UPSTREAM_URL": f"http://127.0.0.1:{free_port()}",
        "RATE_LIMIT_ENABLED": "false",
        "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "3",
        "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": "600",
        "RETRY_MAX_ATTEMPTS": "1",
    }
    gateway = start_gateway(env)
    eventually(lambda: workers(gateway) == WORKERS, "all workers serve")

    def open_everywhere() -> bool:
        answers = [gateway.get("/proxy/ok") for _ in range(8 * WORKERS)]
        return all(answer.json().get("reason") == "circuit_open" for answer in answers)

    eventually(open_everywhere, "every worker refuses")
    assert health(gateway)["status"] == "unhealthy"


def metrics(running: GatewayProcess) -> str:
    return running.get("/metrics").body.decode()
