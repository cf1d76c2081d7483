"""What tenants use, counted over a fleet."""

from collections.abc import Mapping
from types import MappingProxyType

import pytest

from gateway.config.identity_model import IdentityConfig
from gateway.fleet.link import Link
from gateway.identity.tenants import Directory
from gateway.identity.usage import Usage, day_of, until_midnight
from gateway.store.memory import MemoryStore, SharedMemory
from gateway.store.port import StoreUnavailable

NOON = 86_400.0 * 20_000 + 43_200


class Flaky(MemoryStore):
    """A store that does as it is told, and whose answer may be lost."""

    lost = False

    async def add_usage(self, day: str, sequence: int, used: Mapping[str, int]) -> Mapping[str, int]:
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
    a = Replica(memory, "a")
    a.link.lost(StoreUnavailable("away"))
    a.serve(2)
    await a.usage.exchange()
    assert (a.account.used, a.account.unsent) == (2, 2)
    a.now += 86_400
    await a.usage.exchange()
    assert a.account.used == 0
    a.link.back(1)
    a.link.back(1)
    await a.usage.exchange()
    assert a.account.used == 2


async def test_the_store_in_memory_keeps_two_days() -> None:
    memory = SharedMemory()
    for day in ("2027-01-31", "2027-02-01", "2027-02-02"):
        memory.usage.add("a", day, 1, {"acme": 1})
    assert list(memory.usage.days) == ["2027-02-01", "2027-02-02"]


def test_midnight() -> None:
    assert until_midnight(NOON) == 43_200
    assert (day_of(0.0), day_of(86_399.9), day_of(86_400.0)) == ("1970-01-01", "1970-01-01", "1970-01-02")
