"""What explaining a request reads of the policies: the same as deciding it would find, and nothing is changed by it."""

import random

import pytest

from gateway.fleet.limiter import SharedLimiter
from gateway.fleet.link import Link
from gateway.policy.budget import BudgetSettings, RetryBudget
from gateway.policy.lease.ask import Ask
from gateway.policy.token_bucket import BucketTable, RateLimitPolicy
from gateway.store.memory import MemoryStore, SharedMemory
from gateway.store.port import StoreUnavailable

POLICY = RateLimitPolicy("default", 5, 2.0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_look_at_a_bucket_says_what_taking_would() -> None:
    rng = random.Random(7)
    table = BucketTable(POLICY)
    now = 0.0
    for _ in range(2000):
        now += rng.choice((0.0, 0.01, 0.3, 3.0))
        client = rng.choice("abc")
        seen = table.peek(client, now)
        assert table.peek(client, now) == seen
        assert table.take(client, now) == pytest.approx(seen)


def test_a_look_begins_no_bucket() -> None:
    table = BucketTable(POLICY)
    assert table.peek("a", 0.0).remaining == 4.0
    assert len(table) == 0


def test_a_look_at_the_budget_says_how_many_retries_it_has() -> None:
    clock = Clock()
    budget = RetryBudget(BudgetSettings(ratio=0.2, min_per_second=0.3), clock)
    for _ in range(50):
        budget.request(clock.now)
    left = budget.left(clock.now)
    assert left == budget.left(clock.now) == 13
    assert [budget.try_spend(clock.now) for _ in range(left + 1)] == [True] * left + [False]
    assert budget.left(clock.now) == 0


async def test_the_shared_limiter_asks_the_store_and_changes_nothing_there() -> None:
    clock = Clock()
    shared = SharedMemory(clock)
    store = MemoryStore(shared, "one")
    link = Link(clock)
    link.back(1)
    limiter = SharedLimiter(store, link, "local", clock)
    for _ in range(10):
        assert (await limiter.peek(POLICY, "a")).remaining == 4.0
    assert ("default", "a") not in shared.buckets

    # What another replica has taken counts.
    await MemoryStore(shared, "two").take([Ask(POLICY, "a", 5)])
    refused = await limiter.peek(POLICY, "a")
    assert (refused.allowed, refused.retry_after) == (False, 0.5)

    link.lost(StoreUnavailable("gone"))
    assert (await limiter.peek(POLICY, "b")).allowed
    await limiter.close()
