"""One suite over all stores: what the fleet makes of its replicas' reports, probes and forces.

The stores keep their own time, so the settings are short and the tests wait for what must come, with deadlines.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Protocol

import pytest

from gateway.config.sections.redis.model import RedisConfig
from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.outcome import Outcome
from gateway.store.memory.circuit import CONFIRM
from gateway.store.memory.circuits import CircuitTable, MemoryCircuits
from gateway.store.port import CircuitReport, CircuitSnapshot, ProbeLease, SyncAnswer
from gateway.store.redis.circuits import RedisCircuits
from gateway.store.redis.client import RedisClient
from tests.conformance.stores import KINDS
from tests.support.redis_server import RedisServer
from tests.support.served_stores import ServedStores

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, FORCED_CLOSED = CircuitState.FORCED_OPEN, CircuitState.FORCED_CLOSED

SETTINGS = BreakerSettings(failure_threshold=3, minimum_calls=10, reset_timeout=0.3, half_open_success_threshold=2)
LONG = replace(SETTINGS, reset_timeout=30.0)
LONG_AGO = 10.0
"""Seconds. An age is told a moment after it was taken, so that on a busy machine a failure seems to be later than it
was. One of so long ago never seems to be later than what another replica said after it."""


class StoreUnderTest(Protocol):
    async def sync(self, reports: Sequence[CircuitReport]) -> SyncAnswer: ...
    async def lease_probe(
        self, upstream: str, settings: BreakerSettings, lease_time: float
    ) -> ProbeLease | CircuitSnapshot: ...
    async def settle_probe(
        self, lease: ProbeLease, settings: BreakerSettings, outcome: Outcome, reached: bool = True
    ) -> CircuitSnapshot: ...
    async def force(
        self, upstream: str, state: CircuitState | None, duration: float, cause: str
    ) -> CircuitSnapshot: ...
    async def reset(self, upstream: str) -> None: ...
    async def leave(self) -> None: ...


Replicas = Callable[[str], StoreUnderTest]


@pytest.fixture(params=KINDS)
async def replica(request: pytest.FixtureRequest) -> AsyncIterator[Replicas]:
    if request.param == "memory":
        table = CircuitTable()
        yield lambda name: MemoryCircuits(table, name)
        return
    if request.param == "served":
        served = ServedStores()
        yield served.store
        await served.close()
        return
    server: RedisServer = request.getfixturevalue("redis")
    config = RedisConfig("single", ((server.host, server.port),), timeout=5.0)
    async with AsyncExitStack() as stack:

        def connect(name: str) -> StoreUnderTest:
            client = RedisClient(config)
            stack.push_async_callback(client.close)
            return RedisCircuits(client, "api-gateway", name)

        yield connect


class Voice:
    """A replica that reports what it is told to, under the generation it last heard."""

    def __init__(self, store: StoreUnderTest, settings: BreakerSettings = SETTINGS, upstream: str = "default") -> None:
        self.store = store
        self.settings = settings
        self.upstream = upstream
        self.generation = 0
        self.version = 0
        self.replicas = 0

    async def say(
        self,
        calls: int = 0,
        failures: int = 0,
        slow: int = 0,
        ages: tuple[float, ...] = (),
        success_age: float | None = None,
        **other: Any,
    ) -> CircuitSnapshot:
        generation = other.get("generation", self.generation)
        answered = other.get("answered", False)
        unreached_age = other.get("unreached_age")
        report = CircuitReport(
            self.upstream,
            self.settings,
            generation,
            calls,
            failures,
            slow,
            ages,
            success_age,
            answered,
            unreached_age,
            other.get("unreached", 0 if unreached_age is None else failures),
            other.get("reachable"),
        )
        answer = await self.store.sync([report])
        (snapshot,) = answer.circuits
        if answer.again:
            await self.store.sync([])
        self.generation, self.version, self.replicas = snapshot.generation, answer.version, answer.replicas
        return snapshot

    async def fails(self, age: float = 0.0) -> CircuitSnapshot:
        return await self.say(calls=3, failures=3, ages=(age, age + 0.001, age + 0.002))

    async def is_cut_off(self, age: float = 0.0) -> CircuitSnapshot:
        """As many failures as it takes, none of them with a connection."""
        return await self.say(calls=3, failures=3, ages=(age, age + 0.001, age + 0.002), unreached_age=age)

    async def lease(self, lease_time: float = 5.0) -> ProbeLease | CircuitSnapshot:
        return await self.store.lease_probe(self.upstream, self.settings, lease_time)

    async def settle(self, lease: ProbeLease, outcome: Outcome, reached: bool = True) -> CircuitSnapshot:
        return await self.store.settle_probe(lease, self.settings, outcome, reached)


async def voices(replica: Replicas, *names: str, settings: BreakerSettings = SETTINGS) -> list[Voice]:
    found = [Voice(replica(name), settings) for name in names]
    for voice in found:
        await voice.say()
    return found


async def until(
    say: Callable[[], Awaitable[CircuitSnapshot]], state: CircuitState, within: float = 30.0
) -> CircuitSnapshot:
    deadline = time.monotonic() + within
    while True:
        snapshot = await say()
        if snapshot.state is state:
            return snapshot
        assert time.monotonic() < deadline, f"{snapshot} is not {state}"
        await asyncio.sleep(0.01)


async def held(say: Callable[[], Awaitable[CircuitSnapshot]], state: CircuitState, for_seconds: float) -> None:
    deadline = time.monotonic() + for_seconds
    while time.monotonic() < deadline:
        snapshot = await say()
        assert snapshot.state is state
        await asyncio.sleep(0.01)


async def granted(voice: Voice, lease_time: float = 5.0, within: float = 30.0) -> ProbeLease:
    deadline = time.monotonic() + within
    while True:
        answer = await voice.lease(lease_time)
        if isinstance(answer, ProbeLease):
            return answer
        assert time.monotonic() < deadline, f"no lease: {answer}"
        await asyncio.sleep(0.01)


async def half_open(replica: Replicas, *names: str, settings: BreakerSettings = SETTINGS) -> list[Voice]:
    """Replicas of a circuit that has tripped and is over its open time."""
    first, *rest = [Voice(replica(name), settings) for name in names]
    await first.say()
    assert (await first.fails()).state is OPEN
    await until(first.say, HALF_OPEN)
    for voice in rest:
        await voice.say()
    return [first, *rest]


class TestUnknown:
    async def test_a_circuit_nobody_knew_is_closed_and_then_known(self, replica: Replicas) -> None:
        a = Voice(replica("a"))
        first, second = await a.say(), await a.say()
        assert (first.known, first.state, first.retry_after) == (False, CLOSED, 0.0)
        assert (second.known, second.generation) == (True, first.generation)
        assert first.generation > 0

    async def test_a_lease_of_it_is_refused_and_leaves_no_trace(self, replica: Replicas) -> None:
        a = Voice(replica("a"))
        answer = await a.lease()
        assert isinstance(answer, CircuitSnapshot)
        assert (answer.known, answer.state, answer.generation) == (False, CLOSED, 0)
        assert not (await a.say()).known

    async def test_upstreams_do_not_mix(self, replica: Replicas) -> None:
        store = replica("a")
        a, other = Voice(store), Voice(store, upstream="orders")
        await a.say()
        await other.say()
        assert (await a.fails()).state is OPEN
        assert (await other.say()).state is CLOSED


class TestConsecutiveFailures:
    async def test_the_only_replica_trips_at_once(self, replica: Replicas) -> None:
        a = Voice(replica("a"), LONG)
        closed = await a.say()
        opened = await a.fails(age=1.0)
        assert opened.state is OPEN
        assert opened.generation > closed.generation
        assert opened.failures == 3
        assert "3 consecutive failures" in opened.cause
        # The open time counts from the failure, not from the report of it.
        assert 28.5 < opened.retry_after <= 29.0

    async def test_evidence_of_another_generation_is_not_heard(self, replica: Replicas) -> None:
        a = Voice(replica("a"))
        current = await a.say()
        ignored = await a.say(calls=3, failures=3, ages=(0.0, 0.0, 0.0), generation=current.generation - 1)
        assert ignored.state is CLOSED

    async def test_with_others_there_it_is_a_suspicion_first(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        before = (a.generation, b.version)
        suspected = await a.fails()
        assert suspected.state is CLOSED
        assert 0.0 < suspected.retry_after <= 0.1
        assert a.generation == before[0]
        await b.say()
        assert b.version != before[1]
        await until(b.say, OPEN)

    async def test_a_replica_that_does_not_answer_delays_it_only_shortly(self, replica: Replicas) -> None:
        a, _silent = await voices(replica, "a", "silent", settings=LONG)
        started = time.monotonic()
        await until(a.fails, OPEN)
        assert time.monotonic() - started > 0.1

    async def test_failures_that_are_answers_need_no_confirmation(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        await b.say(calls=1, success_age=0.5)
        tripped = await a.say(calls=3, failures=3, ages=(0.0, 0.001, 0.002), answered=True)
        assert tripped.state is OPEN
        assert (await b.say(calls=2, success_age=0.0)).state is OPEN

    async def test_an_answer_before_a_success_elsewhere_counts_for_nothing(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        await b.say(calls=1, success_age=0.0)
        kept = await a.say(calls=3, failures=3, ages=(0.5, 0.6, 0.7), answered=True)
        assert kept.state is CLOSED
        assert kept.failures == 0

    async def test_a_later_success_of_another_ends_the_suspicion(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        failed_at = time.monotonic()

        async def a_keeps_reporting() -> CircuitSnapshot:
            return await a.fails(age=time.monotonic() - failed_at)

        await a_keeps_reporting()
        await asyncio.sleep(0.2)
        await b.say(calls=1, success_age=0.0)
        await held(a_keeps_reporting, CLOSED, 0.4)
        assert (await a_keeps_reporting()).retry_after == 0.0

    async def test_that_success_is_remembered_when_its_replica_is_gone(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        failed_at = time.monotonic()

        async def a_keeps_reporting() -> CircuitSnapshot:
            return await a.fails(age=time.monotonic() - failed_at)

        await a_keeps_reporting()
        await asyncio.sleep(0.2)
        await b.say(calls=1, success_age=0.0)
        await held(a_keeps_reporting, CLOSED, 2.5)

    async def test_failures_of_several_replicas_add_up(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        await a.say(calls=2, failures=2, ages=(0.0, 0.0))

        async def b_reports() -> CircuitSnapshot:
            return await b.say(calls=1, failures=1, ages=(0.0,))

        opened = await until(b_reports, OPEN)
        assert opened.failures == 3

    async def test_reporting_the_same_twice_counts_once(self, replica: Replicas) -> None:
        (a,) = await voices(replica, "a", settings=LONG)
        for _ in range(5):
            snapshot = await a.say(calls=2, failures=2, ages=(0.01, 0.02))
            assert (snapshot.state, snapshot.failures) == (CLOSED, 2)


class TestNoConnection:
    """Failures that may be the fault of one replica's own network."""

    async def test_of_the_only_replica_they_trip_at_once(self, replica: Replicas) -> None:
        (a,) = await voices(replica, "a", settings=LONG)
        assert (await a.is_cut_off()).state is OPEN

    async def test_of_one_they_take_another_ones_word(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        first = time.monotonic()

        async def a_reports() -> CircuitSnapshot:
            return await a.is_cut_off(time.monotonic() - first)

        assert not (await a_reports()).asked
        for _ in range(20):
            assert (await a_reports()).state is CLOSED
            asked = await b.say()
            assert (asked.state, asked.asked) == (CLOSED, True)
            await asyncio.sleep(0.01)
        assert (await b.say(reachable=False)).state is OPEN

    async def test_that_cannot_hurry_it_before_others_are_heard(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        began = time.monotonic()
        await a.is_cut_off()
        await b.say()
        said = await b.say(reachable=False)
        assert not said.asked
        # On a busy machine the time in which others are heard may be over by now.
        assert said.state is CLOSED or time.monotonic() - began > CONFIRM
        await until(b.say, OPEN)

    async def test_where_another_can_connect_they_are_its_own(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        first = time.monotonic() - LONG_AGO
        await a.is_cut_off(LONG_AGO)
        assert (await b.say()).asked
        await asyncio.sleep(0.15)
        said = await b.say(reachable=True)
        assert (said.state, said.asked, said.retry_after) == (CLOSED, False, 0.0)

        async def a_reports() -> CircuitSnapshot:
            return await a.is_cut_off(time.monotonic() - first)

        await held(a_reports, CLOSED, 0.3)
        told = await a_reports()
        assert (told.denied, told.failures, told.retry_after) == (True, 0, 0.0)
        assert not (await b.say()).asked
        # New ones raise the question anew.
        await asyncio.sleep(0.01)
        assert not (await a.is_cut_off()).denied
        assert (await b.say()).asked

    async def test_a_success_elsewhere_denies_them_too(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        await a.is_cut_off(age=0.5)
        await b.say(calls=1, success_age=0.1)
        assert (await a.is_cut_off(age=0.6)).denied

    async def test_those_of_two_replicas_confirm_each_other(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        await a.say(calls=2, failures=2, ages=(0.0, 0.001), unreached_age=0.0)

        async def b_reports() -> CircuitSnapshot:
            return await b.say(calls=1, failures=1, ages=(0.0,), unreached_age=0.0)

        await until(b_reports, OPEN)

    async def test_a_replica_that_is_denied_is_asked_about_another_one_all_the_same(self, replica: Replicas) -> None:
        a, b, c = await voices(replica, "a", "b", "c", settings=LONG)
        await b.say(calls=1, success_age=0.5)
        await c.is_cut_off()
        said = await a.is_cut_off(age=1.0)
        assert (said.state, said.asked, said.denied) == (CLOSED, True, True)

    async def test_denied_ones_confirm_those_of_another_replica(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        first = time.monotonic() - LONG_AGO
        await a.is_cut_off(LONG_AGO)
        await b.say()
        await asyncio.sleep(0.15)
        await b.say(reachable=True)
        await a.is_cut_off(time.monotonic() - first)
        await asyncio.sleep(0.01)

        async def b_reports() -> CircuitSnapshot:
            return await b.is_cut_off()

        await until(b_reports, OPEN)

    async def test_other_failures_elsewhere_do_not_confirm_them(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        first = time.monotonic()
        await b.say(calls=1, failures=1, ages=(0.0,), answered=True)

        async def a_reports() -> CircuitSnapshot:
            return await a.is_cut_off(time.monotonic() - first)

        await held(a_reports, CLOSED, 0.3)

    async def test_one_whose_network_works_again_is_believed_at_once(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        await a.is_cut_off()
        await b.say()
        await b.say(reachable=True)
        answered = await a.say(calls=6, failures=6, ages=(0.0, 0.0, 0.0), unreached_age=1.0, answered=True)
        assert answered.state is OPEN

    async def test_a_replica_that_was_asked_and_dies_is_not_waited_for(self, replica: Replicas) -> None:
        a, _dead = await voices(replica, "a", "dead", settings=LONG)
        await until(a.is_cut_off, OPEN)

    async def test_who_was_there_before_a_transition_is_still_asked(self, replica: Replicas) -> None:
        a, b = await half_open(replica, "a", "b")
        await b.settle(await granted(b), Outcome.SUCCESS)
        await b.settle(await granted(b), Outcome.SUCCESS)
        await a.say()
        assert (await a.is_cut_off()).state is CLOSED

    async def test_a_rate_needs_a_second_replica_too(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=RATE)
        await b.say(calls=1)

        async def a_reports() -> CircuitSnapshot:
            return await a.say(calls=100, failures=100, unreached_age=0.0)

        await held(a_reports, CLOSED, 0.2)
        assert (await b.say(calls=1)).asked
        await b.say(calls=1, reachable=True)
        said = await a.say(calls=100, failures=100, unreached_age=1.0)
        assert (said.state, said.retry_after) == (CLOSED, 0.0)
        await asyncio.sleep(0.01)
        await a_reports()
        assert (await b.say(calls=1)).asked
        await asyncio.sleep(0.15)
        assert (await b.say(calls=1, reachable=False)).state is OPEN

    async def test_a_denied_call_takes_no_others_with_it(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=RATE)
        first = time.monotonic() - LONG_AGO
        await a.say(calls=100, failures=61, unreached_age=LONG_AGO, unreached=1)
        await b.say(calls=1)
        await b.say(calls=1, reachable=True)

        async def a_reports() -> CircuitSnapshot:
            age = time.monotonic() - first
            return await a.say(calls=100, failures=61, unreached_age=age, unreached=1)

        async def b_reports() -> CircuitSnapshot:
            await b.say(calls=1)
            return await a_reports()

        opened = await until(b_reports, OPEN)
        assert opened.cause == "60 of the last 100 calls failed"

    async def test_a_replica_whose_calls_are_denied_still_counts_with_its_others(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=RATE)
        await b.say(calls=1, reachable=True)
        await a.say(calls=100, failures=1, unreached_age=1.0, unreached=1)

        async def b_reports() -> CircuitSnapshot:
            return await b.say(calls=20, failures=10)

        await held(b_reports, CLOSED, 0.3)


RATE = replace(LONG, failure_threshold=1000, slow_call_threshold=1.0)


class TestRates:
    @pytest.mark.parametrize(
        ("calls", "failures", "slow", "trips"),
        [
            (10, 5, 0, True),
            (10, 4, 0, False),
            (9, 9, 0, False),
            (10, 0, 5, True),
            (10, 0, 4, False),
            (100, 50, 0, True),
        ],
    )
    async def test_of_one_replica(self, replica: Replicas, calls: int, failures: int, slow: int, trips: bool) -> None:
        (a,) = await voices(replica, "a", settings=RATE)
        snapshot = await a.say(calls=calls, failures=failures, slow=slow)
        assert snapshot.state is (OPEN if trips else CLOSED)

    async def test_slow_calls_do_not_count_when_the_rule_is_off(self, replica: Replicas) -> None:
        (a,) = await voices(replica, "a", settings=replace(RATE, slow_call_threshold=None))
        assert (await a.say(calls=10, slow=10)).state is CLOSED

    async def test_over_the_fleet(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=RATE)
        await a.say(calls=5, failures=3)

        async def b_reports() -> CircuitSnapshot:
            return await b.say(calls=5, failures=3)

        await until(b_reports, OPEN)

    async def test_one_broken_replica_does_not_outvote_a_healthy_one(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=RATE)
        await b.say(calls=10, failures=1)

        async def a_reports() -> CircuitSnapshot:
            return await a.say(calls=100, failures=100)

        await held(a_reports, CLOSED, 0.4)

    async def test_it_does_when_the_others_have_too_few_calls_to_say(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=RATE)
        await b.say(calls=9)

        async def a_reports() -> CircuitSnapshot:
            return await a.say(calls=100, failures=100)

        await until(a_reports, OPEN)

    async def test_evidence_of_a_dead_replica_is_dropped(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=RATE)
        await b.say(calls=100)

        async def a_reports() -> CircuitSnapshot:
            return await a.say(calls=10, failures=10)

        await held(a_reports, CLOSED, 1.5)
        await until(a_reports, OPEN)


class TestProbes:
    async def test_open_becomes_half_open_by_time_alone(self, replica: Replicas) -> None:
        (a,) = await voices(replica, "a")
        opened = await a.fails()
        assert 0.0 < opened.retry_after <= 0.3
        assert isinstance(await a.lease(), CircuitSnapshot)
        half = await until(a.say, HALF_OPEN)
        assert half.generation > opened.generation
        assert half.retry_after == 0.0

    async def test_one_probe_at_a_time_in_the_fleet(self, replica: Replicas) -> None:
        a, b = await half_open(replica, "a", "b")
        began = time.monotonic()
        lease = await granted(a, lease_time=30.0)
        refused = await b.lease()
        assert isinstance(refused, CircuitSnapshot)
        assert refused.state is HALF_OPEN
        assert began + 29.9 - time.monotonic() < refused.retry_after <= 30.0
        assert isinstance(await a.lease(lease_time=30.0), CircuitSnapshot)
        await a.settle(lease, Outcome.SUCCESS)
        assert isinstance(await b.lease(), ProbeLease)

    async def test_as_many_at_a_time_as_set(self, replica: Replicas) -> None:
        a, b = await half_open(replica, "a", "b", settings=replace(SETTINGS, half_open_max_probes=3))
        answers = await asyncio.gather(*(voice.lease() for voice in (a, b) * 4))
        leases = [answer for answer in answers if isinstance(answer, ProbeLease)]
        assert len(leases) == 3
        assert len({lease.token for lease in leases}) == 3

    async def test_enough_successes_close(self, replica: Replicas) -> None:
        a, b = await half_open(replica, "a", "b")
        still = await a.settle(await granted(a), Outcome.SUCCESS)
        assert still.state is HALF_OPEN
        lease = await granted(b)
        closed = await b.settle(lease, Outcome.SUCCESS)
        assert closed.state is CLOSED
        assert closed.generation > lease.generation
        assert (await a.say()).failures == 0

    async def test_one_failure_reopens(self, replica: Replicas) -> None:
        a, b = await half_open(replica, "a", "b")
        await a.settle(await granted(a), Outcome.SUCCESS)
        opened = await b.settle(await granted(b), Outcome.FAILURE)
        assert opened.state is OPEN
        assert 0.2 < opened.retry_after <= 0.3

    async def test_ignored_frees_the_place_and_counts_nothing(self, replica: Replicas) -> None:
        (a,) = await half_open(replica, "a")
        for _ in range(5):
            assert (await a.settle(await granted(a), Outcome.IGNORED)).state is HALF_OPEN

    async def test_the_lease_of_a_dead_holder_lapses(self, replica: Replicas) -> None:
        dead, b = await half_open(replica, "dead", "b")
        began = time.monotonic()
        await granted(dead, lease_time=0.2)
        # A machine that is busy for as long as the lease lasts shows no more than that it lapses.
        assert isinstance(await b.lease(), CircuitSnapshot) or time.monotonic() - began > 0.2
        await granted(b)

    async def test_a_lapsed_lease_changes_nothing(self, replica: Replicas) -> None:
        a, b = await half_open(replica, "a", "b")
        lapsed = await granted(a, lease_time=0.05)
        await granted(b)
        assert (await a.settle(lapsed, Outcome.FAILURE)).state is HALF_OPEN

    async def test_a_lease_of_an_earlier_generation_changes_nothing(self, replica: Replicas) -> None:
        a, b = await half_open(replica, "a", "b", settings=replace(SETTINGS, half_open_max_probes=2))
        late, other = await granted(a), await granted(b)
        await b.settle(other, Outcome.FAILURE)
        await until(b.say, HALF_OPEN)
        await granted(b)
        assert (await a.settle(late, Outcome.FAILURE)).state is HALF_OPEN

    async def test_settling_twice_counts_once(self, replica: Replicas) -> None:
        (a,) = await half_open(replica, "a")
        lease = await granted(a)
        await a.settle(lease, Outcome.SUCCESS)
        assert (await a.settle(lease, Outcome.SUCCESS)).state is HALF_OPEN


class TestProbesWithoutConnection:
    async def test_of_the_only_replica_reopen(self, replica: Replicas) -> None:
        (a,) = await half_open(replica, "a")
        assert (await a.settle(await granted(a), Outcome.FAILURE, reached=False)).state is OPEN

    async def test_cut_off_their_own_replica(self, replica: Replicas) -> None:
        a, b = await half_open(replica, "a", "b", settings=replace(SETTINGS, reset_timeout=0.6))
        cut_off = await a.settle(await granted(a), Outcome.FAILURE, reached=False)
        assert cut_off.state is OPEN
        assert 0.5 < cut_off.retry_after <= 0.6
        assert "from this replica" in cut_off.cause
        assert (await a.say()).state is OPEN
        refused = await a.lease()
        assert isinstance(refused, CircuitSnapshot)
        assert refused.state is OPEN
        # Everybody else may go on, and what they find out decides.
        seen = await b.say()
        assert (seen.state, seen.generation) == (HALF_OPEN, cut_off.generation)
        assert not isinstance(await a.lease(), ProbeLease)
        await b.settle(await granted(b), Outcome.SUCCESS)
        assert (await b.settle(await granted(b), Outcome.SUCCESS)).state is CLOSED
        assert (await a.say()).state is CLOSED

    async def test_a_cut_off_prober_that_releases_a_force_sees_its_own_view(self, replica: Replicas) -> None:
        a, _ = await half_open(replica, "a", "b")
        await a.settle(await granted(a), Outcome.FAILURE, reached=False)
        assert (await a.store.force(a.upstream, None, 0.0, "")).state is OPEN

    async def test_may_be_tried_again_after_the_reset_timeout(self, replica: Replicas) -> None:
        a, b = await half_open(replica, "a", "b")
        generation = (await a.settle(await granted(a), Outcome.FAILURE, reached=False)).generation
        await b.say(reachable=True)
        half = await until(a.say, HALF_OPEN)
        assert half.generation == generation
        assert not (await b.say()).asked
        await a.settle(await granted(a), Outcome.FAILURE, reached=False)
        assert (await b.say()).asked

    async def test_of_all_replicas_reopen(self, replica: Replicas) -> None:
        a, b = await half_open(replica, "a", "b")
        await a.settle(await granted(a), Outcome.FAILURE, reached=False)
        opened = await b.settle(await granted(b), Outcome.FAILURE, reached=False)
        assert (opened.state, opened.cause) == (OPEN, "a probe failed")
        assert (await a.say()).generation == opened.generation

    async def test_are_confirmed_by_a_replica_that_is_asked(self, replica: Replicas) -> None:
        a, b, c = await half_open(replica, "a", "b", "c")
        generation = (await a.settle(await granted(a), Outcome.FAILURE, reached=False)).generation
        assert not (await a.say()).asked
        assert (await b.say()).asked
        assert (await c.say()).asked
        said = await b.say(reachable=False)
        assert (said.state, said.generation) == (OPEN, generation)
        assert (await c.say()).state is HALF_OPEN
        opened = await c.say(reachable=False)
        assert (opened.state, opened.cause) == (OPEN, "a probe failed")

    async def test_are_not_confirmed_by_a_replica_that_can_connect(self, replica: Replicas) -> None:
        a, b = await half_open(replica, "a", "b")
        await a.settle(await granted(a), Outcome.FAILURE, reached=False)
        said = await b.say(reachable=True)
        assert (said.state, said.asked) == (HALF_OPEN, False)
        assert not (await b.say()).asked

    async def test_the_lease_of_a_replica_that_is_gone_is_free(self, replica: Replicas) -> None:
        dead, b = await half_open(replica, "dead", "b")
        await granted(dead, lease_time=60.0)
        started = time.monotonic()
        while not isinstance(await b.lease(), ProbeLease):
            await b.say()
            assert time.monotonic() - started < 30.0
            await asyncio.sleep(0.02)
        assert time.monotonic() - started > 1.0

    async def test_that_of_one_that_reports_is_not(self, replica: Replicas) -> None:
        slow, b = await half_open(replica, "slow", "b")
        await granted(slow, lease_time=60.0)
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline:
            assert not isinstance(await b.lease(), ProbeLease)
            await asyncio.gather(b.say(), slow.say())
            await asyncio.sleep(0.05)


class TestOperator:
    @pytest.mark.parametrize("state", [FORCED_OPEN, FORCED_CLOSED])
    async def test_a_force_holds_until_it_expires(self, replica: Replicas, state: CircuitState) -> None:
        a, b = await voices(replica, "a", "b")
        forced = await a.store.force("default", state, 0.3, "maintenance")
        assert (forced.state, forced.cause) == (state, "maintenance")
        assert 0.2 < forced.retry_after <= 0.3
        assert (await b.say()).state is state
        closed = await until(b.say, CLOSED)
        assert closed.generation > forced.generation

    async def test_a_force_can_be_released(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b")
        await a.store.force("default", FORCED_OPEN, 60.0, "maintenance")
        released = await b.store.force("default", None, 0.0, "")
        assert released.state is CLOSED

    async def test_releasing_ends_nothing_but_a_force(self, replica: Replicas) -> None:
        (a,) = await voices(replica, "a", settings=LONG)
        opened = await a.fails()
        released = await a.store.force("default", None, 0.0, "")
        assert (released.state, released.generation, released.cause) == (OPEN, opened.generation, opened.cause)

    async def test_evidence_does_not_end_a_force(self, replica: Replicas) -> None:
        (a,) = await voices(replica, "a")
        await a.store.force("default", FORCED_CLOSED, 60.0, "keep it up")
        assert (await a.say()).state is FORCED_CLOSED
        assert (await a.fails()).state is FORCED_CLOSED

    async def test_an_unknown_circuit_can_be_forced(self, replica: Replicas) -> None:
        store = replica("a")
        forced = await store.force("orders", FORCED_OPEN, 60.0, "maintenance")
        assert (forced.known, forced.state) == (False, FORCED_OPEN)
        assert forced.generation > 0

    async def test_reset_is_a_later_generation_for_everybody(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        await until(a.fails, OPEN)
        opened = await b.say()
        await a.store.reset("default")
        first, second = await b.say(), await a.say()
        assert (first.known, first.state) == (False, CLOSED)
        assert (second.known, second.state) == (True, CLOSED)
        assert first.generation == second.generation > opened.generation


class TestFleet:
    async def test_replicas_are_counted(self, replica: Replicas) -> None:
        a, b, c = await voices(replica, "a", "b", "c")
        await a.say()
        assert a.replicas == 3
        await c.store.leave()
        await b.say()
        assert b.replicas == 2

    async def test_a_dead_replica_stops_counting(self, replica: Replicas) -> None:
        a, _dead = await voices(replica, "a", "dead")
        deadline = time.monotonic() + 30.0
        while a.replicas == 2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
            await a.say()
        assert a.replicas == 1

    async def test_the_version_changes_with_a_circuit_and_only_then(self, replica: Replicas) -> None:
        a, b = await voices(replica, "a", "b", settings=LONG)
        await b.say()
        before = b.version
        for _ in range(3):
            await a.say(calls=1, success_age=0.0)
            await b.say()
        assert b.version == before
        for change in (
            lambda: a.store.force("default", FORCED_OPEN, 60.0, "x"),
            lambda: a.store.force("default", None, 0.0, ""),
            lambda: a.store.reset("default"),
        ):
            await b.say()
            before = b.version
            await change()
            await b.say()
            assert b.version != before

    async def test_the_epoch_stays(self, replica: Replicas) -> None:
        a, b = replica("a"), replica("b")
        assert (await a.sync([])).epoch == (await b.sync([])).epoch


@pytest.fixture
async def circuits(redis: RedisServer) -> AsyncIterator[RedisCircuits]:
    client = RedisClient(RedisConfig("single", ((redis.host, redis.port),), timeout=5.0))
    yield RedisCircuits(client, "api-gateway", "a")
    await client.close()


async def test_what_redis_holds(redis: RedisServer, circuits: RedisCircuits) -> None:
    a = Voice(circuits, LONG)
    await a.say()
    assert redis.execute("HGET", "api-gateway:circuit-breaker", "state") == "closed"
    await a.fails()
    held = redis.execute("HGETALL", "api-gateway:circuit-breaker")
    assert held["state"] == "open"
    assert held["failures"] == "3"
    assert int(held["generation"]) == a.generation
    assert abs(float(held["opened_at"]) - time.time()) < 5.0
    # Who is there, and nothing of what it had seen.
    assert held["replica:a"].split()[1:5] == ["0", "0", "0", "0"]
    assert len(held["replica:a"].split()) == 7
    assert redis.execute("TTL", "api-gateway:circuit-breaker") > 60
    assert redis.execute("TTL", "api-gateway:replicas") > 2
    await Voice(circuits, upstream="orders").say()
    assert redis.execute("HGET", "api-gateway:circuit-breaker:orders", "state") == "closed"


async def test_evidence_of_another_version_is_nobodys(redis: RedisServer, circuits: RedisCircuits) -> None:
    a = Voice(circuits, LONG)
    await a.say()
    redis.execute("HSET", "api-gateway:circuit-breaker", "replica:b", f"{time.time():.6f} 100 0 0 {time.time():.6f}")
    await a.say(failures=2, calls=2, ages=(0.0, 0.1))
    assert (await a.fails()).state is OPEN
