"""A replica's part in the fleet's figures, over the memory store, by a clock that the test sets."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.fleet.figures import FleetFigures
from gateway.fleet.link import Link
from gateway.store.memory.figures import FigureTable, MemoryFigures
from gateway.store.port import FigureDelta, StoreUnavailable
from gateway.telemetry.services.cells import ERRORS, REQUESTS, WIDTH, ServiceCells

HOUR = 3600.0


class Fallible(MemoryFigures):
    """A store that can be away, and that can do what it was asked and lose the answer."""

    lost_answers = 0
    away = False

    async def add_figures(self, deltas: Sequence[FigureDelta]) -> dict[str, int]:
        if self.away:
            raise StoreUnavailable("away")
        answer = await super().add_figures(deltas)
        if self.lost_answers:
            self.lost_answers -= 1
            raise StoreUnavailable("lost")
        return answer


class Pages:
    """Records that are just numbered."""

    def __init__(self) -> None:
        self.recorded = 0

    def unpublished(self, after: int, most: int) -> list[bytes]:
        return [str(i).encode() for i in range(max(after, self.recorded - most) + 1, self.recorded + 1)]


class Replica:
    def __init__(self, fleet: "Fleet", name: str) -> None:
        self._fleet = fleet
        self.cells = ServiceCells("orders", fleet.now)
        self.store = Fallible(fleet.table, name)
        self.link = Link(fleet.clock)
        self.link.back(1)
        self.pages = Pages()
        self.figures = FleetFigures(
            self.store,
            self.link,
            {"orders": self.cells},
            self.pages,
            width=WIDTH,
            keep_records=1000,
            clock=fleet.clock,
        )

    def request(self, count: int = 1) -> None:
        for _ in range(count):
            self.cells.request(self._fleet.now)

    async def seen(self, window: float = 60.0) -> int | None:
        found = await self.figures.read(["orders"], window)
        return None if found is None else found[0].counts[REQUESTS]


class Fleet:
    def __init__(self) -> None:
        self.now = 100_000.0
        self.table = FigureTable(self.clock)

    def clock(self) -> float:
        return self.now


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


async def test_replicas_that_have_published_agree(fleet: Fleet) -> None:
    one, other = Replica(fleet, "one"), Replica(fleet, "other")
    one.request(3)
    other.request(4)
    assert await one.seen() == 3, "one's own counts are in its answers, the other's are not published yet"
    assert await other.seen() == 7
    assert await one.seen() == 7


async def test_lost_answers_neither_lose_nor_repeat_counts(fleet: Fleet) -> None:
    one = Replica(fleet, "one")
    one.store.lost_answers = 3
    for count in (1, 10, 100, 1000, 10_000):
        one.request(count)
        await one.figures.publish()
        fleet.now += 1.0
    assert await one.seen() == 11_111


async def test_what_was_counted_during_an_outage_goes_where_it_belongs(fleet: Fleet) -> None:
    one = Replica(fleet, "one")
    one.request()
    assert await one.seen() == 1
    one.store.away = True
    for _ in range(20):
        fleet.now += 60.0
        one.request(10)
        one.cells.error(fleet.now, "Timeout")
        assert await one.figures.publish() is False
    assert await one.seen() is None
    one.store.away = False
    assert await one.seen(49.0) == 10
    assert await one.seen(589.0) == 100
    assert await one.seen(HOUR) == 201


async def test_nothing_is_asked_while_the_link_is_down(fleet: Fleet) -> None:
    one = Replica(fleet, "one")
    one.link.lost(StoreUnavailable("gone"))
    one.request(5)
    assert await one.seen() is None
    assert await one.figures.recent(5) is None
    assert await one.figures.reset("orders") is False
    one.link.back(1)
    assert await one.seen() == 5


async def test_an_outage_of_hours_does_not_grow_what_waits(fleet: Fleet) -> None:
    one = Replica(fleet, "one")
    one.store.away = True
    for _ in range(1000):
        fleet.now += 10.0
        one.request()
        await one.figures.publish()
    outbox = one.figures._outboxes["orders"]
    assert len(outbox.waiting) <= 362
    one.store.away = False
    assert await one.seen(HOUR) == pytest.approx(360, abs=1)


async def test_a_reset_reaches_the_other_replicas_own_cells(fleet: Fleet) -> None:
    one, other = Replica(fleet, "one"), Replica(fleet, "other")
    for replica in (one, other):
        replica.request(5)
        replica.cells.error(fleet.now, "Timeout")
        await replica.figures.publish()
    fleet.now += 1.0
    other.request(2)  # not published when the reset comes, and older
    fleet.now += 0.1
    assert await one.figures.reset("orders")
    one.request(3)
    fleet.now += 0.1
    other.cells.request(fleet.now)
    await other.figures.publish()
    assert other.cells.counts(HOUR, fleet.now)[ERRORS] == 0
    other.request(4)
    assert await other.figures.publish()
    assert await one.seen(HOUR) == 7


async def test_a_reset_before_a_replica_came_is_none_of_its_business(fleet: Fleet) -> None:
    one = Replica(fleet, "one")
    assert await one.figures.reset("orders")
    fleet.now += 1.0
    newcomer = Replica(fleet, "newcomer")
    newcomer.request(5)
    assert await newcomer.seen() == 5
    assert newcomer.cells.counts(HOUR, fleet.now)[REQUESTS] == 5


async def test_records_go_out_once_and_only_the_newest_of_too_many(fleet: Fleet) -> None:
    one = Replica(fleet, "one")
    one.pages.recorded = 3
    assert await one.figures.recent(10) == [b"3", b"2", b"1"]
    assert await one.figures.recent(10) == [b"3", b"2", b"1"]
    one.pages.recorded = 1000
    found = await one.figures.recent(1000)
    assert found is not None
    assert (found[0], found[199], found[200]) == (b"1000", b"801", b"3")


async def test_stopping_publishes_what_is_left(fleet: Fleet) -> None:
    one, other = Replica(fleet, "one"), Replica(fleet, "other")
    one.figures.start()
    one.request(5)
    await one.figures.stop()
    assert await other.seen() == 5


async def test_many_who_ask_the_same_share_an_exchange_and_miss_nothing(fleet: Fleet) -> None:
    one = Replica(fleet, "one")
    calls = 0
    add = one.store.add_figures

    async def counted(deltas: Sequence[FigureDelta]) -> dict[str, int]:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return await add(deltas)

    one.store.add_figures = counted  # type: ignore[method-assign] # to watch it, not to replace it
    one.request()
    first = asyncio.create_task(one.seen())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert calls == 1
    one.request()
    others = [asyncio.create_task(one.seen()) for _ in range(50)]
    others[0].cancel()
    assert await first in {1, 2}
    assert [await other for other in others[1:]] == [2] * 49
    assert calls == 2
