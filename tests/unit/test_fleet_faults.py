"""Faults on demand in one replica: who owns them, how they end, and what the keys of Redis are to it. On a made-up
clock and the store in memory."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.fleet.fault_guard import FaultGuard
from gateway.fleet.faults import INTERVAL, LEASE, Active, FaultLimits, FleetFaults
from gateway.fleet.link import Link
from gateway.policy.faults import Fault
from gateway.store.faults import ChaosKey, SharedFault
from gateway.store.memory import MemoryStore, SharedMemory
from gateway.store.port import StoreUnavailable

FAULT = Fault("a1", "pay", "abort", 20.0, "a drill")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Store(MemoryStore):
    """Has keys as a Redis has, and can hold a list back, or not answer about the keys."""

    keys: Sequence[ChaosKey] = ()
    readable = True
    asked = 0
    held: asyncio.Event | None = None

    async def faults(self) -> Sequence[SharedFault]:
        found = await super().faults()
        if self.held is not None:
            await self.held.wait()
        return found

    async def chaos(self, upstreams: Sequence[str], most: float) -> Sequence[ChaosKey]:
        self.asked += 1
        if not self.readable:
            raise StoreUnavailable("NOPERM")
        return [each._replace(left=min(each.left, most)) for each in self.keys if each.upstream in upstreams]


class Replica:
    def __init__(self, clock: Clock, shared: SharedMemory, *, keys: bool = False) -> None:
        self.store = Store(shared)
        self.link = Link(clock)
        self.link.back(1)
        limits = FaultLimits(50.0, 600.0)
        self.faults = FleetFaults(["pay", "orders"], self.store, self.link, limits, keys=keys, clock=clock)
        self.told: list[Sequence[Active]] = []
        self.faults.on_change = self.told.append

    @property
    def ids(self) -> list[str]:
        return [each.fault.id for each in self.faults.active]

    def lose(self) -> None:
        self.link.lost(StoreUnavailable("gone"))

    def find(self) -> None:
        while not self.link.up:
            self.link.back(1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shared(clock: Clock) -> SharedMemory:
    return SharedMemory(clock)


async def test_a_fault_lasts_while_its_owner_says_so(clock: Clock, shared: SharedMemory) -> None:
    one, two = Replica(clock, shared), Replica(clock, shared)
    intervals = [one.faults.interval]
    await one.faults.add(FAULT, 60.0)
    intervals.append(one.faults.interval)
    assert intervals == [None, INTERVAL]
    for _ in range(10):
        clock.now += LEASE - 1
        await one.faults.refresh()
        await two.faults.refresh()
        assert one.ids == two.ids == ["a1"]
    # Now it is silent, and the other one needs nobody to tell it.
    clock.now += LEASE
    assert two.ids == []
    await two.faults.refresh()
    assert two.told[-1] == []
    await one.faults.stop()


async def test_its_end_is_its_end_whatever_its_owner_says(clock: Clock, shared: SharedMemory) -> None:
    one = Replica(clock, shared)
    await one.faults.add(FAULT, 8.0)
    for _ in range(7):
        clock.now += 1
        await one.faults.refresh()
    assert one.ids == ["a1"]
    clock.now += 1
    assert one.ids == []
    await one.faults.refresh()
    assert one.ids == []


async def test_an_owner_that_loses_the_store_owns_nothing_any_more(clock: Clock, shared: SharedMemory) -> None:
    one, two = Replica(clock, shared), Replica(clock, shared)
    await one.faults.add(FAULT, 60.0)
    await two.faults.refresh()
    one.lose()
    assert one.ids == []
    with pytest.raises(StoreUnavailable):
        await one.faults.add(replace(FAULT, id="a2"), 60.0)
    one.find()
    # However short it was away: the fault does not come back with it, and ends for the others, too.
    await one.faults.refresh()
    await two.faults.refresh()
    assert one.ids == two.ids == []


async def test_one_that_does_not_own_it_has_it_again_when_the_store_is_back(clock: Clock, shared: SharedMemory) -> None:
    one, two = Replica(clock, shared), Replica(clock, shared)
    await one.faults.add(FAULT, 60.0)
    await two.faults.refresh()
    two.lose()
    assert two.ids == []
    two.find()
    await two.faults.refresh()
    assert one.ids == two.ids == ["a1"]


async def test_a_replica_that_stops_takes_its_faults_along(clock: Clock, shared: SharedMemory) -> None:
    one, two = Replica(clock, shared), Replica(clock, shared)
    await one.faults.add(FAULT, 60.0)
    await two.faults.add(replace(FAULT, id="a2"), 60.0)
    await one.faults.stop()
    await two.faults.refresh()
    assert two.ids == ["a2"]


async def test_a_list_that_was_asked_for_before_an_order_does_not_undo_it(clock: Clock, shared: SharedMemory) -> None:
    one = Replica(clock, shared)
    one.store.held = asyncio.Event()
    refreshing = asyncio.create_task(one.faults.refresh())
    await asyncio.sleep(0)
    adding = asyncio.create_task(one.faults.add(FAULT, 60.0))
    await asyncio.sleep(0)
    one.store.held.set()
    await asyncio.gather(refreshing, adding)
    assert one.ids == ["a1"]
    # It is still owned, so it outlives its lease.
    clock.now += LEASE - 1
    await one.faults.refresh()
    clock.now += LEASE - 1
    await one.faults.refresh()
    assert one.ids == ["a1"]


async def test_only_the_keys_of_one_upstream_count(
    clock: Clock, shared: SharedMemory, caplog: pytest.LogCaptureFixture
) -> None:
    one = Replica(clock, shared, keys=True)
    one.store.keys = [ChaosKey("pay", "error_rate", 0.9, 60.0), ChaosKey("orders", "latency_ms", 100.0, 60.0)]
    await one.faults.refresh()
    (active,) = one.faults.active
    # No more than is allowed.
    assert (active.fault.upstream, active.fault.percent) == ("pay", 50.0)
    assert "chaos:orders:latency_ms without effect: pay has faults" in caplog.text
    caplog.clear()
    await one.faults.refresh()
    assert "without effect" not in caplog.text
    assert await one.faults.add(replace(FAULT, upstream="orders"), 60.0) == "pay"
    assert await one.faults.add(FAULT, 60.0) == ""
    assert one.ids == ["a1", "key-error-rate"]
    one.store.keys = one.store.keys[1:]
    await one.faults.refresh()
    assert one.ids == ["a1"]
    await one.faults.remove(["a1"])
    await one.faults.refresh()
    assert one.ids == ["key-latency-ms"]


async def test_keys_that_may_not_be_read_cost_nothing_else(
    clock: Clock, shared: SharedMemory, caplog: pytest.LogCaptureFixture
) -> None:
    one = Replica(clock, shared, keys=True)
    one.store.readable = False
    for _ in range(3):
        await one.faults.refresh()
        clock.now += 1
    assert one.store.asked == 1
    assert one.link.up
    assert caplog.text.count("the chaos keys cannot be read for now: NOPERM") == 1
    one.store.readable = True
    one.store.keys = [ChaosKey("pay", "error_rate", 0.1, 60.0)]
    clock.now += 60
    await one.faults.refresh()
    assert one.ids == ["key-error-rate"]


async def test_the_log_says_why_a_fault_is_over(
    clock: Clock, shared: SharedMemory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "gateway.faults")
    one, two = Replica(clock, shared), Replica(clock, shared)
    causes: list[str] = []

    async def seen(by: Replica) -> None:
        caplog.clear()
        await by.faults.refresh()
        causes.extend(record.getMessage().partition("is over: ")[2] for record in caplog.records)

    await one.faults.add(FAULT, 60.0)
    await two.faults.refresh()
    clock.now += LEASE
    await seen(two)
    await one.faults.add(FAULT, 2.0)
    await two.faults.refresh()
    clock.now += 2
    await seen(two)
    await one.faults.add(FAULT, 60.0)
    await two.faults.refresh()
    await one.faults.remove(["a1"])
    await seen(two)
    assert causes == ["its gateway is gone", "its time has come", "it is gone from the store"]


async def test_the_guard_ends_what_makes_the_error_rate_critical(clock: Clock, shared: SharedMemory) -> None:
    one = Replica(clock, shared)
    critical: set[str] = set()

    async def is_critical(upstream: str) -> bool:
        return upstream in critical

    guard = FaultGuard(one.faults, is_critical)
    await one.faults.add(FAULT, 60.0)
    await guard.look()
    critical.add("orders")
    await guard.look()
    assert one.ids == ["a1"]
    critical.add("pay")
    await guard.look()
    assert one.ids == []
    await guard.look()
