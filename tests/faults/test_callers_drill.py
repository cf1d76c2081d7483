"""The drill for who asks: two real gateways of two workers each on one Redis, with callers who behave and one who does
not.

Everybody gets the answers that are theirs. How long one waits for them is told in what others got meanwhile, and not in
seconds: these are also those of a machine that is busy.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from statistics import median
from typing import Any

import aiohttp
import pytest
import yaml

from tests.conftest import StartGateway
from tests.support.callers import FILE_KEY, QUIET_KEY, TOKEN, configuration
from tests.support.gateway_process import GatewayProcess
from tests.support.issuer import AUDIENCE, ISSUER, IssuerServer, SigningKey, claims, token
from tests.support.keys import key, sha256
from tests.support.plain_http import Answer
from tests.support.raw_http import AsyncRawClient
from tests.support.redis_server import RedisServer
from tests.support.slow_proxy import SlowProxy
from tests.support.stub_process import StubProcess
from tests.support.waiting import PATIENCE, Stopwatch

REVOKED_WITHIN = 2.0
OPERATOR = {"Authorization": f"Bearer {TOKEN}"}
CONNECTIONS = 12
"""To each gateway. That all of them have the same one of two workers happens once in two thousand times."""

RATE = 30
"""Requests a second that a tier allows, and as many at once."""

Start = Callable[..., GatewayProcess]


@pytest.fixture
def start(start_gateway: StartGateway, stub: StubProcess) -> Start:
    def started(redis: dict[str, str], issuer: str | None = None, **tier: object) -> GatewayProcess:
        env = {"GATEWAY_CONFIG": "gateway.yaml", "ADMIN_TOKEN": TOKEN, "WORKERS": "2", **redis}
        file = configuration(stub, free=tier)
        file["rate_limits"]["tier"] = {"capacity": RATE, "refill_rate": RATE}
        if issuer is not None:
            known = {"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["RS256"], "claims": {"tenant": "org"}}
            file["issuers"] = {"login": {**known, "jwks_url": issuer, "refresh": 10}}
            file["routes"].append(file["routes"][0] | {"name": "tokens", "prefix": "/tokens", "authentication": "jwt"})
        return start_gateway(env, files={"gateway.yaml": yaml.safe_dump(file)})

    return started


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


async def until(condition: Callable[[], Awaitable[bool]], what: str, timeout: float = PATIENCE) -> None:
    try:
        async with asyncio.timeout(timeout):
            while not await condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not {what} within {timeout} s")


def add(gateway: GatewayProcess, key_id: str, consumer: str) -> str:
    """A new key in Redis, through this gateway."""
    text = key(key_id)
    body = json.dumps({"id": key_id, "sha256": sha256(text), "consumer": consumer, "tenant": "acme"}).encode()
    headers = {**OPERATOR, "Content-Type": "application/json"}
    assert gateway.request("POST", "/api/admin/keys", body, headers).status == 200
    return text


def revoke(gateway: GatewayProcess, key_id: str) -> Answer:
    return gateway.request("POST", f"/api/admin/keys/{key_id}/revoke", headers=OPERATOR)


class Client:
    """A kept connection whose requests all have the same head, so that the worker has all that follows from it."""

    def __init__(self, connection: AsyncRawClient, text: str) -> None:
        self._connection = connection
        self._head = f"GET /orders/ok HTTP/1.1\r\nHost: a\r\nX-API-Key: {text}\r\n\r\n".encode()

    async def status(self) -> int:
        return (await self._connection.request(self._head)).status

    async def close(self) -> None:
        await self._connection.close()


async def clients(gateway: GatewayProcess, text: str) -> list[Client]:
    """Clients at all workers."""
    made = [Client(await AsyncRawClient.connect(gateway.port), text) for _ in range(CONNECTIONS)]
    # The news of the new key comes with an exchange of its own, and what was read before it is read again.
    for _ in range(20):
        for each in made:
            await until(lambda each=each: is_admitted(each), "admitted")  # type: ignore[misc]  # bound now
        await asyncio.sleep(0.1)
    return made


async def is_admitted(client: Client) -> bool:
    return await client.status() == 200


async def seconds_until_nobody_passes(asking: Iterable[Client]) -> float:
    """How long it takes until each of them was refused; from then on none of them passes again."""
    asking = list(asking)
    with Stopwatch() as watch:
        left = asking
        while left:
            left = [each for each in left if await each.status() == 200]
            assert watch.seconds < PATIENCE
        took = watch.seconds
    # Without attempts an address gets 429 for what is not known any more, and 503 where Redis is not asked in time.
    assert {await each.status() for each in asking} <= {401, 429, 503}
    return took


async def test_a_revocation_acts_on_all_workers_of_both_gateways(start: Start, redis: RedisServer) -> None:
    one, two = start(redis.variables), start(redis.variables)
    text = add(one, "revokedkey01", "batch")
    other = add(two, "otherkey0001", "other")
    asking = [*await clients(one, text), *await clients(two, text)]
    others = [*await clients(one, other), *await clients(two, other)]
    assert revoke(two, "revokedkey01").status == 200
    assert await seconds_until_nobody_passes(asking) < REVOKED_WITHIN
    assert [await each.status() for each in others] == [200] * len(others)
    for each in (*asking, *others):
        await each.close()


async def test_a_gateway_that_was_cut_off_from_redis_hears_of_a_revocation_as_soon_as_it_is_back(
    start: Start, redis: RedisServer
) -> None:
    async with SlowProxy((redis.host, redis.port)) as line:
        one = await asyncio.to_thread(start, redis.variables)
        two = await asyncio.to_thread(start, {"REDIS_URL": f"redis://127.0.0.1:{line.port}/0"})
        text = await asyncio.to_thread(add, one, "revokedkey01", "batch")
        away, near = await clients(two, text), await clients(one, text)
        line.stall()
        await until(lambda: redis_is(two, "degraded"), "lost")
        assert (await asyncio.to_thread(revoke, one, "revokedkey01")).status == 200
        assert await seconds_until_nobody_passes(near) < REVOKED_WITHIN
        # Nobody can have told this one: what it knew of the key goes on being used.
        assert [await each.status() for each in away] == [200] * len(away)
        line.resume()
        await until(lambda: redis_is(two, "healthy"), "back")
        assert await seconds_until_nobody_passes(away) < REVOKED_WITHIN
        for each in (*away, *near):
            await each.close()


async def test_redis_that_stood_still_makes_no_revocation_late(start: Start, own_redis: RedisServer) -> None:
    one, two = start({"REDIS_URL": own_redis.url}), start({"REDIS_URL": own_redis.url})
    text = add(one, "revokedkey01", "batch")
    asking = [*await clients(one, text), *await clients(two, text)]
    own_redis.pause()
    for gateway in (one, two):
        await until(lambda gateway=gateway: redis_is(gateway, "degraded"), "lost")  # type: ignore[misc]  # bound now
    assert [await each.status() for each in asking] == [200] * len(asking)
    assert (await asyncio.to_thread(revoke, one, "revokedkey01")).status == 503
    own_redis.resume()

    async def revoked() -> bool:
        return (await asyncio.to_thread(revoke, one, "revokedkey01")).status == 200

    await until(revoked, "revoked")
    for gateway in (one, two):
        await until(lambda gateway=gateway: redis_is(gateway, "healthy"), "back")  # type: ignore[misc]  # bound now
    assert await seconds_until_nobody_passes(asking) < REVOKED_WITHIN
    for each in asking:
        await each.close()


async def redis_is(gateway: GatewayProcess, status: str) -> bool:
    """What one of the workers, whichever answers, says of its link."""
    answer = await asyncio.to_thread(gateway.get, "/health")
    return bool(answer.json()["checks"]["redis"]["status"] == status)


class Traffic:
    """What came of the requests of one tenant."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.asked: list[tuple[float, float]] = []
        """When each of the requests began, and when its answer was there (monotonic clock)."""

    async def ask(self, session: aiohttp.ClientSession, url: str, text: str) -> None:
        began = time.monotonic()
        async with session.get(url, headers={"X-API-Key": text}) as response:
            await response.read()
        self.asked.append((began, time.monotonic()))
        self.statuses[response.status] += 1

    async def run(self, session: aiohttp.ClientSession, urls: list[str], text: str, rate: float, total: int) -> None:
        """`total` requests at an even rate whatever becomes of them, at each of the addresses in turn."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for at in range(total):
                await asyncio.sleep(began + at / rate - time.monotonic())
                tasks.create_task(self.ask(session, urls[at % len(urls)], text))

    def overtaken_by(self, other: "Traffic") -> list[int]:
        """For each of the requests, in ascending order, how many of the other's began after it and were answered
        before it."""
        return sorted(
            sum(began < start and end < answered for start, end in other.asked) for began, answered in self.asked
        )


async def test_a_noisy_tenant_at_ten_times_its_tier_leaves_the_quiet_one_as_it_was(
    start: Start, redis: RedisServer, session: aiohttp.ClientSession
) -> None:
    # More than ten times what the tier allows, a quarter of it slow: four may be in flight at each gateway, and there
    # would be forty.
    tier = {"rate_limit": "tier", "concurrency": 4}
    one, two = start(redis.variables, **tier), start(redis.variables, **tier)
    urls = [f"{gateway.url}/orders/ok" for gateway in (one, two)]
    slow = [f"{gateway.url}/orders/slow?ms=400" for gateway in (one, two)]
    quiet, noise, crowd = Traffic(), Traffic(), Traffic()
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(noise.run(session, urls, FILE_KEY, 300.0, 1200))
        tasks.create_task(crowd.run(session, slow, FILE_KEY, 100.0, 400))
        tasks.create_task(quiet.run(session, urls, QUIET_KEY, 25.0, 100))
    took = time.monotonic() - began
    assert quiet.statuses == {200: 100}
    admitted = noise.statuses[200] + crowd.statuses[200]
    assert set(noise.statuses) | set(crowd.statuses) == {200, 429}
    assert admitted <= RATE + RATE * took + 1
    assert noise.statuses[429] > noise.statuses[200]
    # The noise is 300 requests in a second. One who has to wait behind it sees more of it go by than these.
    overtaken = quiet.overtaken_by(noise)
    assert median(overtaken) < 30
    assert overtaken[-2] < 100, "all but one"


async def used_today(session: aiohttp.ClientSession, gateway: GatewayProcess) -> int:
    async with session.get(f"{gateway.url}/api/resilience/tenants", headers=OPERATOR) as response:
        tenants: list[dict[str, Any]] = (await response.json())["tenants"]
    return next(int(each["usedToday"]) for each in tenants if each["tenant"] == "acme")


async def test_a_quota_is_that_of_the_fleet_and_counted_exactly(
    start: Start, redis: RedisServer, session: aiohttp.ClientSession
) -> None:
    quota = 60
    one, two = start(redis.variables, quota_per_day=quota), start(redis.variables, quota_per_day=quota)
    urls = [f"{gateway.url}/orders/ok" for gateway in (one, two)]
    traffic, rate = Traffic(), 60.0
    with Stopwatch() as watch:
        await traffic.run(session, urls, FILE_KEY, rate, 180)
    admitted = traffic.statuses[200]
    assert traffic.statuses == {200: admitted, 429: 180 - admitted}
    # While the machine runs neither Redis nor the gateways, they cannot tell each other what they have let pass.
    assert quota <= admitted <= quota + 8 + rate * watch.lost
    for gateway in (one, two):
        # Whichever worker answers, and nothing is counted twice or lost.
        for _ in range(6):
            await until(lambda gateway=gateway: counted(session, gateway, admitted), "counted")  # type: ignore[misc]  # bound now
    (day,) = redis.execute("KEYS", "api-gateway:usage:*")
    assert redis.execute("HGET", day, "t:acme") == str(admitted)
    more = Traffic()
    await more.run(session, urls, FILE_KEY, 100.0, 40)
    assert more.statuses == {429: 40}


async def counted(session: aiohttp.ClientSession, gateway: GatewayProcess, admitted: int) -> bool:
    return await used_today(session, gateway) == admitted


def of_acme(signed_by: SigningKey, **says: Any) -> str:
    return token(signed_by, claims(time.time(), org="acme", **says))


async def statuses(
    session: aiohttp.ClientSession, gateways: Iterable[GatewayProcess], make: Callable[[int], str]
) -> Counter[int]:
    """What each gateway answers to twelve tokens, each on a connection of its own, so that all workers are asked."""
    found: Counter[int] = Counter()
    for gateway in gateways:
        for at in range(CONNECTIONS):
            headers = {"Authorization": f"Bearer {make(at)}", "Connection": "close"}
            async with session.get(f"{gateway.url}/tokens/ok", headers=headers) as response:
                await response.read()
                found[response.status] += 1
    return found


async def test_an_issuer_that_rotates_its_keys_goes_away_and_comes_back_is_followed_by_all_workers(
    start: Start, redis: RedisServer, session: aiohttp.ClientSession
) -> None:
    first, second, third = SigningKey("k1"), SigningKey("k2"), SigningKey("k3")
    everywhere = 2 * CONNECTIONS
    with IssuerServer(first) as issuer:
        pair = [start(redis.variables, issuer=issuer.url) for _ in range(2)]
        old = of_acme(first, jti="old")
        assert await statuses(session, pair, lambda _: old) == {200: everywhere}
        # A new key is fetched with the first token that needs it, and what the old one has signed is good no longer.
        issuer.answer = issuer.serving(second)
        assert await statuses(session, pair, lambda at: of_acme(second, jti=f"new {at}")) == {200: everywhere}
        for gateway in pair:
            answer = await asyncio.to_thread(gateway.get, "/tokens/ok", {"Authorization": f"Bearer {old}"})
            assert (answer.status, answer.json()["reason"]) == (401, "unauthenticated")
        # It is gone: tokens of keys that are known go on, new ones among them.
        issuer.answer = issuer.saying(b"gone", 503)
        assert await statuses(session, pair, lambda at: of_acme(second, jti=f"alone {at}")) == {200: everywhere}
        fetches = issuer.fetches
        issuer.answer = issuer.serving(second, third)

        async def followed() -> bool:
            made = await statuses(session, pair, lambda at: of_acme(third, jti=f"back {at} {time.time()}"))
            return made == {200: everywhere}

        # An unknown key is asked for once a minute at most, and keys are fetched again every ten seconds.
        await until(followed, "followed", 150.0)
        assert issuer.fetches - fetches < 60
