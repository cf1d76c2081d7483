"""The tables of the embedded store over an exec: the same answers afterwards, or none of it with a reason."""

import json
from typing import Any

import pytest

from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.lease.ask import Ask
from gateway.policy.token_bucket import RateLimitPolicy
from gateway.store.memory import MemoryStore
from gateway.store.memory.dump import Unusable, dump, restore
from gateway.store.memory.figures import FigureTable, MemoryFigures
from gateway.store.memory.store import SharedMemory
from gateway.store.port import CircuitReport, EndpointOut, FigureDelta
from gateway.store.served.server import StoreServer

POLICY = RateLimitPolicy("default", 100, 0.001)
SETTINGS = BreakerSettings(failure_threshold=2, reset_timeout=600.0)
OUT = EndpointOut("orders", "h:1", "drained", 600.0, "é")


def report(upstream: str, generation: int, *ages: float) -> CircuitReport:
    return CircuitReport(upstream, SETTINGS, generation, len(ages), len(ages), 0, ages, None)


async def filled() -> tuple[SharedMemory, FigureTable]:
    shared, figures = SharedMemory(epoch=7), FigureTable()
    store = MemoryStore(shared, "a")
    await store.take([Ask(POLICY, "c", 3, lease=5), Ask(POLICY, "d", 0, debt=4, debt_id=9), Ask(POLICY, "full", 0)])
    (known,) = (await store.sync([report("orders", 0)])).circuits
    await store.sync([report("orders", known.generation, 0.1, 0.2)])
    await store.force("pay", CircuitState.FORCED_CLOSED, 600.0, "why")
    await store.take_out(OUT)
    await store.add_usage("2027-01-31", 1, {"acme": 3})
    counted = MemoryFigures(figures, "a")
    await counted.add_figures([FigureDelta("orders", 1, ((0.0, (1, 2)),), 0.5)])
    await counted.reset_figures("pay")
    await counted.add_records([b'"one"', '"\N{SNOWMAN}"'.encode()], 10)
    return shared, figures


async def dumped() -> Any:
    return json.loads(json.dumps(dump(*await filled()), allow_nan=False))


async def test_what_was_there_is_there_again() -> None:
    data = await dumped()
    shared, figures = restore(data)
    assert json.loads(json.dumps(dump(shared, figures))) == data
    store = MemoryStore(shared, "b")
    c, d, d_again = await store.take([Ask(POLICY, "c", 0), Ask(POLICY, "d", 0), Ask(POLICY, "d", 0, debt=1, debt_id=1)])
    assert (round(c.remaining), c.held_elsewhere, round(d.remaining), round(d_again.remaining)) == (92, 5, 96, 95)
    (repeated,) = await MemoryStore(shared, "a").take([Ask(POLICY, "d", 0, debt=4, debt_id=9)])
    assert round(repeated.remaining) == 95
    orders, pay = (await store.sync([report("orders", 0), report("pay", 0)])).circuits
    assert (orders.state, pay.state, pay.cause) == (CircuitState.OPEN, CircuitState.FORCED_CLOSED, "why")
    assert [out._replace(left=0.0) for out in await store.endpoints_out()] == [OUT._replace(left=0.0)]
    repeated_usage = await MemoryStore(shared, "a").add_usage("2027-01-31", 1, {"acme": 3})
    assert repeated_usage == await store.add_usage("2027-01-31", 0, {}) == {"acme": 3}
    counted = MemoryFigures(figures, "a")
    assert list(await counted.add_figures([FigureDelta("orders", 1, ((0.0, (5, 5)),), None)])) == ["pay"]
    assert (await counted.sum_figures(["orders"], 60.0, 2))[0].counts == (1, 2)
    assert [each.decode() for each in await counted.records(9)] == ['"\N{SNOWMAN}"', '"one"']


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in the data, leaves last."""
    inner = list(data.items()) if isinstance(data, dict) else list(enumerate(data)) if isinstance(data, list) else []
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


@pytest.mark.parametrize(
    "nonsense", [None, "x", [], {}, float("nan"), True, [[]], 10**400], ids=lambda each: repr(each)[:9]
)
async def test_what_cannot_be_understood_is_refused_with_a_reason_wherever_it_is(nonsense: object) -> None:
    text = json.dumps(await dumped())
    refused = 0
    for path in places(json.loads(text)):
        data = json.loads(text)
        at = data
        for key in path[:-1]:
            at = at[key]
        if path:
            at[path[-1]] = nonsense
        else:
            data = nonsense
        try:
            restore(data)
        except Unusable as reason:
            refused += len(str(reason)) > 10
    assert refused > 20


async def test_a_refused_dump_changes_nothing() -> None:
    server = StoreServer()
    before = server.shared
    with pytest.raises(Unusable, match="format 99, not 1"):
        server.restore({"format": 99})
    assert server.shared is before


async def test_no_lease_of_a_lost_store_is_taken_for_one_of_the_next() -> None:
    first, second = StoreServer(), StoreServer()
    (grant,) = first.shared.buckets.take("a", [Ask(POLICY, "c", 1, lease=5)])
    (other,) = second.shared.buckets.take("a", [Ask(POLICY, "c", 1, lease=5)])
    assert grant.lease_id != other.lease_id
    assert first.shared.circuits.epoch != second.shared.circuits.epoch


async def test_a_dump_of_before_there_were_tenants_is_understood() -> None:
    data = await dumped()
    del data["usage"]
    shared, _ = restore(data)
    assert shared.usage.days == {}
