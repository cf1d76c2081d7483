"""Gateways whose Redis is far away, at the time limit, or not there at all: what they admit, and how they start."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from tests.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.slow_proxy import SlowProxy
from tests.support.stub_process import StubProcess
from tests.support.waiting import PATIENCE

CAPACITY = 60
RATE = 30.0


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


async def started(start: StartGateway, redis_url: str, stub: StubProcess, **more: str) -> GatewayProcess:
    """In a thread: the proxy lives in this loop, and must work meanwhile."""
    environment = {
        "REDIS_URL": redis_url,
        "UPSTREAM_URL": stub.url,
        "RATE_LIMIT_CAPACITY": str(CAPACITY),
        "RATE_LIMIT_REFILL_RATE": str(RATE),
        **more,
    }
    return await asyncio.to_thread(start, environment)


async def status_of(session: aiohttp.ClientSession, gateway: GatewayProcess) -> int:
    async with session.get(gateway.url + "/proxy/ok") as response:
        await response.read()
        return response.status


def lines(gateway: GatewayProcess, text: str) -> list[str]:
    """What the link says; alerts have their own lines."""
    records = [record for record in gateway.log_records() if record.get("logger") == "gateway.fleet"]
    return [str(record["message"]) for record in records if text in str(record["message"])]


def hover(proxy: SlowProxy) -> None:
    proxy.delay, proxy.jitter = 0.015, 0.02


def packets_late(proxy: SlowProxy) -> None:
    proxy.late_share, proxy.late = 0.05, 0.1


@pytest.mark.parametrize("trouble", [hover, packets_late, None])
async def test_the_excess_is_bounded_whatever_the_regime(
    trouble: Callable[[SlowProxy], None] | None,
    own_redis: RedisServer,
    stub: StubProcess,
    start_gateway: StartGateway,
    session: aiohttp.ClientSession,
) -> None:
    """Two gateways and one client that always asks for more. Without trouble on the way Redis itself stops and goes."""
    async with SlowProxy(("127.0.0.1", own_redis.port)) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        pair = [await started(start_gateway, url, stub) for _ in range(2)]
        await asyncio.sleep(0.5)
        if trouble is not None:
            trouble(proxy)
        statuses: Counter[int] = Counter()
        began = time.monotonic()
        end = began + 6.0

        async def client(gateway: GatewayProcess) -> None:
            while time.monotonic() < end:
                statuses[await status_of(session, gateway)] += 1
                await asyncio.sleep(0.02)

        async def stop_and_go() -> None:
            while trouble is None and time.monotonic() < end:
                await asyncio.sleep(0.4)
                own_redis.pause()
                await asyncio.sleep(0.3)
                own_redis.resume()

        try:
            await asyncio.gather(*(client(pair[n % 2]) for n in range(8)), stop_and_go())
        finally:
            own_redis.resume()
        allowed = CAPACITY + RATE * (time.monotonic() - began)
        assert set(statuses) == {200, 429}
        assert statuses[200] <= allowed + CAPACITY  # docs/behaviour.md
        assert statuses[200] >= 0.6 * allowed


async def test_a_far_redis_is_used_and_a_new_replica_gives_nothing(
    own_redis: RedisServer, stub: StubProcess, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    async with SlowProxy(("127.0.0.1", own_redis.port)) as proxy:
        proxy.delay = 0.035  # 70 ms there and back, beyond the 50 ms of REDIS_TIMEOUT
        url = f"redis://127.0.0.1:{proxy.port}/0"
        slow = {"RATE_LIMIT_REFILL_RATE": "0.01", "RATE_LIMIT_TTL": "36000"}
        first = await started(start_gateway, url, stub, **slow)
        await asyncio.sleep(1.0)
        statuses = Counter([await status_of(session, first) for _ in range(CAPACITY + 5)])
        assert statuses == {200: CAPACITY, 429: 5}
        for _ in range(2):
            other = await started(start_gateway, url, stub, **slow)
            found = Counter([await status_of(session, other) for _ in range(20)])
            assert found[200] == 0, found
            assert not lines(other, "Redis lost")
            other.stop()


async def test_a_debt_is_told_at_the_end(
    own_redis: RedisServer, stub: StubProcess, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    """A gateway that stops right after Redis is back does not keep to itself what it has admitted."""
    slow = {"RATE_LIMIT_REFILL_RATE": "0.01", "RATE_LIMIT_TTL": "36000"}
    gateway = await started(start_gateway, own_redis.url, stub, **slow)
    own_redis.pause()
    assert {await status_of(session, gateway) for _ in range(40)} == {200}
    await asyncio.to_thread(gateway.wait_for_line, "Redis lost")
    own_redis.resume()
    deadline = time.monotonic() + PATIENCE
    while not lines(gateway, "Redis is back"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    gateway.stop()
    tokens = float(own_redis.execute("HGET", "api-gateway:rate-limit:127.0.0.1", "tokens"))
    assert tokens == pytest.approx(CAPACITY - 40, abs=2)


async def test_without_redis_it_starts_within_its_time_and_says_so_once(
    stub: StubProcess, start_gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    gateway = await started(start_gateway, f"redis://127.0.0.1:{free_port()}/0", stub)
    assert await status_of(session, gateway) == 200
    deadline = time.monotonic() + PATIENCE
    while not lines(gateway, "Redis lost"):  # a line leaves the gateway a little later than an answer
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    (line,) = lines(gateway, "Redis lost")
    assert "no answer within 2.0 s of the start" in line
