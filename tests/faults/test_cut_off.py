"""Two real gateways on one Redis, of which one cannot reach the upstream: its network is broken, or the upstream dead.

What is cut off is an address: the broken replica's points at a port that nobody listens on.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.stub_process import StubProcess
from tests.support.waiting import PATIENCE, Stopwatch, eventually

KEY = "api-gateway:circuit-breaker"
RESET = 1.0
SETTINGS = {
    "RATE_LIMIT_ENABLED": "false",
    "RETRY_MAX_ATTEMPTS": "1",
    "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": str(RESET),
}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


class Pair:
    """A replica that cannot reach the upstream, and another one."""

    def __init__(self, session: aiohttp.ClientSession, redis: RedisServer, *gateways: GatewayProcess) -> None:
        self.session = session
        self.redis = redis
        self.cut_off, self.other = gateways

    async def status(self, gateway: GatewayProcess, path: str = "/proxy/ok") -> int:
        async with self.session.get(gateway.url + path) as response:
            await response.read()
            return response.status

    async def circuit(self, gateway: GatewayProcess) -> dict[str, object]:
        async with self.session.get(gateway.url + "/status/breakers") as response:
            circuit: dict[str, object] = (await response.json())["default"]
            return circuit

    async def until_both_share(self) -> None:
        for gateway in (self.cut_off, self.other):
            for _ in range(600):
                async with self.session.get(gateway.url + "/health") as response:
                    redis = (await response.json())["checks"]["redis"]
                if redis["status"] == "healthy":
                    break
                await asyncio.sleep(0.05)
        deadline = time.monotonic() + PATIENCE
        while len([name for name in self.redis.execute("HKEYS", KEY) if name.startswith("replica:")]) < 2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    async def knock(self, gateway: GatewayProcess, every: float, seconds: float) -> Counter[int]:
        statuses: Counter[int] = Counter()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            statuses[await self.status(gateway)] += 1
            await asyncio.sleep(every)
        return statuses

    def transitions(self, gateway: GatewayProcess) -> list[str]:
        return [str(r["message"]) for r in gateway.log_records() if "Circuit breaker" in str(r.get("message"))]


def start_pair(
    session: aiohttp.ClientSession, redis: RedisServer, start: StartGateway, other: str, **more: str
) -> Pair:
    dead = f"http://127.0.0.1:{free_port()}"
    urls = (dead, other or dead)
    return Pair(session, redis, *(start({**redis.variables, "UPSTREAM_URL": url, **SETTINGS, **more}) for url in urls))


async def test_a_quiet_healthy_replica_stays_closed(
    redis: RedisServer, stub: StubProcess, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    pair = start_pair(session, redis, start_gateway, stub.url)
    await pair.until_both_share()
    cut_off, quiet = await asyncio.gather(pair.knock(pair.cut_off, 0.02, 4.0), pair.knock(pair.other, 0.7, 4.0))
    assert set(quiet) == {200}
    assert pair.transitions(pair.other) == []
    assert redis.execute("HGET", KEY, "state") == "closed"
    # The other one is open for itself, says why, and tries again by itself.
    assert cut_off[502] < 15
    assert cut_off[503] > 50
    circuit = await pair.circuit(pair.cut_off)
    assert circuit["state"] in {"open", "half_open"}
    await asyncio.to_thread(pair.cut_off.wait_for_line, "no connection from this replica")

    def half_opens() -> int:
        return sum("HALF_OPEN" in line for line in pair.transitions(pair.cut_off))

    await asyncio.to_thread(eventually, lambda: half_opens() >= 2, "half-open twice")


async def test_a_replica_without_traffic_stays_closed_and_serves_what_comes_then(
    redis: RedisServer, stub: StubProcess, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    pair = start_pair(session, redis, start_gateway, stub.url, CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS="30")
    await pair.until_both_share()
    await pair.knock(pair.cut_off, 0.01, 1.0)
    circuit = await pair.circuit(pair.cut_off)
    assert circuit["state"] == "open"
    assert "no connection from this replica" in str(circuit["cause"])
    assert (await pair.circuit(pair.other))["state"] == "closed"
    _, served = await asyncio.gather(pair.knock(pair.cut_off, 0.01, 1.0), pair.knock(pair.other, 0.01, 1.0))
    assert set(served) == {200}


async def test_a_dead_upstream_is_open_in_an_idle_replica_within_250_ms(
    redis: RedisServer, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    pair = start_pair(session, redis, start_gateway, "", CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS="30")
    await pair.until_both_share()
    for round_ in range(5):
        for _ in range(5):
            assert await pair.status(pair.cut_off) == 502
        with Stopwatch() as watch:
            while (await pair.circuit(pair.other))["state"] != "open":
                assert watch.seconds < 0.25, f"the idle replica is not open, round {round_}"
                await asyncio.sleep(0.005)
        assert await pair.status(pair.other) == 503
        redis.execute("DEL", KEY)
        for gateway in (pair.cut_off, pair.other):
            while (await pair.circuit(gateway))["state"] != "closed":
                await asyncio.sleep(0.01)
        await pair.until_both_share()


async def test_an_upstream_without_tls_is_to_blame_itself(
    redis: RedisServer, stub: StubProcess, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    url = stub.url.replace("http://", "https://")
    env = {**redis.variables, "UPSTREAM_URL": url, **SETTINGS, "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": "30"}
    pair = Pair(session, redis, start_gateway(env), start_gateway(env))
    await pair.until_both_share()
    for _ in range(5):
        assert await pair.status(pair.cut_off) == 502
    while redis.execute("HGET", KEY, "state") != "open":
        await asyncio.sleep(0.01)
    assert (await pair.circuit(pair.cut_off))["cause"] == "5 consecutive failures"


async def test_the_one_cut_off_cannot_spoil_half_open(
    redis: RedisServer, stub: StubProcess, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    pair = start_pair(session, redis, start_gateway, stub.url)
    await pair.until_both_share()
    for _ in range(5):
        assert await pair.status(pair.other, "/proxy/fail") == 500
    assert await pair.status(pair.other) == 503
    while (await pair.circuit(pair.cut_off))["state"] != "open":
        await asyncio.sleep(0.01)
    knocking = asyncio.create_task(pair.knock(pair.cut_off, 0.005, 4.0))
    # Until it has had the first probe, and nobody else has asked.
    await asyncio.sleep(RESET + 0.5)
    assert (await pair.circuit(pair.cut_off))["state"] == "open"
    assert redis.execute("HGET", KEY, "state") == "half_open"
    assert await pair.status(pair.other) == 200
    # How the probe ended is told to the store after its answer; until then its place is taken.
    while redis.execute("HGET", KEY, "successes") != "1":
        await asyncio.sleep(0.01)
    assert await pair.status(pair.other) == 200
    # Likewise of the second probe, with which the circuit closes.
    while (await pair.circuit(pair.other))["state"] != "closed":
        await asyncio.sleep(0.01)
    assert set(await pair.knock(pair.other, 0.3, 1.5)) == {200}
    statuses = await knocking
    # The one probe, what it took to open for itself, and a probe of its own or two.
    assert statuses[502] <= 9
    assert (await pair.circuit(pair.other))["state"] == "closed"


async def test_a_dead_upstream_reopens_through_one_probe(
    redis: RedisServer, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    pair = start_pair(session, redis, start_gateway, "", CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS="2")
    await pair.until_both_share()
    for _ in range(5):
        assert await pair.status(pair.cut_off) == 502
    while redis.execute("HGET", KEY, "state") != "half_open":
        await asyncio.sleep(0.02)
    # The other one may have seen to that: this one hears of it within an interval.
    while await pair.status(pair.cut_off) != 502:
        await asyncio.sleep(0.01)
    with Stopwatch() as watch:
        while redis.execute("HGET", KEY, "state") != "open":
            assert watch.seconds < 0.25
            await asyncio.sleep(0.005)
    assert await pair.status(pair.cut_off) == 503


async def test_the_probe_of_a_killed_replica_holds_nobody_up(
    redis: RedisServer, stub: StubProcess, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    pair = start_pair(session, redis, start_gateway, stub.url)
    second = start_gateway({**redis.variables, "UPSTREAM_URL": stub.url, **SETTINGS})
    await pair.until_both_share()
    for _ in range(5):
        assert await pair.status(pair.other, "/proxy/fail") == 500
    while redis.execute("HGET", KEY, "state") != "half_open":
        await asyncio.sleep(0.02)
    probe = asyncio.create_task(pair.status(pair.other, "/proxy/slow?seconds=25"))
    async with asyncio.timeout(PATIENCE):
        while stub.stats()["in_flight"] < 1:
            await asyncio.sleep(0.02)
    pair.other.kill()
    killed = time.monotonic()
    with pytest.raises(aiohttp.ClientError):
        await probe
    while await pair.status(second) != 200:
        assert time.monotonic() - killed < 20.0
        await asyncio.sleep(0.05)
    assert time.monotonic() - killed > 1.0
