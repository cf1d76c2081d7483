"""What tenants use, counted over a fleet."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from gateway.config.sections.identity.model import IdentityConfig
from gateway.fleet.link import Link
from gateway.identity.tenants import Directory
from gateway.identity.usage import Usage, day_of, until_midnight
from gateway.store.memory import MemoryStore, SharedMemory
from gateway.store.port import StoreUnavailable
from gateway.store.usage import DAYS_KEPT

NOON = 86_400.0 * 20_000 + 43_200


class Flaky(MemoryStore):
    """A store that does as it is told, and whose answer may be lost."""

    lost = broken = False
    asked = 0

    async def add_usage(self, day: str, sequence: int, used: Mapping[str, int]) -> Mapping[str, int]:
        self.asked += 1
        if self.broken:
            raise ZeroDivisionError
        answer = await super().add_usage(day, sequence, used)
        if self.lost:
            raise StoreUnavailable("the answer was lost")
        return answer


class Replica:
    def __init__(self, shared: SharedMemory, name: str) -> None:
        self.now = NOON
        self.directory = Directory(IdentityConfig(tenants=MappingProxyType({"acme": None})), {})
        self.store = Flaky(shared, name)
        self.link = Link()
        self.link.back(1)
        self.usage = Usage(self.directory, self.store, self.link, lambda: self.now)
        self.account = self.directory.account("acme")

    def serve(self, requests: int) -> None:
        self.account.used += requests
        self.account.unsent += requests


async def test_replicas_learn_what_the_fleet_has_used() -> None:
    shared = SharedMemory()
    a, b = Replica(shared, "a"), Replica(shared, "b")
    a.serve(3)
    b.serve(4)
    for replica in (a, b, a):
        await replica.usage.exchange()
    assert (a.account.used, b.account.used, a.account.unsent) == (7, 7, 0)


async def test_a_call_whose_answer_was_lost_counts_once() -> None:
    a = Replica(SharedMemory(), "a")
    a.serve(3)
    a.store.lost = True
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await a.usage.exchange()
        a.serve(1)
    a.store.lost = False
    await a.usage.exchange()
    assert (a.account.used, a.account.unsent) == (6, 0)


async def test_a_new_day_begins_at_nothing_and_the_rest_counts_for_the_old_one() -> None:
    memory = SharedMemory()
    a = Replica(memory, "a")
    a.serve(2)
    await a.usage.exchange()
    a.serve(3)
    a.now += 43_200
    await a.usage.exchange()
    assert a.account.used == 0
    a.serve(1)
    await a.usage.exchange()
    assert a.account.used == 1
    assert memory.usage.add("x", day_of(NOON), 1, {}) == {"acme": 5}


async def test_while_the_store_is_away_a_replica_counts_on_and_tells_later() -> None:
    memory = SharedMemory()
    a, b = Replica(memory, "a"), Replica(memory, "b")
    b.serve(5)
    await b.usage.exchange()
    a.link.lost(StoreUnavailable("away"))
    a.serve(2)
    await a.usage.exchange()
    assert (a.account.used, a.account.unsent) == (2, 2)
    a.link.back(1)
    a.link.back(1)
    await a.usage.exchange()
    await b.usage.exchange()
    assert (a.account.used, b.account.used) == (7, 7)


async def test_what_was_counted_before_midnight_counts_for_that_day_also_where_the_store_was_away() -> None:
    memory = SharedMemory()
    a = Replica(memory, "a")
    a.serve(1)
    a.store.lost = True
    with pytest.raises(StoreUnavailable):
        await a.usage.exchange()
    a.link.lost(StoreUnavailable("away"))
    a.serve(2)
    a.now += 43_200
    for _ in range(3):
        await a.usage.exchange()
        assert a.account.used == 0
    a.serve(4)
    a.now += 1
    await a.usage.exchange()
    assert (a.account.used, a.account.unsent) == (4, 4)
    a.store.lost = False
    a.link.back(1)
    a.link.back(1)
    await a.usage.exchange()
    assert a.account.used == 4
    assert memory.usage.add("x", day_of(NOON), 1, {}) == {"acme": 3}
    assert memory.usage.add("x", day_of(a.now), 1, {}) == {"acme": 4}


async def test_a_store_that_is_away_for_long_makes_no_list_of_days_that_it_has_forgotten() -> None:
    a = Replica(SharedMemory(), "a")
    a.link.lost(StoreUnavailable("away"))
    for _ in range(20):
        a.serve(1)
        await a.usage.exchange()
        a.now += 86_400
    assert len(a.usage._untold) <= DAYS_KEPT


async def test_what_should_be_told_at_once_does_not_wait_for_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SharedMemory()
    a = Replica(memory, "a")
    monkeypatch.setattr("gateway.identity.usage.INTERVAL", 3600.0)
    a.usage.start()
    async with asyncio.timeout(30):
        for count in (1, 2, 3):
            while a.store.asked < count:
                await asyncio.sleep(0)
            a.serve(1)
            a.usage.tell()
            while memory.usage.add("x", day_of(NOON), 1, {}) != {"acme": count}:
                await asyncio.sleep(0.001)
    await a.usage.stop()


async def test_a_defect_ends_the_count_no_more_than_a_store_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SharedMemory()
    a = Replica(memory, "a")
    monkeypatch.setattr("gateway.identity.usage.INTERVAL", 0.001)
    a.store.broken = True
    a.serve(3)
    a.usage.start()
    async with asyncio.timeout(30):
        while a.store.asked < 3:
            await asyncio.sleep(0)
        a.store.broken = False
        while memory.usage.add("x", day_of(NOON), 1, {}) != {"acme": 3}:
            await asyncio.sleep(0)
    await a.usage.stop()


async def test_the_store_in_memory_keeps_two_days() -> None:
    memory = SharedMemory()
    for day in ("2027-01-31", "2027-02-01", "2027-02-02"):
        memory.usage.add("a", day, 1, {"acme": 1})
    assert list(memory.usage.days) == ["2027-02-01", "2027-02-02"]


def test_midnight() -> None:
    assert until_midnight(NOON) == 43_200
    assert (day_of(0.0), day_of(86_399.9), day_of(86_400.0)) == ("1970-01-01", "1970-01-01", "1970-01-02")
