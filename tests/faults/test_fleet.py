"""Two real gateways on one real Redis, with real signals: what the replicas share, and what they do without it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.stub_process import StubProcess
from tests.support.waiting import PATIENCE, Stopwatch

# A bucket that gains nothing while a test runs, so that counts are exact.
_CAPACITY = 120
_LIMITED = {"RATE_LIMIT_CAPACITY": str(_CAPACITY), "RATE_LIMIT_REFILL_RATE": "0.1", "RATE_LIMIT_TTL": "7200"}
_UNLIMITED = {"RATE_LIMIT_CAPACITY": "1000000", "RATE_LIMIT_REFILL_RATE": "1000000"}
_BREAKER = {**_UNLIMITED, "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "5", "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": "1"}


def environment(redis: RedisServer, stub: StubProcess, **more: str) -> dict[str, str]:
    return {**redis.variables, "UPSTREAM_URL": stub.url, **more}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=64)) as session:
        yield session


async def status_of(session: aiohttp.ClientSession, gateway: GatewayProcess, path: str = "/proxy/ok") -> int:
    async with session.get(gateway.url + path) as response:
        await response.read()
        return response.status


async def until_shared(gateway: GatewayProcess, session: aiohttp.ClientSession) -> None:
    """Until the gateway has Redis; limits are only shared from then on."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with session.get(gateway.url + "/health") as response:
                if (await response.json())["checks"]["redis"]["status"] == "healthy":
                    return
            await asyncio.sleep(0.05)


async def test_a_client_limited_to_n_gets_n_over_both(
    redis: RedisServer, stub: StubProcess, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    pair = [start_gateway(environment(redis, stub, **_LIMITED)) for _ in range(2)]
    for gateway in pair:
        await until_shared(gateway, session)
    statuses = Counter(await asyncio.gather(*(status_of(session, pair[n % 2]) for n in range(5 * _CAPACITY))))
    assert statuses == {200: _CAPACITY, 429: 4 * _CAPACITY}


async def test_killing_a_replica_never_lets_more_through(
    redis: RedisServer, stub: StubProcess, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    pair = [start_gateway(environment(redis, stub, **_LIMITED)) for _ in range(2)]
    for gateway in pair:
        await until_shared(gateway, session)
    admitted = 0

    async def client(gateway: GatewayProcess) -> None:
        nonlocal admitted
        for _ in range(40):
            try:
                passed = await status_of(session, gateway) == 200
            except aiohttp.ClientError:
                return
            admitted += passed

    async def kill() -> None:
        while admitted < _CAPACITY // 3:
            await asyncio.sleep(0.001)
        pair[0].kill()

    await asyncio.gather(*(client(pair[n % 2]) for n in range(16)), kill())
    # What the dead replica had leased, or was just sending, is lost; nothing is given twice.
    assert _CAPACITY // 2 < admitted <= _CAPACITY


async def test_a_trip_through_one_is_open_in_the_other_within_250_ms(
    redis: RedisServer, stub: StubProcess, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    settings = {**_BREAKER, "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": "30"}
    first, second = (start_gateway(environment(redis, stub, **settings)) for _ in range(2))
    for gateway in (first, second):
        await until_shared(gateway, session)
        assert await status_of(session, gateway) == 200
    for _ in range(5):
        assert await status_of(session, first, "/proxy/fail") == 500
    with Stopwatch() as watch:
        while await status_of(session, second) != 503:
            assert watch.seconds < 0.25, "the other replica still lets requests through"
            await asyncio.sleep(0.01)

    redis.execute("DEL", "api-gateway:circuit-breaker")
    async with asyncio.timeout(PATIENCE):
        for gateway in (first, second):
            while await status_of(session, gateway) != 200:
                await asyncio.sleep(0.02)


async def test_half_open_sends_one_probe_at_a_time_from_both(
    redis: RedisServer, stub: StubProcess, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    pair = [start_gateway(environment(redis, stub, **_BREAKER)) for _ in range(2)]
    for gateway in pair:
        await until_shared(gateway, session)
    for _ in range(5):
        await status_of(session, pair[0], "/proxy/fail")
    while await status_of(session, pair[1]) != 503:
        await asyncio.sleep(0.01)
    stub.reset_stats()
    statuses: Counter[int] = Counter()

    async def knock(gateway: GatewayProcess) -> None:
        # Slow probes, so that a second one at the same time would be seen.
        while not statuses[200]:
            statuses[await status_of(session, gateway, "/proxy/slow?seconds=0.6")] += 1
            await asyncio.sleep(0.005)

    await asyncio.gather(*(knock(pair[n % 2]) for n in range(8)))
    assert stub.stats()["max_in_flight"] == 1
    assert statuses[503] > statuses[200] > 0


@pytest.mark.parametrize("fault", ["stop", "kill"])
async def test_without_redis_every_replica_goes_on_and_rejoins(
    fault: str, own_redis: RedisServer, stub: StubProcess, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    limits = {"RATE_LIMIT_CAPACITY": "400", "RATE_LIMIT_REFILL_RATE": "200"}
    # With the limits of time of production: they are what this is about.
    gateway = start_gateway({"REDIS_URL": own_redis.url, "UPSTREAM_URL": stub.url, **limits})
    await until_shared(gateway, session)
    statuses: Counter[int] = Counter()
    slowest = 0.0
    over = False

    async def client() -> None:
        nonlocal slowest
        while not over:
            began = time.monotonic()
            statuses[await status_of(session, gateway)] += 1
            slowest = max(slowest, time.monotonic() - began)
            await asyncio.sleep(0.02)

    load = [asyncio.create_task(client()) for _ in range(8)]
    await asyncio.sleep(0.5)
    before, slowest = slowest, 0.0
    if fault == "stop":
        own_redis.pause()
    else:
        own_redis.kill()
    await asyncio.sleep(1.5)
    async with asyncio.timeout(PATIENCE):
        while (await (await session.get(gateway.url + "/health")).json())["status"] != "degraded":
            await asyncio.sleep(0.05)
    during = slowest
    if fault == "stop":
        own_redis.resume()
    else:
        own_redis.restart()
    with Stopwatch() as watch:
        await until_shared(gateway, session)
        # "Within a second of its return"; a restarted server needs a moment before it has returned.
        assert watch.seconds < 2.0
    await asyncio.sleep(0.3)
    over = True
    await asyncio.gather(*load)
    assert set(statuses) <= {200, 429}
    assert statuses[200] > 200
    # The time limit of one store call (50 ms), on top of what the machine took before; with room for a busy machine.
    assert during < before + 0.5


async def test_a_gateway_whose_redis_is_down_starts_and_joins_when_it_comes(
    own_redis: RedisServer, stub: StubProcess, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    own_redis.kill()
    gateway = start_gateway(environment(own_redis, stub, **_LIMITED))
    assert await status_of(session, gateway) == 200
    async with session.get(gateway.url + "/health") as response:
        report = await response.json()
    assert report["status"] == "degraded"
    assert own_redis.url not in str(report)
    own_redis.restart()
    await until_shared(gateway, session)
    assert await status_of(session, gateway) == 200
    assert await asyncio.to_thread(gateway.stop) == 0
    assert len(gateway.log_records(event="redis_lost")) == 1
