"""The store in memory takes a bounded amount of it, whoever comes."""

from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.lease.ask import Ask
from gateway.policy.token_bucket import RateLimitPolicy
from gateway.store.memory import MemoryStore
from gateway.store.memory.buckets import MemoryBuckets
from gateway.store.memory.figures import FigureTable, MemoryFigures
from gateway.store.memory.store import SharedMemory
from gateway.store.port import FIGURES_KEPT, CircuitReport, FigureDelta


class Clock:
    def __init__(self) -> None:
        self.now = 10_000.0

    def __call__(self) -> float:
        return self.now


SLOW = RateLimitPolicy("slow", 10, 0.001)


def test_full_buckets_go_first() -> None:
    clock = Clock()
    buckets = MemoryBuckets(clock, most=1000)
    quick = RateLimitPolicy("quick", 10, 10.0)
    buckets.take("a", [Ask(SLOW, f"slow {i}", 10) for i in range(500)])
    for i in range(5000):
        clock.now += 0.01
        buckets.take("a", [Ask(quick, f"quick {i}", 1)])
    assert len(buckets) <= 1000
    # Those that refill quickly have made room for each other; nobody who has used up a slow bucket has it full again.
    assert all(("slow", f"slow {i}") in buckets for i in range(500))


def test_then_those_that_were_used_the_longest_ago() -> None:
    clock = Clock()
    buckets = MemoryBuckets(clock, most=1000)
    for i in range(20_000):
        clock.now += 0.001
        buckets.take("a", [Ask(SLOW, f"client {i}", 1)])
        if i % 50 == 0:
            buckets.take("a", [Ask(SLOW, "regular", 0, debt=1, debt_id=1 + i)])
    assert len(buckets) == 1000
    assert ("slow", "regular") in buckets
    (grant,) = buckets.take("a", [Ask(SLOW, "regular", 1)])
    assert grant.granted == 0


def test_a_bucket_remembers_the_debts_of_so_many_replicas() -> None:
    buckets = MemoryBuckets(Clock())
    for i in range(1000):
        buckets.take(f"worker {i}", [Ask(SLOW, "c", 0, debt=1, debt_id=1)])
    told = buckets.buckets["slow", "c"].told
    assert told is not None
    assert len(told) <= 64


async def test_circuits_of_which_nobody_speaks_are_forgotten() -> None:
    clock = Clock()
    shared = SharedMemory(clock)
    store = MemoryStore(shared, "a")
    settings = BreakerSettings(reset_timeout=30.0)
    for i in range(100):
        await store.sync([CircuitReport(f"upstream {i}", settings, 0, 0, 0, 0, (), None)])
    await store.force("forced", CircuitState.FORCED_OPEN, 3000.0, "maintenance")
    clock.now += 1000.0
    await store.sync([CircuitReport("other", settings, 0, 0, 0, 0, (), None)])
    assert set(shared.circuits.circuits) == {"forced", "other"}


async def test_services_of_which_nobody_speaks_are_forgotten() -> None:
    clock = Clock()
    table = FigureTable(clock)
    store = MemoryFigures(table)
    for i in range(100):
        await store.add_figures([FigureDelta(f"service {i}", 1, ((0.0, (1,)),), None)])
        await store.reset_figures(f"reset {i}")
    clock.now += FIGURES_KEPT + 20.0
    assert await store.add_figures([FigureDelta("other", 1, ((0.0, (1,)),), None)]) == {}
    assert set(table.services) == {"other"}
    assert table.resets == {}
