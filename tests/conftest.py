"""Fixtures for every suite. Asynchronous tests run on uvloop, as the gateway does."""

import gc
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from gateway import compiled
from tests.support.gateway_process import GatewayProcess
from tests.support.postgres_server import PostgresServer
from tests.support.redis_server import RedisServer, require_redis
from tests.support.stub_process import StubProcess

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], uvloop.Loop]]:
    """One loop for every asynchronous test and fixture (a hook of pytest-asyncio)."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_report_header() -> str:
    """One line at the start says which gateway is tested (a hook of pytest)."""
    return f"gateway: {compiled.HOW}, from {Path(compiled.__file__).parent}"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """The tests that are found stay to the end: the collector of garbage does not look at them, now or later (a hook of
    pytest). In each process that took a quarter of the time in which they are found, and as long again at the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every process of pytest-xdist begins with its part of the tests that are marked `long`, so that none of them is
    still running when all else has ended (a hook of pytest). `--dist worksteal` gives the first process the first share
    of the list, the second one the next, and so on."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes == 1:
        return
    long = [item for item in items if item.get_closest_marker("long")]
    others = [item for item in items if not item.get_closest_marker("long")]
    ordered: list[pytest.Item] = []
    for number in range(processes):
        share = (len(items) - len(ordered)) // (processes - number)
        first = long[number::processes]
        more = max(0, share - len(first))
        ordered += first + others[:more]
        del others[:more]
    items[:] = ordered + others


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line at the end says what did not run, why, and how it would (a hook of pytest)."""
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        return
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    told = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
    terminalreporter.write_line(
        f"{len(skipped)} tests did not run here: {told}. On Debian .ci/run installs what they need."
    )


@pytest.fixture(scope="session")
def redis_installed() -> None:
    """Skips without `redis-server`; fails instead where CI says that everything must run."""
    require_redis()


@pytest.fixture(scope="session")
def redis_server(redis_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis of the whole run. Tests take `redis`, which empties it first."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(redis_server: RedisServer) -> RedisServer:
    """A real Redis, running and empty, whatever the test before did to it."""
    redis_server.ensure_running()
    redis_server.flush()
    return redis_server


@pytest.fixture
def own_redis(redis_installed: None, tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test's own, for killing, pausing and restarting."""
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def stub_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubProcess]:
    """The stub of the whole run. Tests take `stub`, which resets its statistics first."""
    with StubProcess(tmp_path_factory.mktemp("stub")) as process:
        yield process


@pytest.fixture
def stub(stub_process: StubProcess) -> StubProcess:
    """The stub upstream with its statistics at zero."""
    stub_process.reset_stats()
    return stub_process


class StartGateway(Protocol):
    def __call__(
        self, env: Mapping[str, str], *, ready: bool = True, files: Mapping[str, str] | None = None, fork: bool = True
    ) -> GatewayProcess: ...


@pytest.fixture
def start_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartGateway]:
    """Starts gateways with exactly these variables (and `PORT`), in a directory with these files; all of them are gone
    after the test. Without `fork` they are executed (`GatewayProcess`)."""
    started: list[GatewayProcess] = []

    def start(
        env: Mapping[str, str], *, ready: bool = True, files: Mapping[str, str] | None = None, fork: bool = True
    ) -> GatewayProcess:
        gateway = started_gateway(tmp_path_factory, env, files, fork)
        started.append(gateway)
        if ready:
            gateway.wait_until_ready()
        return gateway

    yield start
    for gateway in started:
        gateway.end()


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartGateway]:
    """Like `start_gateway`, but the tests of a module that ask for the same variables and files get the same gateway,
    because a start takes longer than most tests. A test leaves it as it has found it, and counts with
    `GatewayProcess.growth`. If one has ended, whoever asks next gets a new one."""
    running: dict[str, GatewayProcess] = {}

    def start(
        env: Mapping[str, str], *, ready: bool = True, files: Mapping[str, str] | None = None, fork: bool = True
    ) -> GatewayProcess:
        asked = repr((sorted(env.items()), sorted((files or {}).items()), fork))
        if asked not in running or running[asked].returncode is not None:
            running[asked] = started_gateway(tmp_path_factory, env, files, fork)
        if ready:
            running[asked].wait_until_ready()
        return running[asked]

    yield start
    for gateway in running.values():
        gateway.end()


def started_gateway(
    factory: pytest.TempPathFactory, env: Mapping[str, str], files: Mapping[str, str] | None, fork: bool
) -> GatewayProcess:
    """One that runs in a new directory with these files, and need not be ready yet."""
    directory = factory.mktemp("gateway")
    for name, text in (files or {}).items():
        (directory / name).write_text(text)
    return GatewayProcess(env, directory, ready=False, fork=fork)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The PostgreSQL of the whole run. Tests take `postgres_url`, a database of their own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """An empty database in a real PostgreSQL."""
    return postgres_server.new_database()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test's own, for stopping, killing and restarting."""
    with PostgresServer() as server:
        yield server
