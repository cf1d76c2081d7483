"""What replicas have counted, the same over the memory store, served or not, and a real Redis.

Redis has its own clock: time passes by moving what is written into the past, a whole number of cells at a time.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from gateway.config.sections.redis.model import RedisConfig
from gateway.store.memory.figures import FigureTable, MemoryFigures
from gateway.store.port import FIGURES_CELL, FIGURES_KEPT, FigureDelta, FigureStore, StoreUnavailable
from gateway.store.redis.figures import RedisFigures
from gateway.store.served.server import StoreServer
from tests.conformance.stores import KINDS
from tests.support.redis_server import RedisServer
from tests.support.served_stores import ServedStores

PREFIX = "api-gateway"


class Fleet(Protocol):
    def replica(self, name: str) -> FigureStore: ...

    def advance(self, cells: int) -> None: ...

    async def close(self) -> None: ...


class MemoryFleet:
    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.table = FigureTable(lambda: self.now)

    def replica(self, name: str) -> FigureStore:
        return MemoryFigures(self.table, name)

    def advance(self, cells: int) -> None:
        self.now += cells * FIGURES_CELL

    async def close(self) -> None:
        """Nothing to close."""


class ServedFleet(MemoryFleet):
    def __init__(self) -> None:
        super().__init__()
        self.served = ServedStores(StoreServer(figures=self.table))

    def replica(self, name: str) -> FigureStore:
        store: FigureStore = self.served.figures(name)
        return store

    async def close(self) -> None:
        await self.served.close()


class RedisFleet:
    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.stores: list[RedisFigures] = []

    def replica(self, name: str) -> FigureStore:
        config = RedisConfig("single", ((self.server.host, self.server.port),), timeout=5.0)
        store = RedisFigures(config, name)
        self.stores.append(store)
        return store

    def advance(self, cells: int) -> None:
        """Everything written is so much older."""
        milliseconds = round(cells * FIGURES_CELL * 1000)
        execute = self.server.execute
        for key in execute("KEYS", f"{PREFIX}:figures:*"):
            fields = execute("HGETALL", key)
            ttl = execute("PTTL", key) - milliseconds
            execute("DEL", key)
            if ttl <= 0:
                continue
            for field, value in fields.items():
                if field.startswith("c"):
                    execute("HSET", key, f"c{int(field[1:]) - cells}", value)
                elif field.startswith("s"):
                    sequence, _, cell = value.partition(":")
                    execute("HSET", key, field, f"{sequence}:{int(cell) - cells}")
                elif field == "at":
                    execute("HSET", key, field, int(value) - cells)
                else:
                    execute("HSET", key, field, int(value) - milliseconds)
            execute("PEXPIRE", key, ttl)

    async def close(self) -> None:
        for store in self.stores:
            await store.close()


@pytest.fixture(params=KINDS)
async def fleet(request: pytest.FixtureRequest) -> AsyncIterator[Fleet]:
    found: Fleet
    if request.param == "memory":
        found = MemoryFleet()
    elif request.param == "served":
        found = ServedFleet()
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        server.execute("FLUSHDB")
        found = RedisFleet(server)
    yield found
    await found.close()


def delta(
    service: str, sequence: int, *cells: tuple[float, tuple[int, ...]], last_error_age: float | None = None
) -> FigureDelta:
    return FigureDelta(service, sequence, cells, last_error_age)


async def counts(store: FigureStore, service: str, window: float = 60.0) -> tuple[int, ...]:
    (found,) = await store.sum_figures([service], window, 3)
    return found.counts


async def test_what_replicas_count_adds_up_for_each_service(fleet: Fleet) -> None:
    one, other = fleet.replica("one"), fleet.replica("other")
    await one.add_figures([delta("orders", 1, (0.0, (5, 1, 2))), delta("payments", 1, (0.0, (1, 0, 0)))])
    await other.add_figures([delta("orders", 1, (0.0, (10, 0, 0)))])
    await one.add_figures([delta("orders", 2, (0.0, (1, 1, 1)))])
    for store in (one, other):
        found = await store.sum_figures(["payments", "orders", "nobody"], 60.0, 3)
        assert [each.counts for each in found] == [(1, 0, 0), (16, 2, 3), (0, 0, 0)]
        assert [each.last_error_age for each in found] == [None, None, None]


async def test_a_delta_that_is_sent_again_is_not_added_again(fleet: Fleet) -> None:
    one, other = fleet.replica("one"), fleet.replica("other")
    for _ in range(3):
        await one.add_figures([delta("orders", 7, (0.0, (1, 0, 0)))])
        await other.add_figures([delta("orders", 7, (0.0, (10, 0, 0)))])
    await one.add_figures([delta("orders", 6, (0.0, (100, 0, 0)))])
    assert await counts(one, "orders") == (11, 0, 0)


async def test_an_hour_passes(fleet: Fleet) -> None:
    store = fleet.replica("one")
    await store.add_figures([delta("orders", 1, (0.0, (1, 0, 0)), last_error_age=0.0)])
    fleet.advance(5)
    await store.add_figures([delta("orders", 2, (0.0, (10, 0, 0)))])
    assert await counts(store, "orders", 60.0) == (11, 0, 0)
    fleet.advance(3)
    assert await counts(store, "orders", 60.0) == (10, 0, 0)
    assert await counts(store, "orders", FIGURES_KEPT) == (11, 0, 0)
    (found,) = await store.sum_figures(["orders"], 60.0, 3)
    assert found.last_error_age is not None
    assert 80.0 <= found.last_error_age < 90.0
    fleet.advance(round(FIGURES_KEPT / FIGURES_CELL))
    await store.add_figures([delta("orders", 3, (0.0, (100, 0, 0)))])
    assert await counts(store, "orders", FIGURES_KEPT) == (100, 0, 0)


async def test_what_could_not_be_sent_goes_where_it_belongs(fleet: Fleet) -> None:
    store = fleet.replica("one")
    late = delta(
        "orders", 1, (FIGURES_KEPT + 60, (1000, 0, 0)), (1800.0, (100, 0, 0)), (200.0, (10, 0, 0)), (0.0, (1, 0, 0))
    )
    await store.add_figures([late])
    assert await counts(store, "orders", 60.0) == (1, 0, 0)
    assert await counts(store, "orders", 600.0) == (11, 0, 0)
    assert await counts(store, "orders", FIGURES_KEPT) == (111, 0, 0)


async def test_the_last_error_is_the_latest_of_any_replica(fleet: Fleet) -> None:
    one, other = fleet.replica("one"), fleet.replica("other")
    await one.add_figures([delta("orders", 1, (0.0, (0, 0, 1)), last_error_age=2.0)])
    await other.add_figures([delta("orders", 1, (0.0, (0, 0, 1)), last_error_age=500.0)])
    (found,) = await other.sum_figures(["orders"], 60.0, 3)
    assert found.last_error_age is not None
    assert 2.0 <= found.last_error_age < 5.0


async def test_a_reset_forgets_and_is_told_to_every_replica(fleet: Fleet) -> None:
    one, other = fleet.replica("one"), fleet.replica("other")
    assert await one.add_figures([delta("orders", 1, (0.0, (5, 0, 1)), last_error_age=0.0)]) == {}
    await other.add_figures([delta("payments", 1, (0.0, (5, 0, 0)))])
    await one.reset_figures("orders")
    (orders, payments) = await other.sum_figures(["orders", "payments"], 60.0, 3)
    assert (orders.counts, orders.last_error_age) == ((0, 0, 0), None)
    assert payments.counts == (5, 0, 0)
    told = await other.add_figures([])
    assert list(told) == ["orders"]
    fleet.advance(0)
    assert await one.add_figures([]) == told


async def test_what_began_before_the_reset_does_not_come_back(fleet: Fleet) -> None:
    one, other = fleet.replica("one"), fleet.replica("other")
    await one.reset_figures("orders")
    await other.add_figures([delta("orders", 1, (3.0, (5, 5, 5)), last_error_age=3.0)])
    assert await counts(one, "orders") == (0, 0, 0)
    (found,) = await one.sum_figures(["orders"], 60.0, 3)
    assert found.last_error_age is None
    await other.add_figures([delta("orders", 2, (0.0, (1, 0, 0)))])
    assert await counts(one, "orders") == (1, 0, 0)


async def test_records_are_kept_newest_first_and_bounded(fleet: Fleet) -> None:
    one, other = fleet.replica("one"), fleet.replica("other")
    assert list(await one.records(10)) == []
    await one.add_records([b'{"n":1}', '{"n":"ü"}'.encode()], 3)
    await other.add_records([b'{"n":3}', b'{"n":4}'], 3)
    assert list(await one.records(10)) == [b'{"n":4}', b'{"n":3}', '{"n":"ü"}'.encode()]
    assert list(await other.records(1)) == [b'{"n":4}']


async def test_keys_of_another_type_do_not_stand_in_the_way(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.execute("FLUSHDB")
    for key in ("figures", "figures:orders", "errors"):
        redis_server.execute("SET", f"{PREFIX}:{key}", "x")
    fleet = RedisFleet(redis_server)
    store = fleet.replica("one")
    await store.add_figures([delta("orders", 1, (0.0, (1, 0, 0)))])
    await store.add_records([b"{}"], 10)
    assert await counts(store, "orders") == (1, 0, 0)
    assert list(await store.records(10)) == [b"{}"]
    await fleet.close()
    assert f"what is not the gateway's: {PREFIX}:figures (string), {PREFIX}:figures:orders (string)" in caplog.text


@pytest.mark.parametrize("instant", ["nan", "99999999999999", "-1e999", "soon", ""])
async def test_values_that_cannot_be_meant_do_not_stand_in_the_way(instant: str, redis_server: RedisServer) -> None:
    """Foreign values, and instants later than now, such as a clock that was set back leaves behind."""
    redis_server.execute("FLUSHDB")
    key = f"{PREFIX}:figures:orders"
    for field in ("reset", "last", "at", "sone", "c1"):
        redis_server.execute("HSET", key, field, instant)
    fleet = RedisFleet(redis_server)
    store = fleet.replica("one")
    sequence = 10**15
    await store.add_figures([delta("orders", sequence, (0.0, (1, 0, 0)))])
    await store.add_figures([delta("orders", sequence + 1, (0.0, (2, 0, 0)))])
    assert await counts(store, "orders") == (3, 0, 0)
    await fleet.close()


async def test_a_count_that_is_none_makes_no_sum_negative(redis_server: RedisServer) -> None:
    redis_server.execute("FLUSHDB")
    fleet = RedisFleet(redis_server)
    store = fleet.replica("one")
    await store.add_figures([delta("orders", 1, (0.0, (1, 0, 0)))])
    key = f"{PREFIX}:figures:orders"
    (cell,) = [field for field in redis_server.execute("HKEYS", key) if field.startswith("c")]
    redis_server.execute("HSET", key, cell, f"{'9' * 400} 2 3")
    first, *others = await counts(store, "orders")
    assert first >= 0
    assert others == [2, 3]
    await store.add_figures([delta("orders", 2, (0.0, (1, 1, 1)))])
    assert (await counts(store, "orders"))[1:] == (3, 4)
    await fleet.close()


async def test_what_is_kept_is_bounded_and_expires(redis_server: RedisServer) -> None:
    redis_server.execute("FLUSHDB")
    fleet = RedisFleet(redis_server)
    store = fleet.replica("one")
    for sequence in range(1, 6):
        await store.add_figures([delta("orders", sequence, (0.0, (1, 0, 0)))])
        fleet.advance(200)
    await store.add_figures([delta("orders", 6, (0.0, (1, 0, 0)))])
    await store.reset_figures("payments")
    await store.add_records([b"{}"], 10)
    key = f"{PREFIX}:figures:orders"
    assert len([field for field in redis_server.execute("HGETALL", key) if field.startswith("c")]) == 2
    for name in redis_server.execute("KEYS", "*"):
        assert 0 < redis_server.execute("PTTL", name) <= 86_400_000
    await fleet.close()


async def test_a_store_that_does_not_answer_says_so(redis_installed: None, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        fleet = RedisFleet(server)
        store = fleet.replica("one")
        await store.add_figures([])
        server.kill()
        for call in (store.add_figures([]), store.sum_figures(["orders"], 60.0, 3), store.records(1)):
            with pytest.raises(StoreUnavailable):
                await call
        await fleet.close()


async def test_replicas_of_two_versions_may_count_vectors_of_different_widths(fleet: Fleet) -> None:
    old, new = fleet.replica("old"), fleet.replica("new")
    await old.add_figures([FigureDelta("orders", 1, ((0.0, (1, 2)),), None)])
    await new.add_figures([FigureDelta("orders", 1, ((0.0, (10, 20, 30)),), None)])
    await old.add_figures([FigureDelta("orders", 2, ((0.0, (100, 200)),), None)])
    for width, expected in ((2, (111, 222)), (3, (111, 222, 30)), (4, (111, 222, 30, 0))):
        (found,) = await new.sum_figures(["orders"], 60.0, width)
        assert found.counts == expected
