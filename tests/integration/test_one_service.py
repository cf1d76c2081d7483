"""Several workers of a real gateway are one service to those who look, while workers are killed and replaced."""

import json
import os
import signal
import time
from typing import Any

import pytest

from tests.conftest import StartGateway
from tests.integration.conftest import Command
from tests.support.gateway_process import GatewayProcess
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

WORKERS = 3


@pytest.fixture
def running(shared_gateway: StartGateway, stub: StubProcess) -> GatewayProcess:
    return shared_gateway({"UPSTREAM_URL": stub.url, "WORKERS": str(WORKERS), "RATE_LIMIT_ENABLED": "false"})


def counted(method: str) -> str:
    """The series of such requests. Each test has a method of its own."""
    return f'http_requests_total{{service="gateway",method="{method}",route="proxy",status="200"}}'


def series(gateway: GatewayProcess) -> dict[str, float]:
    lines = gateway.get("/metrics").body.decode().splitlines()
    return {name: float(value) for name, _, value in (each.rpartition(" ") for each in lines if each[0] != "#")}


def told(gateway: GatewayProcess) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gateway.get("/api/resilience/workers").body)
    return found


def pids(gateway: GatewayProcess) -> dict[int, int]:
    return {each["worker"]: each["pid"] for each in told(gateway)["workers"] if each["state"] == "ready"}


def ask(gateway: GatewayProcess, count: int, method: str) -> None:
    """Each over a connection of its own, so that all workers get some."""
    for _ in range(count):
        assert gateway.request(method, "/proxy/echo").status == 200


def everybody(gateway: GatewayProcess) -> None:
    """Wait until every worker knows that all are ready, whichever is asked."""
    answered: set[int] = set()

    def all_know() -> bool:
        found = told(gateway)
        if found["ready"] == WORKERS:
            answered.add(found["answeredBy"])
        else:
            answered.clear()
        return len(answered) == WORKERS

    eventually(all_know, "all know that all are ready", timeout=60)


def test_whichever_worker_is_asked_it_has_the_counts_of_all(running: GatewayProcess) -> None:
    everybody(running)
    ask(running, 60, "GET")
    eventually(lambda: series(running)[counted("GET")] == 60, "counted")
    for _ in range(20):
        found = series(running)
        assert found[counted("GET")] == 60
        assert {f'process_cpu_seconds_total{{worker="{slot}"}}' for slot in range(WORKERS)} <= set(found)
        assert found['gateway_workers{state="ready"}'] == WORKERS


def test_no_counter_goes_down_when_workers_die_and_are_replaced(running: GatewayProcess) -> None:
    everybody(running)
    ask(running, 60, "PUT")
    eventually(lambda: series(running).get(counted("PUT")) == 60, "counted")
    before = series(running)
    first = pids(running)
    os.kill(first[1], signal.SIGKILL)

    def replaced() -> bool:
        nonlocal before
        try:
            found = series(running)
        except OSError:  # the connection was with the one that died
            return False
        fallen = [
            name
            for name, value in before.items()
            if ("_total" in name or "_count" in name) and found.get(name, 0.0) < value
        ]
        assert fallen == []
        before = found
        return found['gateway_worker_restarts_total{cause="died"}'] == 1

    eventually(replaced, "replaced", timeout=60)
    everybody(running)
    second = pids(running)
    assert second[1] != first[1]
    assert (second[0], second[2]) == (first[0], first[2])
    ask(running, 30, "PUT")
    eventually(lambda: series(running)[counted("PUT")] == 90, "counted")
    assert "pid" not in running.get("/health").body.decode()


def test_status_prints_the_table(running: GatewayProcess, command: Command) -> None:
    everybody(running)
    done = command("status", GATEWAY_URL=running.url)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0:2] + row[3:4] for row in rows if row and row[0].isdigit()] == [
        [str(slot), str(pid), "ready"] for slot, pid in sorted(pids(running).items())
    ]


def test_what_a_worker_saw_of_a_circuit_outlives_it(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "WORKERS": "1", "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "2"})
    while gateway.get("/proxy/fail").status != 503:
        time.sleep(0.01)
    path = "/api/resilience/circuit-breakers/default"
    (one,) = json.loads(gateway.get(path).body)["transitions"]
    first = pids(gateway)
    os.kill(first[0], signal.SIGKILL)
    # The worker that saw it is gone; what it saw is not.
    eventually(lambda: pids_or_none(gateway) not in (None, first), "replaced", timeout=60)
    assert json.loads(gateway.get(path).body)["transitions"][-1] == one


def pids_or_none(gateway: GatewayProcess) -> dict[int, int] | None:
    try:
        return pids(gateway) or None
    except OSError:
        return None
