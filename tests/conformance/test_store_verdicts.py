"""All stores open a circuit exactly when the trip rules of `gateway/policy/verdict.py` say so, and with that cause.

Each case is an upstream of its own. All replicas report what they have seen at the same instant; the circuit is then
closed, because a rule that holds is at first a suspicion. When it must be confirmed, one of them reports again.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Protocol, cast

import pytest

from gateway.policy.breaker import CLOSED, OPEN, CircuitState
from gateway.policy.verdict import Rule
from gateway.store.memory.circuit import CONFIRM_AT_MOST
from gateway.store.memory.circuits import CircuitTable, MemoryCircuits
from gateway.store.memory.store import SharedMemory
from gateway.store.port import CircuitReport, CircuitSnapshot, SyncAnswer
from gateway.store.redis.circuits import RedisCircuits
from gateway.store.redis.client import RedisClient
from gateway.store.served.server import StoreServer
from tests.conformance.stores import KINDS
from tests.support.made_up_clock import MadeUpClock
from tests.support.redis_server import RedisServer
from tests.support.served_stores import ServedStores
from tests.support.verdict_cases import VerdictCase, verdict_cases

CASES = verdict_cases()
NAMES = ("a", "b", "c")


class ReportingStore(Protocol):
    async def sync(self, reports: Sequence[CircuitReport]) -> SyncAnswer: ...


@pytest.fixture
def clock(redis_server: RedisServer) -> Iterator[MadeUpClock]:
    redis_server.ensure_running()
    clock = MadeUpClock(redis_server)
    clock.begin()
    yield clock
    clock.close()


def report_of(number: int, case: VerdictCase, name: str, generation: int) -> CircuitReport:
    replica = case.replicas[NAMES.index(name)]
    ages = tuple(0.001 * (1 + i) for i in range(replica.consecutive))
    counts = (replica.calls, replica.failures, replica.slow_calls)
    return CircuitReport(f"case-{number}", case.settings, generation, *counts, ages, None)


async def verdicts(stores: dict[str, ReportingStore], clock: MadeUpClock) -> list[tuple[CircuitState, str]]:
    """What the store makes of each case."""
    last: dict[int, CircuitSnapshot] = {}

    async def all_report() -> None:
        for name, store in stores.items():
            mine = [number for number, case in enumerate(CASES) if len(case.replicas) > NAMES.index(name)]
            reports = [
                report_of(number, CASES[number], name, last[number].generation if number in last else 0)
                for number in mine
            ]
            last.update(zip(mine, (await store.sync(reports)).circuits, strict=True))

    # Nobody knows the generation yet, so this only says who is there.
    await all_report()
    clock.advance(0.01)
    await all_report()
    clock.advance(CONFIRM_AT_MOST)
    await all_report()
    return [(last[number].state, last[number].cause) for number in range(len(CASES))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_opens_a_circuit_when_the_trip_rules_say_so(kind: str, clock: MadeUpClock) -> None:
    table = CircuitTable(lambda: clock.now)
    served = ServedStores()
    stores: dict[str, ReportingStore]
    if kind == "memory":
        stores = {name: MemoryCircuits(table, name) for name in NAMES}
    elif kind == "served":
        shared = SharedMemory()
        shared.circuits = table
        served = ServedStores(StoreServer(shared))
        stores = {name: served.store(name) for name in NAMES}
    else:
        stores = {name: RedisCircuits(cast(RedisClient, clock), "api-gateway", name) for name in NAMES}

    async def judge() -> list[tuple[CircuitState, str]]:
        try:
            return await verdicts(stores, clock)
        finally:
            await served.close()

    found = asyncio.run(judge())
    expected = [(CLOSED, "") if case.cause is None else (OPEN, case.cause) for case in CASES]
    wrong = [f"{case}: {said}" for case, said, right in zip(CASES, found, expected, strict=True) if said != right]
    assert not wrong, "\n".join([f"{len(wrong)} of {len(CASES)} cases:", *wrong[:10]])


def test_the_table_has_every_verdict_and_rates_that_other_replicas_deny() -> None:
    for rule in (*Rule, None):
        assert sum(case.rule is rule for case in CASES) > 50
    assert sum(case.denied for case in CASES) > 50
