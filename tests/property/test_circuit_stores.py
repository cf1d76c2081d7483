"""The circuit in Lua and the one in memory are the same state machine: whatever happens, they say the same.

Both run on one made-up clock; the script's own is replaced. Every step moves it by an uneven amount, so that no two
instants of different steps coincide and rounding to microseconds decides nothing.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.outcome import Outcome
from gateway.store.memory.circuits import CircuitTable, MemoryCircuits
from gateway.store.port import CircuitReport, CircuitSnapshot, ProbeLease
from gateway.store.redis.circuits import RedisCircuits
from gateway.store.redis.client import RedisClient
from tests.support.made_up_clock import MadeUpClock
from tests.support.redis_server import RedisServer

SETTINGS = BreakerSettings(
    failure_threshold=3, minimum_calls=6, reset_timeout=0.9, slow_call_threshold=1.0, slow_call_rate_threshold=0.7
)
FORCED_OPEN, FORCED_CLOSED = CircuitState.FORCED_OPEN, CircuitState.FORCED_CLOSED
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def clock(redis_server: RedisServer) -> Iterator[MadeUpClock]:
    redis_server.ensure_running()
    clock = MadeUpClock(redis_server)
    yield clock
    clock.close()


replicas = st.sampled_from(NAMES)
reports = st.tuples(
    st.just("report"),
    replicas,
    st.integers(0, 12),  # calls besides the consecutive failures
    st.integers(0, 3),  # consecutive failures
    st.sampled_from([0.0, 0.004, 0.3, 1.1]),  # age of the newest of them
    st.sampled_from([None, 0.002, 0.2, 1.0]),  # age of the last success
    st.sampled_from(["answered", "silent", "unreached", "partly"]),
    st.sampled_from([None, None, True, False]),  # its word
    st.sampled_from([0, 0, 0, 1]),  # generations it is behind
)
leases_of = st.tuples(st.just("lease"), replicas, st.sampled_from([0.3, 60.0]))
settlings = st.tuples(st.just("settle"), st.sampled_from([Outcome.FAILURE, *Outcome]), st.booleans())
ticks = st.tuples(st.just("tick"), st.sampled_from([0.011, 0.011, 0.06, 0.06, 0.075, 0.13, 0.5, 0.95, 2.1]))
forces = st.tuples(st.just("force"), replicas, st.sampled_from([None, FORCED_OPEN, FORCED_CLOSED]))
rare = st.one_of(forces, st.tuples(st.just("reset"), replicas), st.tuples(st.just("tick"), st.just(200.0)))
steps = st.one_of(*[reports] * 8, *[leases_of] * 2, *[settlings] * 2, *[ticks] * 4, rare).map(lambda step: [step])


def quiet(name: str) -> tuple[Any, ...]:
    return ("report", name, 0, 0, 0.0, None, "silent", None, 0)


# How it comes to a suspicion of one replica, and to a probe without a connection: rarely by chance.
SUSPECTED = [quiet("b"), quiet("c"), ("report", "a", 0, 3, 0.0, None, "unreached", None, 0), ("tick", 0.06), quiet("b")]
PROBED = [
    quiet("a"),
    ("report", "c", 0, 3, 0.0, None, "answered", None, 0),
    *[("tick", 0.5), quiet("a"), quiet("b")] * 2,
    ("lease", "a", 60.0),
    ("settle", Outcome.FAILURE, False),
    quiet("b"),
]
scripts = st.lists(st.one_of(steps, steps, steps, st.sampled_from([SUSPECTED, PROBED])), min_size=10, max_size=60)


def report_of(step: tuple[Any, ...], generation: int) -> CircuitReport:
    _, _, calls, run, newest, success_age, kind, word, behind = step
    ages = tuple(newest + 0.0007 * i for i in range(run))
    oldest = ages[-1] if ages else newest
    unreached = {"unreached": newest, "partly": oldest + (0.0005 if run == 1 else -0.0007 * (run - 1))}
    return CircuitReport(
        "default",
        SETTINGS,
        generation - behind,
        calls + run,
        run + calls // 3,
        calls // 2,
        ages,
        None if success_age is None else oldest + success_age,
        kind == "answered" and run > 0,
        unreached.get(kind) if run else None,
        {"unreached": run, "partly": 1}.get(kind, 0) if run else 0,
        word,
    )


@settings(max_examples=100, deadline=None)
@given(script=scripts.map(lambda parts: list(chain.from_iterable(parts))))
def test_they_say_the_same(clock: MadeUpClock, script: list[tuple[Any, ...]]) -> None:
    clock.begin()
    table = CircuitTable(lambda: clock.now)
    in_memory = {name: MemoryCircuits(table, name) for name in NAMES}
    in_redis = {name: RedisCircuits(cast(RedisClient, clock), "api-gateway", name) for name in NAMES}
    leases: list[tuple[str, ProbeLease, ProbeLease]] = []
    generation = 0

    async def both(step: tuple[Any, ...]) -> tuple[Any, Any]:
        nonlocal generation
        kind, name = step[0], step[1]
        if kind == "settle":
            if not leases:
                return None, None
            name, *held = leases.pop(0)
            ours = await in_memory[name].settle_probe(held[0], SETTINGS, step[1], step[2])
            return ours, await in_redis[name].settle_probe(held[1], SETTINGS, step[1], step[2])
        stores: tuple[MemoryCircuits, RedisCircuits] = in_memory[name], in_redis[name]
        if kind == "report":
            report = report_of(step, generation)
            one, other = [await store.sync([report]) for store in stores]
            generation = one.circuits[0].generation
            return one.circuits, other.circuits
        if kind == "lease":
            granted = [await store.lease_probe("default", SETTINGS, step[2]) for store in stores]
            if all(isinstance(each, ProbeLease) for each in granted):
                leases.append((name, cast(ProbeLease, granted[0]), cast(ProbeLease, granted[1])))
                return granted[0].generation, granted[1].generation
            return granted[0], granted[1]
        if kind == "force":
            one_, other_ = [await store.force("default", step[2], 0.7, "drill") for store in stores]
            return one_, other_
        for store in stores:
            await store.reset("default")
        return None, None

    def rounded(said: Any) -> Any:
        if isinstance(said, CircuitSnapshot):
            return replace(said, retry_after=round(said.retry_after, 4))
        if isinstance(said, tuple):
            return tuple(map(rounded, said))
        return said

    async def play() -> None:
        for step in script:
            clock.advance(step[1] if step[0] == "tick" else 0.003)
            if step[0] != "tick":
                ours, theirs = await both(step)
                assert rounded(ours) == rounded(theirs), step

    asyncio.run(play())
