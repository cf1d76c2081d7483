"""The limiter over the memory store, and over a real Redis that is paused, killed and restarted."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from gateway.config.sections.redis.model import RedisConfig
from gateway.fleet.limiter import Limiter, SharedLimiter
from gateway.fleet.link import Link
from gateway.policy.lease import LEASE_TIME
from gateway.policy.lease.ask import Ask, Grant
from gateway.policy.token_bucket import Decision, RateLimitPolicy
from gateway.store.memory import MemoryStore, SharedMemory
from gateway.store.port import StoreUnavailable
from gateway.store.redis import RedisStore
from tests.support.redis_server import RedisServer
from tests.support.waiting import PATIENCE, Stopwatch

CLIENT = "192.0.2.1"
HUNDRED = RateLimitPolicy("default", 100, 0.001)
TIMEOUT = 0.05
SLACK = 0.25  # for a busy machine


class Gated(MemoryStore):
    """A memory store that answers when it is let: as slow, as absent or as broken as a test wants."""

    time_limit = 5.0  # whatever the machine does

    def __init__(self, shared: SharedMemory | None = None, replica: str = "a") -> None:
        super().__init__(shared, replica)
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls: list[list[Ask]] = []
        self.failure: Exception | None = None

    async def take(self, asks: Sequence[Ask]) -> Sequence[Grant]:
        self.calls.append(list(asks))
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return await super().take(asks)


def up(replicas: int = 1) -> Link:
    link = Link()
    link.back(replicas)
    return link


async def decide(limiter: Limiter, policy: RateLimitPolicy, client: str = CLIENT) -> Decision:
    """As the gate does it."""
    decision = limiter.try_take(policy, client, time.monotonic())
    if decision is not None:
        return decision
    answered: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
    limiter.take(policy, client, answered.set_result)  # a second answer would raise
    return await answered


async def allowed(decisions: Sequence[Awaitable[Decision]]) -> int:
    return sum(decision.allowed for decision in await asyncio.gather(*decisions))


@pytest.fixture
async def made() -> AsyncIterator[Callable[[SharedLimiter], SharedLimiter]]:
    limiters: list[SharedLimiter] = []

    def keep(limiter: SharedLimiter) -> SharedLimiter:
        limiters.append(limiter)
        return limiter

    yield keep
    for limiter in limiters:
        await limiter.close()


Keep = Callable[[SharedLimiter], SharedLimiter]


async def test_the_clients_of_one_turn_share_a_call(made: Keep) -> None:
    store = Gated()
    limiter = made(SharedLimiter(store, up()))
    assert await allowed([decide(limiter, HUNDRED, f"client-{i}") for i in range(20)]) == 20
    assert [len(asks) for asks in store.calls] == [20]


async def test_what_comes_while_a_call_is_under_way_goes_into_the_next(made: Keep) -> None:
    store = Gated()
    store.gate.clear()
    limiter = made(SharedLimiter(store, up()))
    waiting = []
    for i in range(10):
        waiting.append(asyncio.ensure_future(decide(limiter, HUNDRED, f"client-{i}")))
        await asyncio.sleep(0.001)
    under_way = [len(asks) for asks in store.calls]
    store.gate.set()
    assert await allowed(waiting) == 10
    assert under_way == [1]
    assert [len(asks) for asks in store.calls] == [1, 9]


async def test_a_hot_client_stops_asking(made: Keep) -> None:
    policy = RateLimitPolicy("default", 100_000, 100_000.0)
    store = Gated()
    limiter = made(SharedLimiter(store, up()))
    for _ in range(200):
        assert await allowed([decide(limiter, policy) for _ in range(20)]) == 20
    assert len(store.calls) < 200


async def test_a_lease_is_given_back_when_the_client_goes_silent(made: Keep) -> None:
    shared = SharedMemory()
    limiter = made(SharedLimiter(MemoryStore(shared, "a"), up()))
    assert await allowed([decide(limiter, HUNDRED) for _ in range(5)]) == 5
    assert shared.buckets.take("b", [Ask(HUNDRED, CLIENT, 0)])[0].held_elsewhere > 0
    async with asyncio.timeout(30):
        while (grant := shared.buckets.take("b", [Ask(HUNDRED, CLIENT, 0)])[0]).held_elsewhere:
            await asyncio.sleep(LEASE_TIME)
    assert grant.remaining == pytest.approx(95, abs=0.01)


async def test_close_gives_back_the_leases() -> None:
    shared = SharedMemory()
    limiter = SharedLimiter(MemoryStore(shared, "a"), up())
    assert await allowed([decide(limiter, HUNDRED) for _ in range(5)]) == 5
    await limiter.close()
    (grant,) = shared.buckets.take("b", [Ask(HUNDRED, CLIENT, 0)])
    assert grant.held_elsewhere == 0
    assert grant.remaining == pytest.approx(95, abs=0.01)
    assert (await decide(limiter, HUNDRED)).allowed  # whoever still comes is decided here


async def test_close_leaves_nobody_waiting() -> None:
    store = Gated()
    store.gate.clear()
    limiter = SharedLimiter(store, up())
    waiting = [asyncio.ensure_future(decide(limiter, HUNDRED, client)) for client in ("a", "b")]
    await asyncio.sleep(0.001)
    waiting.append(asyncio.ensure_future(decide(limiter, HUNDRED, "a")))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(limiter.close())
    await asyncio.sleep(0)
    store.gate.set()
    await closing
    assert await allowed(waiting) == 3


@pytest.mark.parametrize("replicas", [1, 2, 3])
async def test_a_client_limited_to_n_gets_n_over_all_replicas(made: Keep, replicas: int) -> None:
    shared = SharedMemory()
    limiters = [made(SharedLimiter(MemoryStore(shared, f"r{i}"), up())) for i in range(replicas)]

    async def client(i: int) -> int:
        await asyncio.sleep(i % 7 * 0.003)
        return (await decide(limiters[i % replicas], HUNDRED)).allowed

    assert sum(await asyncio.gather(*(client(i) for i in range(300)))) == 100


@pytest.mark.parametrize(
    ("on_failure", "expected"),
    [("local", [True, True, False]), ("open", [True, True, True]), ("closed", [False, False, False])],
)
async def test_without_the_store(made: Keep, on_failure: str, expected: list[bool]) -> None:
    policy = RateLimitPolicy("default", 4, 0.001)
    link = Link()
    link.replicas = 2
    limiter = made(SharedLimiter(Gated(), link, on_failure))  # type: ignore[arg-type]
    decisions = [limiter.try_take(policy, CLIENT, 1.0) for _ in range(3)]
    assert [decision and decision.allowed for decision in decisions] == expected
    if on_failure == "closed":
        assert decisions[0] == Decision(False, 0.0, 1.0, 1.0)


async def test_a_failing_store_decides_everybody_at_once(made: Keep) -> None:
    store = Gated()
    store.gate.clear()
    link = up()
    limiter = made(SharedLimiter(store, link))
    waiting = [asyncio.ensure_future(decide(limiter, HUNDRED, f"client-{i % 40}")) for i in range(200)]
    await asyncio.sleep(0.001)
    store.failure = StoreUnavailable("gone")
    store.gate.set()
    assert await allowed(waiting) == 200
    assert (link.up, link.last_error) == (False, "gone")
    assert limiter.try_take(HUNDRED, "client-0", time.monotonic()) is not None


async def test_a_defective_store_stalls_nobody(made: Keep) -> None:
    heard: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(repr(context.get("exception"))))
    store = Gated()
    store.failure = ValueError("a defect")
    limiter = made(SharedLimiter(store, up()))
    assert (await decide(limiter, HUNDRED)).allowed
    await asyncio.sleep(0.001)
    assert heard == ["ValueError('a defect')"]


async def test_one_that_cannot_be_resumed_does_not_harm_the_next(made: Keep) -> None:
    heard: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(repr(context.get("exception"))))
    limiter = made(SharedLimiter(MemoryStore(), up()))

    def fail(decision: Decision) -> None:
        raise RuntimeError("gone")

    limiter.take(HUNDRED, CLIENT, fail)
    assert (await decide(limiter, HUNDRED)).allowed
    assert heard == ["RuntimeError('gone')"]


async def test_alone_a_client_begins_with_what_was_left_and_the_store_hears_of_it(made: Keep) -> None:
    policy = RateLimitPolicy("default", 20, 0.001)
    store = Gated()
    link = up()
    limiter = made(SharedLimiter(store, link))
    assert await allowed([decide(limiter, policy) for _ in range(12)]) == 12
    await asyncio.sleep(LEASE_TIME + 0.05)
    link.lost(StoreUnavailable("gone"))
    assert await allowed([decide(limiter, policy) for _ in range(5)]) == 5
    link.back(1)
    assert await allowed([decide(limiter, policy) for _ in range(20)]) == 3
    link.lost(StoreUnavailable("gone"))
    assert await allowed([decide(limiter, policy) for _ in range(5)]) == 0


async def test_parked_requests_are_decided_when_the_link_is_lost_meanwhile(made: Keep) -> None:
    shared = SharedMemory()
    link = up()
    limiter = made(SharedLimiter(MemoryStore(shared, "a"), link))
    shared.buckets.take("b", [Ask(HUNDRED, CLIENT, 94, lease=6)])
    shared.buckets.take("c", [Ask(HUNDRED, CLIENT, 100)])
    waiting = asyncio.ensure_future(decide(limiter, HUNDRED))
    await asyncio.sleep(0.01)
    link.lost(StoreUnavailable("gone"))
    decision = await asyncio.wait_for(waiting, 30.0)
    assert not decision.allowed


async def test_a_lease_that_ends_while_the_store_is_away_leaves_nobody_waiting_for_ever(made: Keep) -> None:
    store, link = Gated(), up()
    limiter = made(SharedLimiter(store, link))
    policy = RateLimitPolicy("default", 1_000, 1_000.0)
    for _ in range(20):  # hot, so that it gets a lease
        await decide(limiter, policy)
    assert limiter.try_take(policy, CLIENT, time.monotonic()) is not None
    link.lost(StoreUnavailable("gone"))
    await asyncio.sleep(3 * LEASE_TIME)
    link.back(1)
    assert (await asyncio.wait_for(decide(limiter, policy), 30.0)).allowed


class OnRedis:
    """Replicas over a real Redis, each with a link that stands as the test puts it."""

    def __init__(self, server: RedisServer, replicas: int, timeout: float) -> None:
        self.server = server
        config = RedisConfig("single", ((server.host, server.port),), timeout=timeout)
        self.links = [up(replicas) for _ in range(replicas)]
        self.stores = [RedisStore(config, f"r{i}") for i in range(replicas)]
        self.limiters = [SharedLimiter(store, link) for store, link in zip(self.stores, self.links, strict=True)]

    async def warm(self) -> None:
        """Connect, and wait for the link as the sync loop would."""
        for store, link in zip(self.stores, self.links, strict=True):
            for _ in range(400):
                try:
                    await store.take([])
                except StoreUnavailable:
                    await asyncio.sleep(0.05)
                else:
                    link.back(len(self.links))
                    break

    async def close(self) -> None:
        for limiter in self.limiters:
            await limiter.close()
        for store in self.stores:
            await store.close()


@pytest.fixture
async def fleet(own_redis: RedisServer) -> AsyncIterator[OnRedis]:
    fleet = OnRedis(own_redis, 2, TIMEOUT)
    await fleet.warm()
    yield fleet
    own_redis.resume()
    await fleet.close()


@pytest.fixture
async def patient_fleet(redis: RedisServer) -> AsyncIterator[OnRedis]:
    """One that does not take a busy machine for a lost Redis."""
    fleet = OnRedis(redis, 2, 2.0)
    await fleet.warm()
    yield fleet
    await fleet.close()


async def test_on_redis_a_client_limited_to_n_gets_n(patient_fleet: OnRedis) -> None:
    fleet = patient_fleet
    for n in (1, 15, 20, 64, 200):
        policy = RateLimitPolicy("default", n, 0.0001)
        client = f"client-of-{n}"

        async def request(i: int, policy: RateLimitPolicy = policy, client: str = client) -> int:
            await asyncio.sleep(i % 5 * 0.002)
            return (await decide(fleet.limiters[i % 2], policy, client)).allowed

        assert sum(await asyncio.gather(*(request(i) for i in range(2 * n + 20)))) == n
    assert all(link.up for link in fleet.links)


async def test_a_paused_redis_costs_its_time_limit_once(fleet: OnRedis) -> None:
    policy = RateLimitPolicy("default", 1000, 1000.0)
    limiter, link = fleet.limiters[0], fleet.links[0]
    assert (await decide(limiter, policy, "before")).allowed
    fleet.server.pause()

    with Stopwatch() as watch:
        assert await allowed([decide(limiter, policy, f"client-{i}") for i in range(50)]) == 50
        assert watch.seconds < TIMEOUT + SLACK
    assert repr(link) == "Link(up=False, replicas=2)"
    with Stopwatch() as watch:
        for i in range(50):
            assert (await decide(limiter, policy, f"later-{i}")).allowed
        assert watch.seconds < 50 * TIMEOUT / 2  # none of them waited for it again
    assert limiter.try_take(policy, "later-0", time.monotonic()) is not None

    fleet.server.resume()
    await fleet.warm()
    assert (await decide(limiter, policy, "after")).allowed
    assert repr(link) == "Link(up=True, replicas=2)"
    assert fleet.server.execute("EXISTS", "api-gateway:rate-limit:after") == 1


async def test_what_a_paused_redis_was_told_is_not_counted_twice_in_the_clients_favour(fleet: OnRedis) -> None:
    """An ask that timed out is executed when Redis wakes up; and what was spent meanwhile is charged."""
    policy = RateLimitPolicy("default", 100, 0.0001)
    limiter = fleet.limiters[0]
    total = await allowed([decide(limiter, policy) for _ in range(10)])
    fleet.server.pause()
    total += await allowed([decide(limiter, policy) for _ in range(60)])
    fleet.server.resume()
    await fleet.warm()
    await asyncio.sleep(0.5)
    total += await allowed([decide(fleet.limiters[i % 2], policy) for i in range(200)])
    assert total <= 100


async def test_what_the_store_did_late_is_not_charged_again(made: Keep) -> None:
    """The requests of a call that is overdue are decided here; the answer that comes later says what it has taken."""
    shared = SharedMemory()
    store = Gated(shared)
    store.time_limit = 0.05
    limiter = made(SharedLimiter(store, link := up()))
    store.gate.clear()
    assert await allowed([decide(limiter, HUNDRED) for _ in range(10)]) == 10
    assert not link.up
    store.gate.set()
    await asyncio.sleep(0.01)
    link.back(1)
    assert await allowed([decide(limiter, HUNDRED) for _ in range(5)]) == 5
    await limiter.close()  # what is left of a lease comes back
    (grant,) = shared.buckets.take("b", [Ask(HUNDRED, CLIENT, 0)])
    assert grant.remaining == pytest.approx(85, abs=0.01)


async def test_debts_of_many_clients_are_told_when_the_store_is_back(made: Keep) -> None:
    shared = SharedMemory()
    limiter = made(SharedLimiter(MemoryStore(shared, "a"), link := up(2)))
    link.lost(StoreUnavailable("gone"))
    clients = [f"client-{i}" for i in range(300)]
    for client in clients:
        assert await allowed([decide(limiter, HUNDRED, client) for _ in range(3)]) == 3
    link.back(2)

    def left() -> list[float]:
        return [grant.remaining for grant in shared.buckets.take("b", [Ask(HUNDRED, client, 0) for client in clients])]

    async with asyncio.timeout(PATIENCE):
        while max(left()) > 98:
            await asyncio.sleep(0.01)
    assert left() == pytest.approx([97] * 300, abs=0.05)


async def test_a_killed_redis_is_noticed_at_once_and_used_again_when_it_is_back(fleet: OnRedis) -> None:
    limiter, link = fleet.limiters[0], fleet.links[0]
    assert (await decide(limiter, HUNDRED)).allowed
    fleet.server.kill()
    with Stopwatch() as watch:
        assert (await decide(limiter, HUNDRED, "other")).allowed
        assert watch.seconds < TIMEOUT + SLACK
    assert repr(link) == "Link(up=False, replicas=2)"
    fleet.server.restart()
    await fleet.warm()
    assert await allowed([decide(limiter, HUNDRED, "third") for _ in range(120)]) == 100
