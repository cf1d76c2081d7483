"""Which attempts a fault strikes: exactly its share, and with others never more than the cap."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fleet.faults import Active, fault_of_key
from gateway.fleet.link import Link
from gateway.policy.faults import BLOCK, KINDS, Cap, Fault, Strikes
from gateway.proxy.upstreams.faults import FaultCounts, UpstreamFaults
from gateway.store.faults import ChaosKey
from gateway.store.port import StoreUnavailable
from tests.support.tickets import request, ticket

FAULT = Fault("a1", "default", "abort", 20.0, "a drill")
NEVER = math.inf
percents = st.floats(min_value=0.1, max_value=100.0)


def up() -> Link:
    link = Link(lambda: 0.0)
    link.back(1)
    return link


def faults(link: Link, most: float, *of: Fault, until: float = NEVER) -> UpstreamFaults:
    met = UpstreamFaults(link, most, "gateway", FaultCounts(), random.Random(1))
    met.set([Active(each, until, until) for each in of])
    return met


@given(percents, st.integers(min_value=0, max_value=400), st.integers())
def test_the_share_is_never_exceeded_and_is_met(percent: float, attempts: int, seed: int) -> None:
    strikes = Strikes(percent, random.Random(seed))
    struck = sum(strikes.strikes() for _ in range(attempts))
    whole = -(-attempts // BLOCK) * BLOCK
    assert struck <= percent / 100 * whole + 1e-6
    if attempts == whole:
        assert struck > percent / 100 * whole - 1 - 1e-6


def test_the_order_is_not_always_the_same() -> None:
    patterns = set()
    for seed in range(20):
        strikes = Strikes(50.0, random.Random(seed))
        patterns.add(tuple(strikes.strikes() for _ in range(BLOCK)))
    assert len(patterns) > 15


@given(
    st.floats(min_value=0.1, max_value=100.0),
    st.lists(percents, min_size=1, max_size=5),
    st.integers(min_value=0, max_value=300),
    st.integers(),
)
def test_together_they_never_strike_more_than_the_cap(
    most: float, shares: list[float], attempts: int, seed: int
) -> None:
    """Whatever each of them is for, and however often they are changed on the way."""
    rng = random.Random(seed)
    named = [
        replace(FAULT, id=str(number), percent=percent, route=rng.choice(["", "a", "other"]))
        for number, percent in enumerate(shares)
    ]
    met = UpstreamFaults(up(), most, "gateway", FaultCounts(), rng)
    struck = 0
    for number in range(1, attempts + 1):
        if number % 7 == 1:
            met.set([Active(each, NEVER, NEVER) for each in rng.sample(named, rng.randint(1, len(named)))])
        struck += met.strike(ticket(), "h:1", 0.0) is not None
        assert struck <= most / 100 * (-(-number // BLOCK) * BLOCK) + 1e-6


def test_what_a_mild_fault_has_left_of_the_cap_is_not_for_a_later_one() -> None:
    met = faults(up(), 50.0, replace(FAULT, percent=1.0))
    for _ in range(50 * BLOCK):
        met.strike(ticket(), "h:1", 0.0)
    both = [replace(FAULT, id="b1", percent=50.0), replace(FAULT, id="b2", percent=50.0)]
    met.set([Active(each, NEVER, NEVER) for each in both])
    for _ in range(10):
        struck = sum(met.strike(ticket(), "h:1", 0.0) is not None for _ in range(BLOCK))
        assert struck <= BLOCK // 2


def test_a_cap_counts_what_is_struck() -> None:
    cap = Cap(10.0)
    cap.seen()
    assert [cap.take(), cap.take(), cap.take()] == [True, True, False]
    for _ in range(BLOCK):
        cap.seen()
    assert cap.take()


def test_a_fault_is_for_its_scope_and_its_time_alone() -> None:
    met = faults(up(), 100.0, replace(FAULT, percent=100.0, endpoint="h:1"), until=10.0)
    assert met.strike(ticket(), "h:2", 0.0) is None
    assert met.strike(ticket(), "h:1", 9.9) is not None
    assert met.strike(ticket(), "h:1", 10.0) is None
    assert faults(up(), 100.0, replace(FAULT, percent=100.0, route="other")).strike(ticket(), "h:1", 0.0) is None


@pytest.mark.parametrize(("clients", "least", "most"), [(10.0, 60, 140), (100.0, 1000, 1000), (0.5, 0, 20)])
def test_clients_are_picked_by_the_value_of_a_field(clients: float, least: int, most: int) -> None:
    fault = replace(FAULT, percent=100.0, header="X-User", clients=clients)
    met = faults(up(), 100.0, fault)
    asked = [ticket(request(b"/a", f"x-user:  u{number} ")) for number in range(1000)]
    struck = [met.strike(each, "h:1", 0.0) is not None for each in asked]
    assert least <= sum(struck) <= most
    assert struck == [met.strike(each, "h:1", 0.0) is not None for each in asked]
    assert met.strike(ticket(request(b"/a", "X-Users: u1")), "h:1", 0.0) is None


def test_without_the_store_none_is_met() -> None:
    link = up()
    met = faults(link, 100.0, replace(FAULT, percent=100.0))
    assert met.strike(ticket(), "h:1", 0.0) is not None
    link.lost(StoreUnavailable("gone"))
    assert met.strike(ticket(), "h:1", 0.0) is None
    assert met.met == []


def test_a_fault_that_goes_on_keeps_its_count() -> None:
    link, fault = up(), replace(FAULT, percent=5.0)
    met = faults(link, 100.0, fault)
    struck = 0
    for _ in range(BLOCK):
        struck += met.strike(ticket(), "h:1", 0.0) is not None
        met.set([Active(fault, NEVER, NEVER)])
    assert struck == 1


@pytest.mark.parametrize(
    ("setting", "value", "kind", "percent", "delay"),
    [
        ("error_rate", 0.25, "abort", 25.0, 1.0),
        ("error_rate", 1.0, "abort", 40.0, 1.0),
        ("latency_ms", 250.0, "delay", 40.0, 0.25),
        ("lock_contention_ms", 60_000.0, "delay", 40.0, 60.0),
    ],
)
def test_what_a_key_asks_for(setting: str, value: float, kind: str, percent: float, delay: float) -> None:
    fault = fault_of_key(ChaosKey("pay", setting, value, 9.0), 40.0)  # type: ignore[arg-type] # one of the three
    assert fault is not None
    assert (fault.kind, fault.percent, fault.delay, fault.upstream) == (kind, percent, delay, "pay")
    assert fault.reason == f"chaos:pay:{setting}"


@pytest.mark.parametrize(
    ("setting", "value"), [("error_rate", 0.0), ("error_rate", 50.0), ("error_rate", -1.0), ("latency_ms", 60_001.0)]
)
def test_what_no_key_can_mean(setting: str, value: float) -> None:
    assert fault_of_key(ChaosKey("pay", setting, value, 9.0), 40.0) is None  # type: ignore[arg-type] # as above


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_says_what_it_does(kind: str) -> None:
    fault = replace(FAULT, kind=kind)  # type: ignore[arg-type] # one of the kinds
    assert fault.name == f"{kind} a1"
    assert fault.does
