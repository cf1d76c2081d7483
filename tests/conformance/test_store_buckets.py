"""The same tables over the memory store, served or not, and a real Redis: for each step what is asked and what must be
granted.

Time passes when the tests say so, in Redis too. What is about its own clock, or about calls at the same time, has its
own tests.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.policy.lease import GRACE, LEASE_TIME
from gateway.policy.lease.ask import Ask
from gateway.policy.token_bucket import RateLimitPolicy
from tests.conformance.stores import (
    KINDS,
    MemoryStores,
    RedisBucketsOnOurClock,
    RedisStores,
    Stores,
    memory_stores,
    stores_of,
)
from tests.support.redis_server import RedisServer

CLIENT = "192.0.2.1"
TEN = RateLimitPolicy("default", 10, 0.1)
HUNDRED = RateLimitPolicy("default", 100, 0.1)
SLACK = 0.001  # of rounding


@pytest.fixture(params=KINDS)
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    kind = request.param
    made: Stores
    made = RedisBucketsOnOurClock(request.getfixturevalue("redis")) if kind == "redis" else memory_stores(kind)
    yield made
    await made.close()


@pytest.fixture(params=KINDS)
async def own_clocks(request: pytest.FixtureRequest) -> AsyncIterator[MemoryStores | RedisStores]:
    """Stores as gateways have them, that can be asked by several at the same time."""
    made = stores_of(request.param, request)
    for name in ("a", "b"):
        await made.take(name)  # connected, so that leases do not run out meanwhile
    yield made
    await made.close()


@pytest.fixture
async def redis_stores(redis: RedisServer) -> AsyncIterator[RedisStores]:
    made = RedisStores(redis)
    yield made
    await made.close()


# (seconds passed before, want, granted, remaining, retry_after, reset_after)
ONE_BY_ONE = [
    (0, 1, 1, 9.0, 0.0, 10.0),
    (0, 4, 4, 5.0, 0.0, 50.0),
    (0, 7, 5, 0.0, 10.0, 100.0),
    (0, 1, 0, 0.0, 10.0, 100.0),
    (5, 1, 0, 0.5, 5.0, 95.0),
    (5, 1, 1, 0.0, 10.0, 100.0),
    (25, 5, 2, 0.5, 5.0, 95.0),
    (40, 0, 0, 4.5, 0.0, 55.0),
    (1000, 0, 0, 10.0, 0.0, 0.0),
    (0, 12, 10, 0.0, 10.0, 100.0),
]


async def test_tokens_come_and_go(stores: Stores) -> None:
    for step, (passed, want, granted, remaining, retry_after, reset_after) in enumerate(ONE_BY_ONE):
        await stores.advance(passed)
        (grant,) = await stores.take("a", Ask(TEN, CLIENT, want))
        assert (step, grant.granted, grant.leased) == (step, granted, 0)
        assert grant.remaining == pytest.approx(remaining, abs=SLACK), step
        assert grant.retry_after == pytest.approx(retry_after, abs=SLACK * 10), step
        assert grant.reset_after == pytest.approx(reset_after, abs=SLACK * 10), step
        assert (grant.held_elsewhere, grant.held_time) == (0, 0.0)


async def test_many_buckets_in_one_call_do_not_mix(stores: Stores) -> None:
    other = RateLimitPolicy("search", 3, 0.1)
    asks = [Ask(TEN, "a", 1), Ask(TEN, "b", 2), Ask(other, "a", 5), Ask(TEN, "a", 3)]
    grants = await stores.take("r", *asks)
    assert [grant.granted for grant in grants] == [1, 2, 3, 3]
    assert [grant.remaining for grant in grants] == pytest.approx([9, 8, 0, 6], abs=SLACK)
    assert await stores.take("r") == []


async def test_a_lease_is_taken_renewed_and_given_back(stores: Stores) -> None:
    (first,) = await stores.take("a", Ask(HUNDRED, CLIENT, 1, lease=50))
    assert (first.granted, first.leased, first.lease_time) == (1, 6, LEASE_TIME)  # a sixteenth at most
    assert first.remaining == pytest.approx(93, abs=SLACK)
    assert first.lease_id

    await stores.advance(0.001)
    (second,) = await stores.take("a", Ask(HUNDRED, CLIENT, 0, lease=4, unspent=2, lease_id=first.lease_id))
    assert (second.granted, second.leased) == (0, 6)
    assert second.remaining == pytest.approx(89, abs=SLACK)
    assert second.lease_id not in (0, first.lease_id)

    (third,) = await stores.take("a", Ask(HUNDRED, CLIENT, 0, unspent=5, lease_id=second.lease_id))
    assert (third.leased, third.lease_id) == (0, 0)
    assert third.remaining == pytest.approx(94, abs=SLACK)


async def test_others_see_what_is_held(stores: Stores) -> None:
    await stores.take("a", Ask(HUNDRED, CLIENT, 0, lease=6))
    (grant,) = await stores.take("b", Ask(HUNDRED, CLIENT, 100))
    assert (grant.granted, grant.held_elsewhere) == (94, 6)
    assert 0 < grant.held_time <= LEASE_TIME + 1e-9
    (own,) = await stores.take("a", Ask(HUNDRED, CLIENT, 1))
    assert (own.granted, own.held_elsewhere, own.held_time) == (0, 0, 0.0)


async def test_a_lease_never_leaves_the_bucket_less_than_half_full(stores: Stores) -> None:
    (first,) = await stores.take("a", Ask(HUNDRED, CLIENT, 46, lease=6))
    assert (first.granted, first.leased) == (46, 4)
    (second,) = await stores.take("b", Ask(HUNDRED, CLIENT, 1, lease=6))
    assert (second.granted, second.leased, second.lease_id) == (1, 0, 0)


async def test_a_renewal_has_at_least_what_was_unspent(stores: Stores) -> None:
    """Whoever renews goes on spending: taking those tokens away would spend them twice."""
    (lease,) = await stores.take("a", Ask(HUNDRED, CLIENT, 0, lease=6))
    await stores.take("b", Ask(HUNDRED, CLIENT, 94))
    (grant,) = await stores.take("a", Ask(HUNDRED, CLIENT, 3, lease=6, unspent=5, lease_id=lease.lease_id))
    assert (grant.granted, grant.leased) == (0, 5)


async def test_a_small_bucket_is_never_leased(stores: Stores) -> None:
    (grant,) = await stores.take("a", Ask(TEN, CLIENT, 1, lease=5))
    assert (grant.granted, grant.leased, grant.lease_id) == (1, 0, 0)


async def test_a_lease_that_lapsed_is_spent(stores: Stores) -> None:
    (lease,) = await stores.take("a", Ask(HUNDRED, CLIENT, 0, lease=6))
    await stores.advance(LEASE_TIME + GRACE)
    (late,) = await stores.take("a", Ask(HUNDRED, CLIENT, 0, unspent=6, lease_id=lease.lease_id))
    assert late.remaining == pytest.approx(94, abs=SLACK)
    (other,) = await stores.take("b", Ask(HUNDRED, CLIENT, 0))
    assert other.held_elsewhere == 0
    assert other.remaining == pytest.approx(94, abs=SLACK)


async def test_within_the_grace_a_lease_still_comes_back(stores: Stores) -> None:
    (lease,) = await stores.take("a", Ask(HUNDRED, CLIENT, 0, lease=6))
    await stores.advance(LEASE_TIME + GRACE / 20)
    (seen,) = await stores.take("b", Ask(HUNDRED, CLIENT, 0))
    assert (seen.held_elsewhere, seen.held_time) == (6, 0.0)
    (back,) = await stores.take("a", Ask(HUNDRED, CLIENT, 0, unspent=6, lease_id=lease.lease_id))
    assert back.remaining == pytest.approx(100, abs=SLACK)


async def test_an_overtaken_message_gives_nothing_back_twice(stores: Stores) -> None:
    (first,) = await stores.take("a", Ask(HUNDRED, CLIENT, 0, lease=6))
    await stores.advance(0.001)
    renewal = Ask(HUNDRED, CLIENT, 0, lease=3, unspent=3, lease_id=first.lease_id)
    (second,) = await stores.take("a", renewal)
    assert second.remaining == pytest.approx(91, abs=SLACK)
    await stores.advance(0.001)
    (again,) = await stores.take("a", renewal)
    assert (again.leased, again.lease_id) == (0, 0)
    assert again.remaining == pytest.approx(91, abs=SLACK)
    (other,) = await stores.take("b", Ask(HUNDRED, CLIENT, 0))
    assert other.held_elsewhere == 6  # the second lease stands


async def test_no_more_comes_back_than_was_leased(stores: Stores) -> None:
    await stores.take("b", Ask(HUNDRED, CLIENT, 40))
    (lease,) = await stores.take("a", Ask(HUNDRED, CLIENT, 0, lease=6))
    (back,) = await stores.take("a", Ask(HUNDRED, CLIENT, 0, unspent=60, lease_id=lease.lease_id))
    assert back.remaining == pytest.approx(60, abs=SLACK)


async def test_refill_stops_at_the_capacity_less_what_is_leased(stores: Stores) -> None:
    fast = RateLimitPolicy("default", 160, 1000.0)
    await stores.take("a", Ask(fast, CLIENT, 0, lease=10))
    await stores.advance(LEASE_TIME + GRACE / 20)
    (grant,) = await stores.take("b", Ask(fast, CLIENT, 0))
    assert grant.remaining == pytest.approx(150, abs=1e-6)


async def test_a_lease_blocks_the_refill_until_it_lapsed_and_not_longer(stores: Stores) -> None:
    policy = RateLimitPolicy("default", 160, 10.0)
    await stores.take("a", Ask(policy, CLIENT, 0, lease=10))
    await stores.advance(LEASE_TIME + GRACE + 0.5)
    (grant,) = await stores.take("b", Ask(policy, CLIENT, 0))
    assert 155 <= grant.remaining < 157.5  # 158 had it flowed all the time


async def test_a_bucket_owes_as_much_as_its_capacity_at_most(stores: Stores) -> None:
    (grant,) = await stores.take("a", Ask(TEN, CLIENT, 1, debt=4, debt_id=1))
    assert grant.granted == 1
    assert grant.remaining == pytest.approx(5, abs=SLACK)
    (grant,) = await stores.take("a", Ask(TEN, CLIENT, 1, debt=7, debt_id=2))
    assert grant.granted == 0
    assert grant.remaining == pytest.approx(-2, abs=SLACK)
    assert grant.retry_after == pytest.approx(30, abs=SLACK * 10)
    (grant,) = await stores.take("b", Ask(TEN, CLIENT, 1, debt=400, debt_id=1))
    assert grant.remaining == pytest.approx(-10, abs=SLACK)
    await stores.advance(105)
    (grant,) = await stores.take("a", Ask(TEN, CLIENT, 1))
    assert grant.granted == 0
    await stores.advance(10)
    (grant,) = await stores.take("a", Ask(TEN, CLIENT, 1))
    assert grant.granted == 1


async def test_a_debt_that_is_told_twice_counts_once_for_each_replica(stores: Stores) -> None:
    for replica, remaining in (("a", 96), ("a", 96), ("b", 92), ("b", 92), ("a", 92)):
        (grant,) = await stores.take(replica, Ask(HUNDRED, CLIENT, 0, debt=4, debt_id=7))
        assert grant.remaining == pytest.approx(remaining, abs=SLACK)
    (grant,) = await stores.take("a", Ask(HUNDRED, CLIENT, 2, lease=3, debt=1, debt_id=8))
    assert (grant.granted, grant.leased) == (2, 3)
    assert grant.remaining == pytest.approx(86, abs=SLACK)


async def test_a_debt_is_remembered_beside_a_lease(stores: Stores) -> None:
    (lease,) = await stores.take("a", Ask(HUNDRED, CLIENT, 0, lease=6, debt=10, debt_id=1))
    assert lease.leased == 6
    (grant,) = await stores.take("a", Ask(HUNDRED, CLIENT, 0, unspent=6, lease_id=lease.lease_id, debt=10, debt_id=1))
    assert grant.remaining == pytest.approx(90, abs=SLACK)


async def test_a_full_bucket_is_forgotten(stores: Stores) -> None:
    named = RateLimitPolicy("search", 10, 0.1)
    await stores.take("a", Ask(TEN, CLIENT, 2), Ask(named, CLIENT, 2))
    assert not await stores.forgotten(CLIENT)
    assert not await stores.forgotten(f"search:{CLIENT}")
    await stores.advance(10)
    assert not await stores.forgotten(CLIENT)
    await stores.advance(11)
    assert await stores.forgotten(CLIENT)
    assert await stores.forgotten(f"search:{CLIENT}")


async def test_an_idle_bucket_is_forgotten_after_the_policys_time(stores: Stores) -> None:
    slow = RateLimitPolicy("default", 10, 1e-6, max_ttl=60.0)
    (grant,) = await stores.take("a", Ask(slow, CLIENT, 10))
    assert grant.reset_after == 60.0
    await stores.advance(30)
    (grant,) = await stores.take("a", Ask(slow, CLIENT, 1))  # a refusal does not keep it alive
    assert (grant.granted, grant.retry_after) == (0, 60.0)
    await stores.advance(31)
    (grant,) = await stores.take("a", Ask(slow, CLIENT, 1))
    assert grant.granted == 1


async def test_a_policy_that_shrank_admits_no_more_than_it_allows(stores: Stores) -> None:
    await stores.take("a", Ask(HUNDRED, CLIENT, 1))
    (grant,) = await stores.take("a", Ask(TEN, CLIENT, 20))
    assert grant.granted == 10


async def test_two_replicas_under_concurrency_grant_exactly_the_capacity(
    own_clocks: MemoryStores | RedisStores,
) -> None:
    policy = RateLimitPolicy("default", 150, 0.001)
    asks = [own_clocks.take(name, Ask(policy, CLIENT, 1)) for name in ("a", "b") * 150]
    grants = [grant for (grant,) in await asyncio.gather(*asks)]
    assert sum(grant.granted for grant in grants) == 150


async def test_the_bucket_in_redis_is_readable(redis_stores: RedisStores) -> None:
    redis = redis_stores.server
    await redis_stores.take("a", Ask(HUNDRED, CLIENT, 1))
    bucket = f"api-gateway:rate-limit:{CLIENT}"
    assert redis.execute("HGET", bucket, "tokens") == "99"
    assert sorted(redis.execute("HKEYS", bucket)) == ["tokens", "ts"]
    seconds, micro = redis.execute("TIME")
    assert 0 <= int(seconds) * 1_000_000 + int(micro) - int(redis.execute("HGET", bucket, "ts")) < 5_000_000
    assert 5 <= int(redis.execute("TTL", bucket)) <= 10


async def test_a_key_of_another_type_is_nobodys_bucket(
    redis_stores: RedisStores, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        redis_stores.server.execute("DEL", f"api-gateway:rate-limit:{CLIENT}")
        redis_stores.server.execute("SET", f"api-gateway:rate-limit:{CLIENT}", "oops")
        grants = await redis_stores.take("a", Ask(TEN, CLIENT, 1), Ask(TEN, "other", 1))
        assert [grant.granted for grant in grants] == [1, 1]
    # The second one is not told, because it comes right after the first.
    assert [record.getMessage() for record in caplog.records] == [
        f"removed from Redis what is not the gateway's: api-gateway:rate-limit:{CLIENT} (string)"
    ]


async def test_a_clock_that_was_set_back_stops_nobodys_refill(redis_stores: RedisStores) -> None:
    await redis_stores.take("a", Ask(TEN, CLIENT, 10))
    redis_stores.server.execute("HINCRBY", f"api-gateway:rate-limit:{CLIENT}", "ts", 3_600_000_000)
    (grant,) = await redis_stores.take("a", Ask(TEN, CLIENT, 1))
    assert grant.granted == 0
    await redis_stores.advance(10)
    (grant,) = await redis_stores.take("a", Ask(TEN, CLIENT, 1))
    assert grant.granted == 1


async def test_what_was_granted_and_not_used_is_given_back_once_and_only_where_there_is_room(stores: Stores) -> None:
    (first,) = await stores.take("a", Ask(TEN, CLIENT, 4))
    assert first.granted == 4
    back = Ask(TEN, CLIENT, 0, debt=-2, debt_id=7)
    for _ in range(2):  # the second time is a repetition whose first answer was lost
        (grant,) = await stores.take("a", back)
        assert grant.remaining == pytest.approx(8, abs=SLACK)
    (full,) = await stores.take("a", Ask(TEN, CLIENT, 0, debt=-5, debt_id=8))
    assert full.remaining == pytest.approx(10, abs=SLACK)
