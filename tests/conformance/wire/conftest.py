"""One upstream and one gateway for each module. No rate limit, no breaker, no retries: only the wire."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.wire.upstream import ProgrammedUpstream
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient

PLAIN = {
    "RATE_LIMIT_ENABLED": "false",
    "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "10000",
    "CIRCUIT_BREAKER_WINDOW_SIZE": "100000",
    "CIRCUIT_BREAKER_MINIMUM_CALLS": "100000",
    "RETRY_MAX_ATTEMPTS": "1",
    # Longer than any pause of a test or of the machine. Tests of these limits set them.
    "UPSTREAM_TIMEOUT": "15",
    "UPSTREAM_TOTAL_TIMEOUT": "25",
    "UPSTREAM_IDLE_TIMEOUT": "15",
    "DRAIN_TIMEOUT_SECONDS": "0",
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ProgrammedUpstream]:
    with ProgrammedUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(upstream: ProgrammedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    directory: Path = tmp_path_factory.mktemp("gateway")
    with GatewayProcess({**PLAIN, "UPSTREAM_URL": upstream.url}, directory) as process:
        yield process


@pytest.fixture
def connect(gateway: GatewayProcess) -> Iterator[Callable[[], RawClient]]:
    """Opens raw connections to the gateway; all are closed after the test."""
    clients: list[RawClient] = []

    def open_one() -> RawClient:
        clients.append(RawClient(gateway.port))
        return clients[-1]

    yield open_one
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Callable[[], RawClient]) -> RawClient:
    return connect()
