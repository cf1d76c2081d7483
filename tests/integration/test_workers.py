"""Several workers under one supervisor, as real processes: killed, stopped, reloaded, upgraded."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Set
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartGateway
from tests.support import plain_http
from tests.support.certificates import make_certificate
from tests.support.gateway_process import GatewayProcess
from tests.support.load import Load
from tests.support.plain_http import Answer
from tests.support.ports import free_port
from tests.support.processes import clean_environment, has_ended
from tests.support.raw_http import RawClient
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

TOKEN = "correct-horse-battery-staple"
SLOW = 60.0
"""Seconds that a new generation of workers may take on a machine that is busy with other tests."""


def settings(stub: StubProcess, workers: int = 2, **more: str) -> dict[str, str]:
    return {
        "UPSTREAM_URL": stub.url,
        "WORKERS": str(workers),
        "RATE_LIMIT_ENABLED": "false",
        "ADMIN_TOKEN": TOKEN,
        "TUNNEL_DRAIN_SECONDS": "5",
        **more,
    }


@pytest.fixture
def two_workers(shared_gateway: StartGateway, stub: StubProcess) -> GatewayProcess:
    """The gateway of the module, when two workers serve and nobody else is left."""
    gateway = shared_gateway(settings(stub, MAX_WEBSOCKET_CONNECTIONS="41"), fork=False)
    wait_for_workers(gateway, 2)
    eventually(lambda: set(gateway.children()) == ready_pids(gateway), "two workers and nobody else", SLOW)
    return gateway


def table(gateway: GatewayProcess) -> dict[str, Any]:
    found: dict[str, Any] = gateway.get("/api/resilience/workers").json()
    return found


def ready_pids(gateway: GatewayProcess) -> set[int]:
    return {each["pid"] for each in table(gateway)["workers"] if each["state"] == "ready"}


def wait_for_workers(gateway: GatewayProcess, count: int, but: Set[int] = frozenset()) -> set[int]:
    """Wait until that many workers serve, none of them with these pids. Their pids."""
    eventually(lambda: len(ready_pids(gateway) - but) == count == len(ready_pids(gateway)), "workers ready", SLOW)
    return ready_pids(gateway)


def reload(gateway: GatewayProcess, body: bytes = b"{}", path: str = "/api/admin/reload") -> Answer:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    # The answer comes when the new workers serve.
    return plain_http.request(gateway.port, path, method="POST", body=body, headers=headers, timeout=SLOW)


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@contextmanager
def under_load(gateway: GatewayProcess, clients: int = 6) -> Iterator[Load]:
    load = Load(gateway.port)
    threads = [threading.Thread(target=load.run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stopped = True
        for thread in threads:
            thread.join(20.0)


def test_connections_reach_every_worker(two_workers: GatewayProcess) -> None:
    seen: set[int] = set()

    def every() -> bool:
        seen.add(table(two_workers)["answeredBy"])
        return seen == {0, 1}

    eventually(every, "an answer of each worker", SLOW)


def test_nobody_is_connected_before_somebody_serves(start_gateway: StartGateway, stub: StubProcess) -> None:
    """A load balancer or a script takes a port that accepts for a service that is there."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # A worker waits for its first exchange with Redis, for two seconds at most.
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        gateway = start_gateway(settings(stub, 1, REDIS_URL=url), ready=False)
        eventually(lambda: listens(gateway.port), "a connection", SLOW)
        connected = time.time()
        record = json.loads(gateway.wait_for_line('"listening on', SLOW))
    assert datetime.fromisoformat(record["time"]).timestamp() - connected < 1.0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_start_that_is_called_off_leaves_no_worker(signum: signal.Signals, stub: StubProcess, tmp_path: Path) -> None:
    variables = {**clean_environment(), **settings(stub), "PORT": str(free_port())}
    command = [sys.executable, "-m", "gateway", "run"]
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(command, env=variables, cwd=tmp_path, stdout=nowhere, stderr=nowhere) as gateway:
        children = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children")
        eventually(lambda: children.read_text() != "", "a worker that starts", SLOW)
        workers = [int(pid) for pid in children.read_text().split()]
        gateway.send_signal(signum)
        assert (gateway.wait(SLOW), [pid for pid in workers if not has_ended(pid)]) == (0, [])


def test_reloads_lose_no_request(two_workers: GatewayProcess) -> None:
    gateway = two_workers
    pids, before = ready_pids(gateway), table(gateway)["restarts"]["reload"]
    with under_load(gateway) as load:
        for _ in range(3):
            gateway.send_signal(signal.SIGHUP)
            pids = wait_for_workers(gateway, 2, pids)
        answered = load.answered
        eventually(lambda: load.answered > answered, "answers of the last workers", SLOW)
    assert load.lost == []
    assert load.refused == 0
    assert load.told_to_go > 0
    eventually(lambda: table(gateway)["restarts"]["reload"] == before + 6, "every worker replaced three times", SLOW)


def test_reloads_that_are_asked_for_while_one_waits_are_that_one(two_workers: GatewayProcess) -> None:
    gateway = two_workers
    before = table(gateway)["restarts"]["reload"]
    for _ in range(40):
        gateway.send_signal(signal.SIGHUP)
        # Two signals that come at the same time are one.
        time.sleep(0.005)
    (gateway.directory / ".env").write_text("MAX_INFLIGHT=7\n")
    gateway.send_signal(signal.SIGHUP)
    # Its turn comes when all that were asked for before have ended.
    assert reload(gateway).status == 200
    (gateway.directory / ".env").unlink()
    assert gateway.get("/health").json()["checks"]["capacity"]["max_in_flight"] == 7
    assert reload(gateway).status == 200
    wait_for_workers(gateway, 2)
    eventually(lambda: set(gateway.children()) == ready_pids(gateway), "no process that leaves", SLOW)
    reloads = (table(gateway)["restarts"]["reload"] - before) // 2
    assert 3 <= reloads <= 8


def test_an_upgrade_waits_for_a_reload_that_has_begun(two_workers: GatewayProcess) -> None:
    gateway = two_workers
    pids, upgraded = ready_pids(gateway), "carries on with"
    before = gateway.output.count(upgraded)
    assert reload(gateway, b"", "/api/admin/upgrade").json()["done"] is True
    # It is carried out a moment after the answer.
    gateway.send_signal(signal.SIGHUP)
    eventually(lambda: gateway.output.count(upgraded) == before + 1, "the new code", SLOW)
    wait_for_workers(gateway, 2, pids)
    eventually(lambda: set(gateway.children()) == ready_pids(gateway), "no process that nobody looks after", SLOW)
    # One that is being started at that moment in the place of a dead one would be nobody's child either.
    pids = ready_pids(gateway)
    assert reload(gateway, b"", "/api/admin/upgrade").json()["done"] is True
    os.kill(min(pids), signal.SIGKILL)
    eventually(lambda: gateway.output.count(upgraded) == before + 2, "the new code once more", SLOW)
    wait_for_workers(gateway, 2, pids)
    eventually(lambda: set(gateway.children()) == ready_pids(gateway), "no process that nobody looks after", SLOW)


def test_a_killed_worker_is_replaced_and_only_its_own_requests_are_lost(two_workers: GatewayProcess) -> None:
    gateway = two_workers
    victim, before = min(ready_pids(gateway)), table(gateway)["restarts"]["died"]
    with under_load(gateway) as load:
        os.kill(victim, signal.SIGKILL)
        wait_for_workers(gateway, 2, {victim})
        answered = load.answered
        eventually(lambda: load.answered > answered, "answers afterwards", SLOW)
    # Each client had one request under way at most.
    assert len(load.lost) <= 6
    assert load.refused == 0
    assert table(gateway)["restarts"]["died"] == before + 1
    (record,) = gateway.wait_for_records(event="worker_ended", pid=victim, cause="died")
    assert "was ended by SIGKILL" in record["message"]


def test_a_worker_that_stands_still_says_where_and_is_replaced(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway(settings(stub, WORKER_STALL_SECONDS="2"))
    pids = wait_for_workers(gateway, 2)
    victim = min(pids)
    os.kill(victim, signal.SIGSTOP)
    line = gateway.wait_for_line("has given no sign of life", SLOW)
    assert json.loads(line)["pid"] == victim
    eventually(lambda: has_ended(victim), "killed", SLOW)
    gateway.wait_for_line("serves", SLOW)
    eventually(lambda: gateway.get("/proxy/ok").status == 200, "served", SLOW)


def test_a_worker_for_which_there_are_no_files_is_tried_again(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway(settings(stub))
    pids = wait_for_workers(gateway, 2)
    victim = min(pids)
    limits = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
    files = open_files(gateway.pid)
    resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    os.kill(victim, signal.SIGKILL)
    reason = "a worker cannot be started: Too many open files"
    gateway.wait_for_line(f"cannot be replaced, next try in 0.5 s: {reason}", SLOW)
    gateway.wait_for_line(f"cannot be replaced, next try in 1.0 s: {reason}", SLOW)
    answer = reload(gateway)
    assert (answer.status, answer.json()["problems"]) == (409, [reason])
    upgrade = reload(gateway, b"", "/api/admin/upgrade")
    assert (upgrade.status, upgrade.json()["problems"]) == (409, [reason])
    # The other worker takes all connections meanwhile.
    assert [gateway.get("/proxy/ok").status for _ in range(20)] == [200] * 20
    assert ready_pids(gateway) == pids - {victim}
    resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, limits)
    pids = wait_for_workers(gateway, 2, {victim})
    assert open_files(gateway.pid) == files
    # And gives them back: both take connections.
    seen: set[int] = set()

    def both() -> bool:
        seen.add(table(gateway)["answeredBy"])
        return seen == {0, 1}

    eventually(both, "an answer of each worker", SLOW)
    # What the new one has taken over stays its own, however often others come and go.
    os.kill(min(pids), signal.SIGKILL)
    wait_for_workers(gateway, 2, {min(pids)})
    assert [gateway.get("/proxy/ok").status for _ in range(20)] == [200] * 20


def test_a_reload_with_a_mistake_changes_nothing_and_says_what_is_wrong(
    start_gateway: StartGateway, stub: StubProcess
) -> None:
    gateway = start_gateway(settings(stub))
    pids = wait_for_workers(gateway, 2)
    (gateway.directory / ".env").write_text("MAX_INFLIGHT=none\n")
    answer = reload(gateway)
    assert answer.status == 409
    assert answer.json()["reason"] == "configuration_refused"
    assert answer.json()["problems"] == ['.env:1 MAX_INFLIGHT: "none"; allowed: an integer from 1 to 1000000']
    assert ready_pids(gateway) == pids
    assert gateway.get("/proxy/ok").status == 200
    assert "gateway_config_last_reload_successful 0" in gateway.get("/metrics").body.decode()
    gateway.wait_for_line("reload refused: .env:1 MAX_INFLIGHT", SLOW)
    (gateway.directory / ".env").write_text("MAX_INFLIGHT=7\n")
    assert reload(gateway, b'{"dryRun": true}').json()["differences"] == ["shedding.limit.limit: 1000 -> 7"]
    assert reload(gateway).status == 200
    wait_for_workers(gateway, 2, pids)
    assert "gateway_config_last_reload_successful 1" in gateway.get("/metrics").body.decode()

    def capacity() -> int:
        return int(gateway.get("/health").json()["checks"]["capacity"]["max_in_flight"])

    # What the other worker has is told once a second.
    eventually(lambda: capacity() == 7, "the cap of all workers", SLOW)


def test_an_order_that_cannot_be_understood_is_refused(two_workers: GatewayProcess) -> None:
    gateway = two_workers
    pids = ready_pids(gateway)
    assert reload(gateway, b'{"dryRun": 1}').json()["member"] == "dryRun"
    assert reload(gateway, b'{"dry": true}').json()["member"] == "dry"
    assert reload(gateway, b'{"x": 1}', "/api/admin/upgrade").status == 400
    assert gateway.request("POST", "/api/admin/reload").status == 401
    assert gateway.get("/api/admin/reload").status == 405
    assert ready_pids(gateway) == pids


def test_a_dry_run_says_what_would_change_and_changes_nothing(two_workers: GatewayProcess, stub: StubProcess) -> None:
    gateway = two_workers
    pids = ready_pids(gateway)
    (gateway.directory / ".env").write_text("MAX_INFLIGHT=7\n")
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "--diff"],
        env=clean_environment(GATEWAY_URL=gateway.url, **settings(stub, MAX_WEBSOCKET_CONNECTIONS="41")),
        cwd=gateway.directory, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    (gateway.directory / ".env").unlink()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == ["reload: would change", "  shedding.limit.limit: 1000 -> 7"]
    assert ready_pids(gateway) == pids
    eventually(
        lambda: gateway.get("/health").json()["checks"]["capacity"]["max_in_flight"] == 1000, "the old cap", SLOW
    )


def test_a_reload_with_a_port_that_is_taken_is_refused(two_workers: GatewayProcess) -> None:
    gateway = two_workers
    pids = ready_pids(gateway)
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        (gateway.directory / ".env").write_text(f"ADMIN_PORT={port}\nADMIN_HOST=0.0.0.0\n")
        answer = reload(gateway)
    (gateway.directory / ".env").unlink()
    assert answer.status == 409
    assert answer.json()["problems"] == [f"cannot listen on 0.0.0.0:{port}: Address already in use"]
    assert ready_pids(gateway) == pids


def test_another_port_is_served_and_the_old_one_closed(two_workers: GatewayProcess) -> None:
    admin = free_port()
    gateway = two_workers
    (gateway.directory / ".env").write_text(f"ADMIN_PORT={admin}\n")
    assert reload(gateway).status == 200
    eventually(lambda: listens(admin), "the control plane on its own port", SLOW)
    assert gateway.get("/proxy/ok").status == 200
    (gateway.directory / ".env").unlink()
    gateway.send_signal(signal.SIGHUP)
    eventually(lambda: not listens(admin), "the port closed", SLOW)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_start_with_a_certificate_that_is_missing_ends_with_the_reason(
    start_gateway: StartGateway, stub: StubProcess, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path)
    certificate.key.unlink()
    gateway = start_gateway({**settings(stub), **certificate.variables}, ready=False)
    assert gateway.wait(SLOW) == 1
    assert "TLS_KEY_FILE" in gateway.output


def test_fewer_workers_serve_all_sockets(start_gateway: StartGateway, stub: StubProcess) -> None:
    environment = settings(stub, 3)
    del environment["WORKERS"]
    gateway = start_gateway(environment, ready=False, files={".env": "WORKERS=3\n"})
    gateway.wait_until_ready()
    pids = wait_for_workers(gateway, 3)
    with under_load(gateway) as load:
        (gateway.directory / ".env").write_text("WORKERS=1\n")
        gateway.send_signal(signal.SIGHUP)
        wait_for_workers(gateway, 1, pids)
        for _ in range(30):
            assert gateway.get("/proxy/ok").status == 200
    assert load.lost == []
    assert load.refused == 0


def test_a_worker_that_is_told_to_end_is_relieved_first(two_workers: GatewayProcess) -> None:
    gateway = two_workers
    victim = min(ready_pids(gateway))
    with under_load(gateway) as load:
        os.kill(victim, signal.SIGTERM)
        wait_for_workers(gateway, 2, {victim})
    assert load.lost == []
    assert load.refused == 0


def test_counters_never_go_down(two_workers: GatewayProcess) -> None:
    gateway = two_workers
    pids = ready_pids(gateway)

    def counted() -> float:
        lines = gateway.get("/metrics").body.decode().splitlines()
        # No other test of this module sends such requests.
        mine = [line for line in lines if line.startswith("http_requests_total{") and 'method="HEAD"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in mine)

    for _ in range(40):
        assert gateway.request("HEAD", "/proxy/ok").status == 200
    assert counted() == 40
    gateway.send_signal(signal.SIGHUP)
    pids = wait_for_workers(gateway, 2, pids)
    assert counted() == 40
    os.kill(min(pids), signal.SIGKILL)
    eventually(lambda: len(ready_pids(gateway) - pids) == 1, "replaced", SLOW)
    assert counted() == 40


def test_tunnels_of_all_workers_are_told_as_one(two_workers: GatewayProcess) -> None:
    gateway = two_workers
    upgrade = (
        b"GET /proxy/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(12)]
        assert {client.request(upgrade).status for client in clients} == {101}
        gateway.wait_for_metric('websocket_connections_active{route="proxy"}', 12)
        # Each has a part of it: 21 and 20.
        gateway.wait_for_metric('websocket_connections_max{route="proxy"}', 41)
        for client in clients[:5]:
            client.close()
        gateway.wait_for_metric('websocket_connections_ended_total{route="proxy",by="client"}', 5)
        gateway.wait_for_metric('websocket_connections_active{route="proxy"}', 7)


def test_an_upgrade_keeps_the_process_and_loses_no_request(two_workers: GatewayProcess) -> None:
    gateway = two_workers
    pids = ready_pids(gateway)
    supervisor, before = gateway.pid, table(gateway)["restarts"]["upgrade"]
    with under_load(gateway) as load:
        answer = reload(gateway, b"", "/api/admin/upgrade")
        assert answer.json()["done"] is True
        wait_for_workers(gateway, 2, pids)
    assert load.lost == []
    assert load.refused == 0
    assert gateway.pid == supervisor
    assert gateway.returncode is None
    eventually(lambda: table(gateway)["restarts"]["upgrade"] == before + 2, "the old workers ended", SLOW)
    # It is a supervisor as before: it reloads, and it ends.
    pids = ready_pids(gateway)
    gateway.send_signal(signal.SIGHUP)
    wait_for_workers(gateway, 2, pids)
    assert gateway.stop(30.0) == 0


def test_workers_whose_supervisor_is_killed_finish_and_end(two_workers: GatewayProcess, stub: StubProcess) -> None:
    gateway = two_workers
    pids = ready_pids(gateway)
    with RawClient(gateway.port, timeout=30.0) as client:
        client.send(b"GET /proxy/slow?seconds=1.5 HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: stub.stats()["in_flight"] > 0, "the request at the upstream", SLOW)
        os.kill(gateway.pid, signal.SIGKILL)
        assert client.read_response().status == 200
    eventually(lambda: all(has_ended(pid) for pid in pids), "all workers ended", SLOW)
    assert not listens(gateway.port)
