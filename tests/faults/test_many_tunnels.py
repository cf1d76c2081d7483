"""2,000 WebSocket tunnels, and peers among them that do their worst: memory stays bounded, tunnels close with the right
codes, and others are served."""

import resource
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.conformance.wire.clients import plain
from tests.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.turn_time import FAIR, assert_fair, spent, waits
from tests.support.waiting import eventually
from tests.support.websocket_crowd import Client, Crowd

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

TUNNELS = 2000
# Clients and upstream here, both of their other ends in the gateway, and some to spare.
FILES = 3 * TUNNELS
SLOW = 90.0


@pytest.fixture(scope="module", autouse=True)
def open_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in range(FILES) and soft < FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    elif soft < FILES:
        pytest.skip(f"at most {hard} open files, and it needs {FILES}")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    with Crowd() as peers:
        yield peers


def gateway_of(start_gateway: StartGateway, crowd: Crowd, **variables: str) -> GatewayProcess:
    limits = {
        "MAX_WEBSOCKET_CONNECTIONS": str(TUNNELS),
        "MAX_WEBSOCKET_CONNECTIONS_CLIENT_SHARE": "1",
        "MAX_INFLIGHT": "4000",
        "UPSTREAM_MAX_CONNECTIONS": "4000",
        "BULKHEAD_LIMIT": "4000",
        "LOG_LEVEL": "INFO",
    }
    return start_gateway(plain(f"http://127.0.0.1:{crowd.port}", **limits | variables))


def others_are_served(gateway: GatewayProcess, bound: float = FAIR) -> None:
    found = waits(gateway.port, gateway.worker, "/proxy/ok", time.monotonic() + 3.0)
    assert_fair(found, bound)


def all_of(clients: list[Client], what: str) -> None:
    eventually(lambda: all(getattr(client, what) for client in clients), f"{what} of all", SLOW)


def test_two_thousand(start_gateway: StartGateway, crowd: Crowd) -> None:
    gateway = gateway_of(
        start_gateway, crowd, WEBSOCKET_PING_INTERVAL_SECONDS="2", WEBSOCKET_STALL_TIMEOUT_SECONDS="60"
    )
    before = gateway.memory_bytes()
    clients = crowd.open(gateway.port, TUNNELS, "/proxy/echo")
    assert {client.status for client in clients} == {101}
    gateway.wait_for_metric('websocket_connections_active{route="proxy"}', TUNNELS)
    (refused,) = crowd.open(gateway.port, 1, "/proxy/echo")
    assert refused.status == 503
    before_echo = spent(gateway.worker)
    crowd.send(clients, b"hello")
    all_of(clients, "messages")
    all_of_once = spent(gateway.worker) - before_echo
    all_of(clients, "pings")
    # When all of them answer their Ping at once, each has its turn before a request has.
    others_are_served(gateway, FAIR + all_of_once)
    # 8 kB each, measured; and what a process takes that is at work.
    assert gateway.memory_bytes() - before < TUNNELS * 16_000 + 24_000_000
    gateway.wait_for_line(f"{TUNNELS} active connections of {TUNNELS}")
    # None was given up, and no Pong of theirs has come to the echo.
    assert all(set(client.messages) == {b"hello"} and not client.ended for client in clients)
    crowd.close(clients)
    gateway.wait_for_metric('websocket_connections_active{route="proxy"}', 0, SLOW)
    gateway.wait_for_metric('websocket_connections_ended_total{route="proxy",by="client"}', TUNNELS)


def test_peers_that_take_or_answer_nothing_go_and_the_others_stay(start_gateway: StartGateway, crowd: Crowd) -> None:
    slow_count, dead_count = 200, 300
    gateway = gateway_of(start_gateway, crowd, WEBSOCKET_PING_INTERVAL_SECONDS="2", WEBSOCKET_STALL_TIMEOUT_SECONDS="8")
    before = gateway.memory_bytes()
    most = [0]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            most[0] = max(most[0], gateway.memory_bytes() - before)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        healthy = crowd.open(gateway.port, 200, "/proxy/echo")
        dead = crowd.open(gateway.port, dead_count, "/proxy/echo", answers=False)
        slow = crowd.open(gateway.port, slow_count, "/proxy/flood", reads=False)
        assert {client.status for client in (*healthy, *dead, *slow)} == {101}
        others_are_served(gateway)
        all_of(dead, "ended")
        assert {client.code for client in dead} == {1013}
        for side, by, count in (("client", "backpressure_client", slow_count), ("", "unresponsive_client", dead_count)):
            gateway.wait_for_metric(f'websocket_connections_ended_total{{route="proxy",by="{by}"}}', count, SLOW)
            if side:
                drops = f'websocket_backpressure_drops_total{{route="proxy",side="{side}"}}'
                gateway.wait_for_metric(drops, count)
    finally:
        stop.set()
        watching.join()
    gateway.wait_for_metric('websocket_connections_active{route="proxy"}', len(healthy))
    crowd.send(healthy, b"still here")
    eventually(lambda: all(client.messages == [b"still here"] for client in healthy), "an echo for each", SLOW)
    # One read of 256,000 bytes for each slow reader, beyond the threshold of its buffer.
    assert most[0] < slow_count * (256_000 + 131_072) + 500 * 16_000 + 24_000_000
    gateway.wait_for_line("backpressure: a side took nothing of what waited for it for 8 s")
