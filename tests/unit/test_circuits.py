"""What a replica makes of its circuits: alone, with the fleet, and when the store comes and goes.

Several replicas share one in-memory store and one clock that the tests advance; the exchange with the fleet is driven
by hand, except where the loop itself is tested.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from gateway.config.sections.upstreams.model import EndpointConfig, UpstreamConfig
from gateway.fleet.circuits import Circuit, CircuitOpen, Circuits, Permit, SharedCircuit
from gateway.fleet.link import Link
from gateway.fleet.shared_circuit import DELETED, HERE_ONLY
from gateway.fleet.sync import FleetSync
from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.outcome import Outcome
from gateway.store.memory.circuits import CircuitTable, MemoryCircuits
from gateway.store.port import CircuitReport, CircuitSnapshot, ProbeLease, StoreUnavailable, SyncAnswer

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, FORCED_CLOSED = CircuitState.FORCED_OPEN, CircuitState.FORCED_CLOSED
SUCCESS, FAILURE, IGNORED = Outcome.SUCCESS, Outcome.FAILURE, Outcome.IGNORED

SETTINGS = BreakerSettings(failure_threshold=3, minimum_calls=10, reset_timeout=30.0, half_open_success_threshold=2)


def upstream(name: str = "default", settings: BreakerSettings = SETTINGS) -> UpstreamConfig:
    return UpstreamConfig(name, (EndpointConfig("127.0.0.1", 9),), authority="x", attempt_timeout=4.0, breaker=settings)


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Cable(MemoryCircuits):
    """The memory store at the end of a cable that can be pulled, or can answer late."""

    time_limit = 2.0

    def __init__(self, table: CircuitTable, replica: str) -> None:
        super().__init__(table, replica)
        self.error: Exception | None = None
        self.pace: asyncio.Event | None = None
        self.delay = 0.0
        self.syncs = 0
        self.leases = 0

    async def sync(self, reports: Sequence[CircuitReport]) -> SyncAnswer:
        self.syncs += 1
        await self._travel()
        return await super().sync(reports)

    async def lease_probe(
        self, upstream: str, settings: BreakerSettings, lease_time: float
    ) -> ProbeLease | CircuitSnapshot:
        self.leases += 1
        await self._travel()
        return await super().lease_probe(upstream, settings, lease_time)

    async def settle_probe(
        self, lease: ProbeLease, settings: BreakerSettings, outcome: Outcome, reached: bool = True
    ) -> CircuitSnapshot:
        await self._travel()
        return await super().settle_probe(lease, settings, outcome, reached)

    async def force(self, upstream: str, state: CircuitState | None, duration: float, cause: str) -> CircuitSnapshot:
        await self._travel()
        return await super().force(upstream, state, duration, cause)

    async def reset(self, upstream: str) -> None:
        await self._travel()
        await super().reset(upstream)

    async def _travel(self) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.pace is not None:
            await self.pace.wait()
        if self.error is not None:
            raise self.error


class Out:
    """Something that the loop follows, and reads with every exchange."""

    interval = 0.0

    def __init__(self) -> None:
        self.delay = 0.0
        self.asked = 0

    async def refresh(self) -> None:
        await asyncio.sleep(self.delay)
        self.asked += 1


class Replica:
    def __init__(self, table: CircuitTable, clock: Time, name: str, *upstreams: UpstreamConfig) -> None:
        self.clock = clock
        self.store = Cable(table, name)
        self.link = Link(clock)
        self.version = 0
        self.told: list[tuple[str, CircuitState, CircuitState]] = []
        self.causes: list[str] = []
        self.reachable = True
        self.dials = 0
        self.dial_pace: asyncio.Event | None = None
        self.circuits = Circuits(
            upstreams or (upstream(),),
            self.store,
            self.link,
            clock,
            on_transition=self._transitioned,
            dial=self._dial,
        )

    async def _dial(self, endpoints: Sequence[EndpointConfig]) -> bool:
        assert endpoints
        self.dials += 1
        if self.dial_pace is not None:
            await self.dial_pace.wait()
        return self.reachable

    def _transitioned(self, name: str, old: CircuitState, new: CircuitState, cause: str) -> None:
        self.told.append((name, old, new))
        self.causes.append(cause)

    @property
    def circuit(self) -> SharedCircuit:
        circuit = self.circuits["default"]
        assert isinstance(circuit, SharedCircuit)
        return circuit

    @property
    def state(self) -> CircuitState:
        return self.circuit.state

    async def exchange(self, everything: bool = True) -> None:
        """What the loop does: once, and again when the version has changed."""
        reports = self.circuits.reports(self.clock(), everything)
        try:
            answer = await self.store.sync(reports)
        except StoreUnavailable as exc:
            self.link.lost(exc)
            return
        for report, snapshot in zip(reports, answer.circuits, strict=True):
            self.circuits.apply(report, snapshot, answer.epoch, self.clock())
        self.link.back(answer.replicas)
        if answer.version != self.version:
            self.version = answer.version
            await self.exchange()

    def attempt(self, outcome: Outcome, elapsed: float = 0.1, reached: bool = True) -> None:
        permit = self.circuit.try_acquire(self.clock())
        assert isinstance(permit, Permit)
        permit.release(outcome, elapsed, self.clock(), reached=reached)

    def fail(self, times: int = 3, reached: bool = True) -> None:
        for _ in range(times):
            self.attempt(FAILURE, reached=reached)

    async def ask(self) -> Permit | CircuitOpen:
        return await answer_of(self.circuit)


async def answer_of(circuit: Circuit) -> Permit | CircuitOpen:
    answered: list[Permit | CircuitOpen] = []
    circuit.acquire(answered.append)
    assert answered == []
    while not answered:
        await asyncio.sleep(0)
    return answered[0]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def table(clock: Time) -> CircuitTable:
    return CircuitTable(clock)


@pytest.fixture
def replica(table: CircuitTable, clock: Time) -> Callable[[str], Replica]:
    return lambda name: Replica(table, clock, name)


async def tripped(replica: Callable[[str], Replica], *names: str) -> list[Replica]:
    """Replicas that all know of an open circuit of the fleet; the first one tripped it."""
    replicas = [replica(name) for name in names]
    first = replicas[0]
    await first.exchange()
    first.fail()
    await first.exchange()
    for each in replicas:
        await each.exchange()
    assert [each.state for each in replicas] == [OPEN] * len(replicas)
    return replicas


class TestWithoutItsStore:
    def circuits(self, clock: Time, told: list[CircuitState] | None = None) -> Circuits:
        hook = [] if told is None else told
        return Circuits(
            [upstream(), upstream("orders")],
            MemoryCircuits(CircuitTable(clock), "one"),
            Link(clock),
            clock,
            on_transition=lambda _n, _o, new, _c: hook.append(new),
        )

    def test_is_a_breaker_with_a_name(self, clock: Time) -> None:
        told: list[CircuitState] = []
        circuit = self.circuits(clock, told)["default"]
        for _ in range(3):
            permit = circuit.try_acquire(clock())
            assert isinstance(permit, Permit)
            permit.release(FAILURE, 0.1, clock())
        assert circuit.upstream == "default"
        assert (circuit.state, circuit.failures, circuit.cause) == (OPEN, 3, "3 consecutive failures")
        assert (circuit.retry_after(clock()), circuit.opened_at) == (30.0, 1000.0)
        assert circuit.try_acquire(clock()) == CircuitOpen(30.0, "3 consecutive failures")
        clock.now += 30.0
        assert circuit.retry_after(clock()) == 0.0
        assert told == [OPEN, HALF_OPEN]

    async def test_acquire_answers_later_and_once(self, clock: Time) -> None:
        circuit = self.circuits(clock)["default"]
        assert isinstance(await answer_of(circuit), Permit)

    async def test_is_forced_released_and_reset_here_only(self, clock: Time) -> None:
        circuits = self.circuits(clock)
        assert not await circuits.force("default", FORCED_OPEN, 60.0, "maintenance")
        assert [circuit.state for circuit in circuits.values()] == [FORCED_OPEN, CLOSED]
        assert not await circuits.release("default")
        assert circuits["default"].state is CLOSED
        await circuits.force("default", FORCED_CLOSED, 60.0, "keep it up")
        assert not await circuits.reset("default")
        assert circuits["default"].state is CLOSED

    @pytest.mark.parametrize("state", [FORCED_OPEN, FORCED_CLOSED])
    async def test_knows_how_long_a_force_lasts(self, clock: Time, state: CircuitState) -> None:
        circuits = self.circuits(clock)
        circuit = circuits["default"]
        assert circuit.forced_for(clock()) == 0.0
        await circuits.force("default", state, 60.0, "drill")
        clock.now += 20.0
        assert circuit.forced_for(clock()) == 40.0
        clock.now += 40.0
        assert (circuit.forced_for(clock()), circuit.state) == (0.0, CLOSED)

    def test_one_that_tripped_is_not_forced(self, clock: Time) -> None:
        circuit = self.circuits(clock)["default"]
        for _ in range(3):
            permit = circuit.try_acquire(clock())
            assert isinstance(permit, Permit)
            permit.release(FAILURE, 0.1, clock())
        assert (circuit.state, circuit.forced_for(clock())) == (OPEN, 0.0)

    async def test_a_force_must_be_one(self, clock: Time) -> None:
        with pytest.raises(ValueError, match="forced open or closed"):
            await self.circuits(clock).force("default", OPEN, 1.0, "")

    def test_lists_its_upstreams(self, clock: Time) -> None:
        circuits = self.circuits(clock)
        assert list(circuits) == ["default", "orders"]
        assert len(circuits) == 2
        assert "nobody" not in circuits

    @pytest.mark.parametrize(
        ("state", "line", "level"),
        [
            (FORCED_OPEN, "Circuit breaker OPENED for upstream default: forced, drill", logging.WARNING),
            (FORCED_CLOSED, "Circuit breaker CLOSED for upstream default: forced, drill", logging.INFO),
        ],
    )
    async def test_logs_forces(
        self, clock: Time, caplog: pytest.LogCaptureFixture, state: CircuitState, line: str, level: int
    ) -> None:
        caplog.set_level(logging.INFO, "gateway.circuit")
        await self.circuits(clock).force("default", state, 60.0, "drill")
        assert [(record.getMessage(), record.levelno) for record in caplog.records] == [(line, level)]


class TestSharing:
    async def test_a_trip_is_followed_and_told_once(self, replica: Callable[[str], Replica]) -> None:
        a, b = await tripped(replica, "a", "b")
        assert a.told == b.told == [("default", CLOSED, OPEN)]
        assert a.circuit.generation == b.circuit.generation > 0
        assert b.circuit.failures == 3
        refusal = b.circuit.try_acquire(b.clock())
        assert refusal == CircuitOpen(30.0, "3 consecutive failures")
        assert b.circuit.opened_at == b.clock()
        # Each shows what it has seen itself.
        assert [each.circuit.counts(each.clock()) for each in (a, b)] == [(3, 3, 0), (0, 0, 0)]

    @pytest.mark.parametrize("how", ["deleted", "reset"])
    async def test_a_circuit_that_vanishes_from_the_store_closes_for_a_cause(
        self, replica: Callable[[str], Replica], table: CircuitTable, clock: Time, how: str
    ) -> None:
        a, b = await tripped(replica, "a", "b")
        clock.now += 1.0
        if how == "reset":
            await a.circuits.reset("default")
        else:
            table.circuits.clear()
        for each in (a, b):
            await each.exchange()
            assert (each.state, each.told[-1]) == (CLOSED, ("default", OPEN, CLOSED))
        assert (a.causes[-1], b.causes[-1]) == ("reset" if how == "reset" else DELETED, DELETED)

    async def test_what_is_seen_just_after_ones_own_reset_counts_in_the_new_generation(
        self, replica: Callable[[str], Replica], clock: Time
    ) -> None:
        a, b = await tripped(replica, "a", "b")
        clock.now += 1.0
        await a.circuits.reset("default")
        # The upstream still fails, and the circuit is open before the replica has met the new circuit of the fleet.
        a.fail()
        assert a.state is OPEN
        clock.now += 0.02
        for each in (a, b, a, b):
            await each.exchange()
        clock.now += 0.1
        for each in (a, b, a, b):
            await each.exchange()
        assert (a.state, b.state) == (OPEN, OPEN)
        assert a.causes == ["3 consecutive failures", "reset", "3 consecutive failures"]

    async def test_a_replica_forgets_its_evidence_with_each_generation(self, replica: Callable[[str], Replica]) -> None:
        a, b = replica("a"), replica("b")
        await a.exchange()
        await b.exchange()
        late = b.circuit.try_acquire(b.clock())
        b.fail(2)
        assert isinstance(late, Permit)
        b.clock.now += 0.001
        await a.circuits.reset("default")
        await b.exchange()
        late.release(FAILURE, 0.1, b.clock())
        b.fail(2)
        assert b.state is CLOSED

    async def test_a_lone_opinion_protects_only_its_holder(
        self, replica: Callable[[str], Replica], clock: Time
    ) -> None:
        a, b = replica("a"), replica("b")
        for each in (a, b):
            await each.exchange()
        a.fail()
        clock.now += 0.01
        b.attempt(SUCCESS)
        for _ in range(20):
            for each in (a, b):
                await each.exchange(everything=False)
            clock.now += 0.05
        assert (a.state, b.state) == (OPEN, CLOSED)
        clock.now += 30.0
        await a.exchange()
        assert a.state is HALF_OPEN
        # Its probes need no lease of the fleet, whose circuit is closed.
        a.attempt(SUCCESS)
        a.attempt(SUCCESS)
        assert a.state is CLOSED
        assert a.store.leases == 0

    async def test_only_what_has_news_is_reported(self, table: CircuitTable, clock: Time) -> None:
        a = Replica(table, clock, "a", upstream(), upstream("orders"))
        await a.exchange()
        assert a.circuits.reports(clock(), everything=False) == []
        a.attempt(SUCCESS)
        assert a.circuits.reports(clock(), everything=False) == []
        a.attempt(FAILURE)
        assert [report.upstream for report in a.circuits.reports(clock(), everything=False)] == ["default"]
        assert a.circuits.reports(clock(), everything=False) == []
        clock.now += 0.5
        assert len(a.circuits.reports(clock(), everything=False)) == 2

    async def test_an_answer_that_was_overtaken_is_ignored(self, replica: Callable[[str], Replica]) -> None:
        a, b = replica("a"), replica("b")
        await a.exchange()
        await b.exchange()
        (report,) = a.circuits.reports(a.clock(), everything=True)
        (stale,) = (await a.store.sync([report])).circuits
        await a.circuits.force("default", FORCED_OPEN, 60.0, "maintenance")
        a.circuits.apply(report, stale, 1, a.clock())
        assert a.state is FORCED_OPEN

    async def test_an_answer_from_before_a_reset_does_not_bring_the_circuit_back(
        self, replica: Callable[[str], Replica]
    ) -> None:
        (a,) = await tripped(replica, "a")
        (report,) = a.circuits.reports(a.clock(), everything=True)
        (stale,) = (await a.store.sync([report])).circuits
        assert await a.circuits.reset("default")
        a.circuits.apply(report, stale, 1, a.clock())
        assert a.state is CLOSED
        await a.exchange()
        assert a.state is CLOSED

    @pytest.mark.parametrize("state", [FORCED_OPEN, FORCED_CLOSED])
    async def test_every_replica_knows_how_long_a_force_lasts(
        self, replica: Callable[[str], Replica], clock: Time, state: CircuitState
    ) -> None:
        a, b = await tripped(replica, "a", "b")
        assert a.circuit.forced_for(clock()) == 0.0, "open is not forced"
        await a.circuits.force("default", state, 60.0, "drill")
        assert a.circuit.forced_for(clock()) == pytest.approx(60.0)
        clock.now += 10.0
        await b.exchange()
        assert b.circuit.forced_for(clock()) == pytest.approx(50.0)
        # Nobody to ask: each goes on from there by itself.
        b.link.lost(StoreUnavailable("gone"))
        clock.now += 10.0
        assert b.circuit.forced_for(clock()) == pytest.approx(40.0)
        clock.now += 40.0
        assert (b.circuit.forced_for(clock()), b.state) == (0.0, CLOSED)

    async def test_a_force_from_a_time_without_link_can_be_released(self, replica: Callable[[str], Replica]) -> None:
        a = replica("a")
        assert not await a.circuits.force("default", FORCED_OPEN, 60.0, "maintenance")
        await a.exchange()
        assert a.state is FORCED_OPEN
        assert await a.circuits.release("default")
        assert a.state is CLOSED


async def exchanges(*replicas: Replica, times: int = 6) -> None:
    """What the loops of the replicas do in the time that it takes to decide anything."""
    for _ in range(times):
        for each in replicas:
            await each.exchange(everything=False)
            await settled()
        replicas[0].clock.now += 0.03


class TestCutOff:
    async def both(self, replica: Callable[[str], Replica]) -> list[Replica]:
        found = [replica("a"), replica("b")]
        for each in found:
            await each.exchange()
        found[0].clock.now += 0.1
        return found

    async def probes_in_vain(self, a: Replica, b: Replica) -> None:
        """The circuit of both half-open, and a's probe without a connection."""
        a.clock.now += 30.0
        await exchanges(a, b)
        probe = await a.ask()
        assert isinstance(probe, Permit)
        probe.release(FAILURE, 0.001, a.clock(), reached=False)
        await settled()

    async def test_a_replica_that_can_connect_keeps_its_circuit_closed(self, replica: Callable[[str], Replica]) -> None:
        a, b = await self.both(replica)
        a.fail(reached=False)
        await exchanges(a, b)
        assert (a.state, b.state, b.dials) == (OPEN, CLOSED, 1)
        assert (a.circuit.cause, b.told) == (HERE_ONLY, [])
        # Each failed probe of its own raises the question anew, and a success ends it.
        a.clock.now += 30.0
        await b.exchange()
        a.attempt(FAILURE, reached=False)
        await exchanges(a, b)
        assert (a.state, b.state, b.dials) == (OPEN, CLOSED, 2)
        a.clock.now += 30.0
        a.attempt(SUCCESS)
        a.attempt(SUCCESS)
        await exchanges(a, b)
        assert (a.state, b.state, b.dials) == (CLOSED, CLOSED, 2)

    async def test_one_that_cannot_either_lets_the_fleet_trip(self, replica: Callable[[str], Replica]) -> None:
        a, b = await self.both(replica)
        b.reachable = False
        a.fail(reached=False)
        await exchanges(a, b)
        assert (a.state, b.state, b.circuit.cause) == (OPEN, OPEN, "3 consecutive failures")
        assert a.causes == ["3 consecutive failures"]

    async def test_a_word_that_comes_too_late_is_asked_for_again(self, replica: Callable[[str], Replica]) -> None:
        a, b = await self.both(replica)
        b.dial_pace = asyncio.Event()
        a.fail(reached=False)
        await exchanges(a, b)
        await a.circuits.reset("default")
        await exchanges(a, b)
        b.dial_pace.set()
        await settled()
        a.clock.now += 0.1
        a.fail(reached=False)
        await exchanges(a, b)
        assert (a.state, b.state, b.dials) == (OPEN, CLOSED, 2)
        assert a.circuit.cause == HERE_ONLY

    async def test_a_success_elsewhere_says_so_too(self, replica: Callable[[str], Replica]) -> None:
        a, b = await self.both(replica)
        a.fail(reached=False)
        b.clock.now += 0.01
        b.attempt(SUCCESS)
        await b.exchange()
        await exchanges(a, b)
        assert (a.circuit.cause, b.dials) == (HERE_ONLY, 0)

    async def test_other_failures_need_nobody_to_try(self, replica: Callable[[str], Replica]) -> None:
        a, b = await self.both(replica)
        a.fail(2, reached=False)
        a.attempt(SUCCESS)
        a.clock.now += 0.01
        a.fail()
        await exchanges(a, b)
        assert (a.state, b.state, b.dials) == (OPEN, OPEN, 0)

    async def test_its_failed_probe_bars_only_itself(self, replica: Callable[[str], Replica], clock: Time) -> None:
        a, b = await tripped(replica, "a", "b")
        await self.probes_in_vain(a, b)
        assert a.state is OPEN
        refusal = a.circuit.try_acquire(clock())
        assert isinstance(refusal, CircuitOpen)
        assert refusal.retry_after == pytest.approx(30.0)
        await exchanges(a, b)
        assert (a.state, b.state, b.dials) == (OPEN, HALF_OPEN, 1)
        for _ in range(2):
            probe = await b.ask()
            assert isinstance(probe, Permit)
            probe.release(SUCCESS, 0.1, clock())
            await settled()
        await exchanges(a, b)
        assert (a.state, b.state) == (CLOSED, CLOSED)

    async def test_its_failed_probe_reopens_when_nobody_can_connect(
        self, replica: Callable[[str], Replica], clock: Time
    ) -> None:
        a, b = await tripped(replica, "a", "b")
        b.reachable = False
        await self.probes_in_vain(a, b)
        await exchanges(a, b)
        assert (a.state, b.state, b.circuit.cause) == (OPEN, OPEN, "a probe failed")


class TestProbes:
    async def test_nobody_is_let_through_without_a_lease(self, replica: Callable[[str], Replica], clock: Time) -> None:
        a, b = await tripped(replica, "a", "b")
        clock.now += 30.0
        # The open time is over, though no exchange has said so yet.
        assert a.circuit.try_acquire(clock()) is None
        probe = await a.ask()
        assert isinstance(probe, Permit)
        assert probe.probe
        assert a.state is HALF_OPEN
        refused = await b.ask()
        assert isinstance(refused, CircuitOpen)
        assert 0.0 < refused.retry_after <= 1.0
        # Having been told so, it does not ask again until the next exchange.
        assert isinstance(b.circuit.try_acquire(clock()), CircuitOpen)

    async def test_a_refused_client_is_told_what_is_true_of_an_old_probe(
        self, replica: Callable[[str], Replica], clock: Time
    ) -> None:
        a, b = await tripped(replica, "a", "b")
        clock.now += 30.0
        assert isinstance(await a.ask(), Permit)
        # Its time is that of an attempt and a second.
        for age, told in ((0.5, 1.0), (1.5, 3.5), (3.0, 2.0), (4.8, 0.2)):
            clock.now = 1030.0 + age
            await exchanges(a, b, times=1)
            clock.now = 1030.0 + age
            refusal = b.circuit.try_acquire(clock())
            assert isinstance(refusal, CircuitOpen)
            assert refusal.retry_after == pytest.approx(told)

    async def test_one_question_at_a_time(self, replica: Callable[[str], Replica], clock: Time) -> None:
        (a,) = await tripped(replica, "a")
        clock.now += 30.0
        a.store.pace = asyncio.Event()
        answers: list[Permit | CircuitOpen] = []
        a.circuit.acquire(answers.append)
        for _ in range(10):
            assert isinstance(a.circuit.try_acquire(clock()), CircuitOpen)
            a.circuit.acquire(answers.append)
        await settled()
        assert [type(answer) for answer in answers] == [CircuitOpen] * 10
        a.store.pace.set()
        await settled()
        assert len(answers) == 11
        assert isinstance(answers[-1], Permit)
        assert a.store.leases == 1

    async def test_successes_close_it_for_everybody(self, replica: Callable[[str], Replica], clock: Time) -> None:
        a, b = await tripped(replica, "a", "b")
        clock.now += 30.0
        for each in (a, b):
            probe = await each.ask()
            assert isinstance(probe, Permit)
            probe.release(SUCCESS, 0.1, clock())
            await settled()
            for other in (a, b):
                await other.exchange()
        assert (a.state, b.state) == (CLOSED, CLOSED)
        assert b.told == [("default", CLOSED, OPEN), ("default", OPEN, HALF_OPEN), ("default", HALF_OPEN, CLOSED)]

    @pytest.mark.parametrize(("outcome", "elapsed"), [(FAILURE, 0.1), (SUCCESS, 2.0)])
    async def test_a_failed_or_slow_one_reopens(
        self, table: CircuitTable, clock: Time, outcome: Outcome, elapsed: float
    ) -> None:
        settings = replace(SETTINGS, slow_call_threshold=2.0)
        (a,) = await tripped(lambda name: Replica(table, clock, name, upstream(settings=settings)), "a")
        clock.now += 30.0
        probe = await a.ask()
        assert isinstance(probe, Permit)
        probe.release(outcome, elapsed, clock())
        await settled()
        assert a.state is OPEN
        assert a.circuit.retry_after(clock()) == 30.0

    async def test_one_released_twice_counts_once(self, replica: Callable[[str], Replica], clock: Time) -> None:
        (a,) = await tripped(replica, "a")
        clock.now += 30.0
        probe = await a.ask()
        assert isinstance(probe, Permit)
        for _ in range(2):
            probe.release(SUCCESS, 0.1, clock())
            await settled()
        assert a.state is HALF_OPEN

    async def test_the_lease_lasts_as_long_as_an_attempt_may(
        self, replica: Callable[[str], Replica], clock: Time
    ) -> None:
        a, b = await tripped(replica, "a", "b")
        clock.now += 30.0
        lost = await a.ask()
        clock.now += 4.9
        await b.exchange()
        assert isinstance(await b.ask(), CircuitOpen)
        clock.now += 0.2
        await b.exchange()
        assert isinstance(await b.ask(), Permit)
        assert isinstance(lost, Permit)
        lost.release(FAILURE, 5.1, clock())
        await settled()
        assert a.state is HALF_OPEN

    async def test_a_store_that_fails_leaves_it_to_the_own_breaker(
        self, replica: Callable[[str], Replica], clock: Time
    ) -> None:
        (a,) = await tripped(replica, "a")
        clock.now += 30.0
        a.store.error = StoreUnavailable("gone")
        # It may be a hiccup: for a second more, nobody probes without a lease.
        assert isinstance(await a.ask(), CircuitOpen)
        assert not a.link.up
        assert isinstance(a.circuit.try_acquire(clock()), CircuitOpen)
        clock.now += 1.0
        probe = await a.ask()
        assert isinstance(probe, Permit)
        probe.release(SUCCESS, 0.1, clock())
        a.attempt(SUCCESS)
        assert a.state is CLOSED

    async def test_a_store_that_fails_in_the_end_leaves_the_outcome_to_it(
        self, replica: Callable[[str], Replica], clock: Time
    ) -> None:
        (a,) = await tripped(replica, "a")
        clock.now += 30.0
        probe = await a.ask()
        assert isinstance(probe, Permit)
        a.store.error = StoreUnavailable("gone")
        probe.release(FAILURE, 0.1, clock())
        await settled()
        assert not a.link.up
        assert a.state is OPEN

    async def test_a_defect_of_the_store_refuses_and_is_logged(
        self, replica: Callable[[str], Replica], clock: Time, caplog: pytest.LogCaptureFixture
    ) -> None:
        (a,) = await tripped(replica, "a")
        clock.now += 30.0
        a.store.error = RuntimeError("a defect")
        assert isinstance(await a.ask(), CircuitOpen)
        assert "Asking for a probe of upstream default failed" in caplog.text

    async def test_closing_waits_for_outcomes(self, replica: Callable[[str], Replica], clock: Time) -> None:
        (a,) = await tripped(replica, "a")
        clock.now += 30.0
        probe = await a.ask()
        assert isinstance(probe, Permit)
        probe.release(FAILURE, 0.1, clock())
        await a.circuits.close()
        assert a.state is OPEN


class TestLinkLost:
    async def test_an_open_circuit_stays_open_until_its_time(
        self, replica: Callable[[str], Replica], clock: Time
    ) -> None:
        _, b = await tripped(replica, "a", "b")
        b.link.lost(StoreUnavailable("gone"))
        clock.now += 29.0
        assert b.circuit.try_acquire(clock()) == CircuitOpen(1.0, "3 consecutive failures")
        clock.now += 1.0
        assert b.state is HALF_OPEN
        b.attempt(SUCCESS)
        b.attempt(SUCCESS)
        assert b.state is CLOSED

    async def test_on_return_the_fleet_decides_again(self, replica: Callable[[str], Replica], clock: Time) -> None:
        a, b = await tripped(replica, "a", "b")
        b.link.lost(StoreUnavailable("gone"))
        clock.now += 30.0
        b.attempt(SUCCESS)
        b.attempt(SUCCESS)
        await a.exchange()
        await b.exchange()
        assert (a.state, b.state) == (HALF_OPEN, HALF_OPEN)

    async def test_a_store_that_lost_its_memory_closes_nothing(
        self, replica: Callable[[str], Replica], table: CircuitTable
    ) -> None:
        a, b = await tripped(replica, "a", "b")
        for each in (a, b):
            each.link.lost(StoreUnavailable("gone"))
        table.circuits.clear()
        table.seen.clear()
        table.epoch += 1
        for each in (a, b, a, b):
            await each.exchange()
        assert (a.state, b.state) == (OPEN, OPEN)

    async def test_a_flush_without_a_loss_closes_like_a_deleted_key(
        self, replica: Callable[[str], Replica], table: CircuitTable, clock: Time
    ) -> None:
        a, b = await tripped(replica, "a", "b")
        clock.now += 1.0
        table.circuits.clear()
        table.epoch += 1
        for each in (b, a):
            await each.exchange()
        assert (a.state, b.state) == (CLOSED, CLOSED)

    async def test_a_deleted_key_closes_even_if_the_link_was_lost_meanwhile(
        self, replica: Callable[[str], Replica], table: CircuitTable, clock: Time
    ) -> None:
        a, b = await tripped(replica, "a", "b")
        for each in (a, b):
            each.link.lost(StoreUnavailable("gone"))
        clock.now += 1.0
        table.circuits.clear()
        for each in (a, b):
            await each.exchange()
        assert (a.state, b.state) == (CLOSED, CLOSED)

    async def test_evidence_from_meanwhile_is_heard_on_return(self, replica: Callable[[str], Replica]) -> None:
        a = replica("a")
        a.store.error = StoreUnavailable("gone")
        await a.exchange()
        a.fail()
        a.store.error = None
        await a.exchange()
        await a.exchange(everything=False)
        assert a.circuit.generation > 0
        b = replica("b")
        await b.exchange()
        assert b.state is OPEN


class TestLink:
    def test_begins_down_and_says_nothing_when_all_is_well(self, clock: Time, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "gateway.fleet")
        link = Link(clock)
        assert (link.up, link.replicas) == (False, 1)
        link.back(3)
        assert (link.up, link.replicas, link.last_error) == (True, 3, None)
        assert caplog.records == []

    def test_tells_each_change_once(self, clock: Time, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "gateway.fleet")
        link = Link(clock)
        woken: list[bool] = []
        link.wake = lambda: woken.append(link.up)
        link.back(2)
        clock.now += 5.0
        for _ in range(3):
            link.lost(StoreUnavailable("no answer"))
        assert (link.up, link.since, link.losses, link.replicas) == (False, 1005.0, 1, 2)
        assert link.last_error == "no answer"
        clock.now += 5.0
        for _ in range(3):
            link.back(0)
        assert (link.up, link.since, link.replicas) == (True, 1010.0, 1)
        assert woken == [False]
        assert [(record.levelno, record.getMessage().split(":")[0].split(",")[0]) for record in caplog.records] == [
            (logging.WARNING, "Redis lost"),
            (logging.INFO, "Redis is back"),
        ]

    def test_one_that_comes_and_goes_needs_more_good_answers_each_time(self, clock: Time) -> None:
        link = Link(clock)
        link.back(1)
        needed = []
        for _ in range(5):
            clock.now += 1.0
            link.lost(StoreUnavailable("no answer"))
            answers = 0
            while not link.up:
                link.back(1)
                answers += 1
            needed.append(answers)
        assert needed == [1, 2, 4, 6, 6]
        link.lost(StoreUnavailable("no answer"))
        for _ in range(5):
            link.back(1)
        link.lost(StoreUnavailable("late"))  # they count in a row
        for _ in range(5):
            link.back(1)
        assert repr(link) == "Link(up=False, replicas=1)"
        link.back(1)
        assert repr(link) == "Link(up=True, replicas=1)"
        clock.now += 10.0
        link.lost(StoreUnavailable("no answer"))
        link.back(1)
        assert link.up

    def test_while_the_gateway_starts_nothing_is_news(self, clock: Time, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "gateway.fleet")
        link = Link(clock, starting=True)
        link.lost(StoreUnavailable("not yet"))
        link.back(2)
        link.started(0.4)
        assert (link.up, caplog.records) == (True, [])

    def test_one_not_reached_at_the_start_is_told_once(self, clock: Time, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "gateway.fleet")
        link = Link(clock, starting=True)
        link.lost(StoreUnavailable("refused"))
        link.started(2.0)
        link.lost(StoreUnavailable("refused"))
        (record,) = caplog.records
        assert record.getMessage().startswith("Redis lost: no answer within 2.0 s of the start (refused)")


class TestLoop:
    """The loop itself, in real time: how long it takes is tested with the faults, here only what it does."""

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(5.0):
            while not true():
                await asyncio.sleep(0.001)

    async def test_a_late_answer_is_as_good_as_none(self, replica: Callable[[str], Replica]) -> None:
        a = replica("a")
        a.store.time_limit = 0.03
        loop = FleetSync(a.store, a.link, a.circuits, a.clock, interval=0.01)
        loop.start()
        await loop.joined(5.0)
        assert a.link.up
        a.store.pace = asyncio.Event()
        await self.until(lambda: not a.link.up)
        assert a.link.last_error == "Redis did not answer within 30 ms"
        await replica("b").exchange()
        a.store.time_limit = -1.0  # whatever comes is late
        a.store.pace.set()
        await self.until(lambda: repr(a.link) == "Link(up=False, replicas=2)")
        a.store.time_limit = 2.0
        await self.until(lambda: a.link.up)
        assert a.link.losses == 1
        await loop.stop()

    async def test_waits_for_the_first_answer_no_longer_than_it_is_told(
        self, replica: Callable[[str], Replica]
    ) -> None:
        a = replica("a")
        a.store.error = StoreUnavailable("gone")
        loop = FleetSync(a.store, a.link, a.circuits, a.clock)
        loop.start()
        await loop.joined(0.05)
        assert not a.link.up
        await loop.stop()

    async def test_brings_the_link_up_and_carries_a_trip(self, replica: Callable[[str], Replica]) -> None:
        a, b = replica("a"), replica("b")
        loops = [FleetSync(each.store, each.link, each.circuits, each.clock, interval=0.01) for each in (a, b)]
        for loop in loops:
            loop.start()
            loop.start()
        await self.until(lambda: a.link.up and b.link.up and b.link.replicas == 2)
        a.fail()
        for _ in range(20):
            a.clock.now += 0.01
            await asyncio.sleep(0.01)
        await self.until(lambda: b.state is OPEN)
        for loop in loops:
            await loop.stop()
        after = a.store.syncs
        await asyncio.sleep(0.05)
        assert a.store.syncs == after

    async def test_survives_anything(self, replica: Callable[[str], Replica], caplog: pytest.LogCaptureFixture) -> None:
        a = replica("a")
        loop = FleetSync(a.store, a.link, a.circuits, a.clock, interval=0.01)
        loop.start()
        await self.until(lambda: a.link.up)
        a.store.error = RuntimeError("a defect")
        before = a.store.syncs
        await self.until(lambda: not a.link.up and a.store.syncs >= before + 3)
        assert len([record for record in caplog.records if record.exc_info]) == 1
        a.store.error = None
        await self.until(lambda: a.link.up)
        await loop.stop()

    async def test_has_one_exchange_under_way_at_most(self, replica: Callable[[str], Replica]) -> None:
        a = replica("a")
        a.store.pace = asyncio.Event()
        loop = FleetSync(a.store, a.link, a.circuits, a.clock, interval=0.001)
        loop.start()
        for _ in range(10):
            await asyncio.sleep(0.002)
            a.link.wake()
        assert a.store.syncs == 1
        a.store.pace.set()
        await self.until(lambda: a.link.up)
        await loop.stop()

    async def test_stops_in_the_middle_of_an_exchange(self, replica: Callable[[str], Replica]) -> None:
        a = replica("a")
        a.store.pace = asyncio.Event()
        loop = FleetSync(a.store, a.link, a.circuits, a.clock)
        loop.start()
        await asyncio.sleep(0)
        await loop.stop()
        await loop.stop()
        assert not a.link.up

    async def test_reads_everything_when_the_version_has_changed(self, table: CircuitTable, clock: Time) -> None:
        a = Replica(table, clock, "a", upstream(), upstream("orders"))
        b = Replica(table, clock, "b", upstream(), upstream("orders"))
        loop = FleetSync(a.store, a.link, a.circuits, a.clock, interval=0.01)
        loop.start()
        await self.until(lambda: a.link.up)
        await b.exchange()
        # The clock stands still, so nothing becomes due by time.
        await b.circuits.force("orders", FORCED_OPEN, 60.0, "maintenance")
        await self.until(lambda: a.circuits["orders"].state is FORCED_OPEN)
        await loop.stop()

    async def test_each_of_its_two_questions_has_the_whole_time_limit(self, replica: Callable[[str], Replica]) -> None:
        a = replica("a")
        out = Out()
        loop = FleetSync(a.store, a.link, a.circuits, a.clock, interval=0.01, followed=out)
        loop.start()
        await self.until(lambda: a.link.up)
        a.store.time_limit = 0.5
        a.store.delay = out.delay = 0.3
        asked = out.asked
        await self.until(lambda: out.asked >= asked + 2)
        assert (a.link.up, a.link.losses) == (True, 0)
        await loop.stop()

    async def test_a_late_answer_about_what_it_follows_is_as_good_as_none(
        self, replica: Callable[[str], Replica]
    ) -> None:
        a = replica("a")
        out = Out()
        loop = FleetSync(a.store, a.link, a.circuits, a.clock, interval=0.01, followed=out)
        loop.start()
        await self.until(lambda: a.link.up)
        a.store.time_limit, out.delay = 0.03, 0.06
        await self.until(lambda: not a.link.up)
        assert a.link.last_error == "Redis did not answer within 30 ms"
        a.store.time_limit, out.delay = -1.0, 0.0  # whatever comes is late
        syncs = a.store.syncs
        await self.until(lambda: a.store.syncs >= syncs + 3)
        assert (a.link.up, a.link.losses) == (False, 1)
        a.store.time_limit = 2.0
        await self.until(lambda: a.link.up)
        await loop.stop()
