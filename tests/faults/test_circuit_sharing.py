"""Two and three replicas, in this process, on one real Redis, in real time: what they share, and what faults do to it.

Attempts at the upstream are made up (a permit is taken and released with an outcome); everything else is real.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.config.sections.redis.model import RedisConfig
from gateway.config.sections.upstreams.model import EndpointConfig, UpstreamConfig
from gateway.fleet.circuits import Circuits, Permit
from gateway.fleet.link import Link
from gateway.fleet.sync import FleetSync
from gateway.policy.breaker import BreakerSettings, CircuitOpen, CircuitState
from gateway.policy.outcome import Outcome
from gateway.store.redis.circuits import RedisCircuits
from gateway.store.redis.client import RedisClient
from tests.support.redis_server import RedisServer
from tests.support.slow_proxy import SlowProxy
from tests.support.waiting import PATIENCE, Stopwatch

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, FORCED_CLOSED = CircuitState.FORCED_OPEN, CircuitState.FORCED_CLOSED
KEY = "api-gateway:circuit-breaker"
IMPATIENT = 0.1


def upstream(reset_timeout: float, max_probes: int = 1, attempt_timeout: float = 10.0) -> UpstreamConfig:
    settings = BreakerSettings(reset_timeout=reset_timeout, half_open_max_probes=max_probes)
    return UpstreamConfig(
        "default",
        (EndpointConfig("127.0.0.1", 9),),
        authority="127.0.0.1:9",
        attempt_timeout=attempt_timeout,
        breaker=settings,
    )


class Replica:
    """What one gateway process has, without the proxy."""

    def __init__(self, address: tuple[str, int], name: str, config: UpstreamConfig, timeout: float) -> None:
        self.name = name
        self.client = RedisClient(RedisConfig("single", (address,), timeout=timeout, timeout_max=timeout))
        self.store = RedisCircuits(self.client, "api-gateway", name)
        self.link = Link()
        self.transitions: list[CircuitState] = []
        self.circuits = Circuits(
            [config], self.store, self.link, on_transition=lambda _name, _old, new, _cause: self.transitions.append(new)
        )
        self.circuit = self.circuits["default"]
        self.sync = FleetSync(self.store, self.link, self.circuits)

    @property
    def state(self) -> CircuitState:
        return self.circuit.state

    async def admit(self) -> Permit | CircuitOpen:
        verdict = self.circuit.try_acquire(time.monotonic())
        if verdict is None:
            answered: asyncio.Future[Permit | CircuitOpen] = asyncio.get_running_loop().create_future()
            self.circuit.acquire(answered.set_result)
            return await answered
        return verdict

    async def attempt(self, outcome: Outcome, takes: float = 0.0) -> bool:
        """One attempt; whether it was let through."""
        verdict = await self.admit()
        if isinstance(verdict, CircuitOpen):
            assert verdict.retry_after > 0.0
            return False
        if takes:
            await asyncio.sleep(takes)
        verdict.release(outcome, takes, time.monotonic())
        return True

    async def fail(self, times: int = 5) -> None:
        for _ in range(times):
            await self.attempt(Outcome.FAILURE)

    async def succeed(self, for_seconds: float) -> bool:
        """Attempts without a pause; whether all were let through."""
        deadline = time.monotonic() + for_seconds
        while time.monotonic() < deadline:
            if not await self.attempt(Outcome.SUCCESS):
                return False
            await asyncio.sleep(0.01)
        return True

    async def stop(self) -> None:
        await self.sync.stop()
        await self.circuits.close()
        await self.client.close()


Start = Callable[..., Awaitable[list[Replica]]]


@pytest.fixture
def server(redis: RedisServer) -> RedisServer:
    return redis


@pytest.fixture
async def start(server: RedisServer) -> AsyncIterator[Start]:
    started: list[Replica] = []

    async def begin(
        *names: str,
        reset_timeout: float = 30.0,
        wait: bool = True,
        timeout: float = 5.0,
        port: int | None = None,
        **other: float,
    ) -> list[Replica]:
        # More patient than production, where Redis is not the fault under test: the machine may be busy with others.
        config = upstream(reset_timeout, **other)  # type: ignore[arg-type]
        replicas = [Replica((server.host, port or server.port), name, config, timeout) for name in names]
        started.extend(replicas)
        for replica in replicas:
            replica.sync.start()
        if wait:
            await until(lambda: all(r.link.up and r.link.replicas == len(replicas) for r in replicas))
        return replicas

    yield begin
    server.ensure_running()
    await asyncio.gather(*(replica.stop() for replica in started))


async def until(true: Callable[[], bool], within: float = PATIENCE) -> float:
    """Wait for it; how long it took, less the time in which the machine did not let this process run at all."""
    with Stopwatch() as watch:
        while not true():
            assert watch.seconds < within, "not within the time limit"
            await asyncio.sleep(0.002)
        return watch.seconds


async def broken_alone(broken: Replica, healthy: Replica) -> None:
    """Trip the breaker of one replica while another serves.

    Where the machine stands still in the tenth of a second in which the healthy one is heard, the fleet believes the
    broken one: then once more.
    """
    for _ in range(5):
        await broken.fail()
        if await healthy.succeed(for_seconds=0.4) and broken.state is not CLOSED:
            return
        await broken.circuits.reset("default")
        await until(lambda: broken.state is CLOSED and healthy.state is CLOSED)
    pytest.fail("the healthy replica follows the broken one each time")


class TestTrip:
    async def test_reaches_an_idle_replica_in_a_quarter_of_a_second(self, start: Start) -> None:
        a, b = await start("a", "b")
        await b.attempt(Outcome.SUCCESS)
        await asyncio.sleep(0.02)
        await a.fail()
        assert a.state is OPEN
        assert await until(lambda: b.state is OPEN) < 0.25
        assert not await b.attempt(Outcome.SUCCESS)

    async def test_reaches_three_again_and_again(self, start: Start) -> None:
        replicas = await start("a", "b", "c")
        late = 0
        for _ in range(4):
            for failing in replicas:
                others = [replica for replica in replicas if replica is not failing]
                for other in others:
                    await other.attempt(Outcome.SUCCESS)
                await asyncio.sleep(0.06)
                await failing.fail()
                late += await until(lambda: all(other.state is OPEN for other in others)) >= 0.25  # noqa: B023
                await failing.circuits.reset("default")
                await until(lambda: all(replica.state is CLOSED for replica in replicas))
                await asyncio.sleep(0.06)
        # A few of twelve may fall into moments in which the machine runs these replicas and not Redis. One replica that
        # does not hear, or is not heard, in time is late four times.
        assert late <= 3

    async def test_of_a_replica_alone_is_immediate_and_in_the_hash(self, start: Start, server: RedisServer) -> None:
        (a,) = await start("a")
        await a.fail()
        await until(lambda: bool(server.execute("HGET", KEY, "state") == "open"), within=0.25)
        assert a.transitions == [OPEN]

    async def test_reaches_others_over_a_long_way_and_costs_no_link(self, start: Start, server: RedisServer) -> None:
        async with SlowProxy((server.host, server.port)) as proxy:
            proxy.delay = 0.1
            (a,) = await start("a", port=proxy.port, timeout=1.0)
            (b,) = await start("b", wait=False)
            await until(lambda: a.link.replicas == b.link.replicas == 2)
            await a.fail()
            await until(lambda: b.state is OPEN)
            await asyncio.sleep(1.0)
            assert (a.link.losses, a.state) == (0, OPEN)
            await a.stop()

    async def test_failures_of_two_replicas_add_up(self, start: Start) -> None:
        a, b = await start("a", "b")
        await a.fail(3)
        await b.fail(2)
        await until(lambda: a.state is OPEN and b.state is OPEN, within=0.5)

    async def test_each_transition_is_told_once(self, start: Start, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "gateway.circuit")
        a, b = await start("a", "b", reset_timeout=0.4)
        await a.fail()
        await until(lambda: b.state is OPEN)
        await until(lambda: a.state is HALF_OPEN and b.state is HALF_OPEN)
        for _ in range(2):
            assert await b.attempt(Outcome.SUCCESS)
            await asyncio.sleep(0.1)
        await until(lambda: a.state is CLOSED and b.state is CLOSED)
        assert a.transitions == b.transitions == [OPEN, HALF_OPEN, CLOSED]
        lines = [record.getMessage() for record in caplog.records]
        for word in ("OPENED", "HALF_OPEN", "CLOSED"):
            assert len([line for line in lines if f"Circuit breaker {word} for upstream default" in line]) == 2
        opened = [record for record in caplog.records if "OPENED" in record.getMessage()]
        assert {record.levelno for record in opened} == {logging.WARNING}


class TestOneBrokenReplica:
    async def test_does_not_trip_the_fleet_while_another_is_healthy(self, start: Start, server: RedisServer) -> None:
        broken, healthy = await start("broken", "healthy", reset_timeout=0.3)
        refused = 0
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            await broken.attempt(Outcome.FAILURE)
            refused += not await healthy.attempt(Outcome.SUCCESS)
            await asyncio.sleep(0.01)
        assert refused == 0
        assert healthy.transitions == []
        assert server.execute("HGET", KEY, "state") == "closed"
        # It is protected by its own breaker all the same, probing by itself.
        assert broken.transitions[:3] == [OPEN, HALF_OPEN, OPEN]

    async def test_is_not_followed_on_its_rate_either(self, start: Start) -> None:
        broken, healthy = await start("broken", "healthy")
        for _ in range(30):
            await healthy.attempt(Outcome.SUCCESS)
        # Successes in between: only the failure rate can trip it.
        for _ in range(15):
            for outcome in (Outcome.FAILURE, Outcome.FAILURE, Outcome.SUCCESS):
                await broken.attempt(outcome)
        assert broken.state is OPEN
        await asyncio.sleep(0.5)
        assert healthy.state is CLOSED

    async def test_recovers_by_its_own_probes(self, start: Start) -> None:
        broken, healthy = await start("broken", "healthy", reset_timeout=0.5)
        await broken_alone(broken, healthy)
        await until(lambda: broken.state is HALF_OPEN)
        assert healthy.state is CLOSED
        assert await broken.attempt(Outcome.SUCCESS)
        assert await broken.attempt(Outcome.SUCCESS)
        assert broken.state is CLOSED


class TestProbes:
    @pytest.mark.parametrize("max_probes", [1, 2])
    async def test_at_most_so_many_at_a_time_from_all(self, start: Start, max_probes: int) -> None:
        replicas = await start("a", "b", reset_timeout=0.3, max_probes=max_probes)
        await replicas[0].fail()
        await until(lambda: all(replica.state is OPEN for replica in replicas))
        out = most = probes = 0

        began = time.monotonic()

        async def knock(replica: Replica) -> None:
            nonlocal out, most, probes
            while time.monotonic() - began < 1.5 or probes <= 5 or most < max_probes:
                assert time.monotonic() - began < PATIENCE, f"{probes} probes, {most} at a time"
                verdict = await replica.admit()
                if isinstance(verdict, CircuitOpen):
                    await asyncio.sleep(0.001)
                    continue
                assert verdict.probe
                probes += 1
                out += 1
                most = max(most, out)
                await asyncio.sleep(0.02)
                out -= 1
                verdict.release(Outcome.IGNORED, 0.02, time.monotonic())

        await asyncio.gather(*(knock(replica) for replica in replicas for _ in range(5)))
        assert most == max_probes

    async def test_a_failed_one_reopens_everywhere(self, start: Start) -> None:
        a, b = await start("a", "b", reset_timeout=0.5)
        await a.fail()
        await until(lambda: b.state is OPEN)
        await until(lambda: a.state is HALF_OPEN and b.state is HALF_OPEN)
        assert await b.attempt(Outcome.FAILURE)
        assert await until(lambda: a.state is OPEN and b.state is OPEN) < 0.25

    async def test_that_of_a_dead_holder_frees_itself(self, start: Start) -> None:
        dying, b = await start("dying", "b", reset_timeout=0.3, attempt_timeout=-0.5)  # a lease of half a second
        await dying.fail()
        await until(lambda: dying.state is HALF_OPEN and b.state is HALF_OPEN)
        began = time.monotonic()
        probe = await dying.admit()
        assert isinstance(probe, Permit)
        await dying.stop()
        await asyncio.sleep(0.1)
        # On a busy machine the lease may be over by now.
        assert not await b.attempt(Outcome.SUCCESS) or time.monotonic() - began > 0.5
        deadline = time.monotonic() + PATIENCE
        while not await b.attempt(Outcome.SUCCESS):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    async def test_half_open_shows_in_the_hash_without_a_request(self, start: Start, server: RedisServer) -> None:
        (a,) = await start("a", reset_timeout=0.3)
        await a.fail()
        await until(lambda: bool(server.execute("HGET", KEY, "state") == "half_open"), within=0.6)


class TestOperator:
    async def test_del_closes_everywhere(self, start: Start, server: RedisServer) -> None:
        replicas = await start("a", "b", "c")
        await replicas[0].fail()
        await until(lambda: all(replica.state is OPEN for replica in replicas))
        server.execute("DEL", KEY)
        assert await until(lambda: all(replica.state is CLOSED for replica in replicas)) < 1.0
        for replica in replicas:
            assert await replica.attempt(Outcome.SUCCESS)
        await asyncio.sleep(0.6)
        assert [replica.state for replica in replicas] == [CLOSED] * 3
        assert server.execute("HGET", KEY, "state") == "closed"

    async def test_del_also_closes_what_only_one_replica_holds_open(self, start: Start, server: RedisServer) -> None:
        a, b = await start("a", "b")
        await broken_alone(a, b)
        assert (a.state, b.state) == (OPEN, CLOSED)
        server.execute("DEL", KEY)
        await until(lambda: a.state is CLOSED)

    async def test_force_reaches_everybody_and_expires(self, start: Start) -> None:
        a, b = await start("a", "b")
        assert await a.circuits.force("default", FORCED_OPEN, 0.5, "maintenance")
        assert a.state is FORCED_OPEN
        assert await until(lambda: b.state is FORCED_OPEN) < 0.25
        refusal = await b.admit()
        assert isinstance(refusal, CircuitOpen)
        assert refusal.cause == "maintenance"
        assert refusal.retry_after <= 0.5
        await until(lambda: a.state is CLOSED and b.state is CLOSED)

    async def test_forced_closed_lets_through_whatever_happens(self, start: Start) -> None:
        a, b = await start("a", "b")
        await a.circuits.force("default", FORCED_CLOSED, 60.0, "keep it up")
        await until(lambda: b.state is FORCED_CLOSED)
        for _ in range(20):
            assert await b.attempt(Outcome.FAILURE)
        await b.circuits.release("default")
        assert await until(lambda: a.state is CLOSED) < 0.25
        assert b.state is CLOSED

    async def test_reset_closes_everywhere(self, start: Start) -> None:
        a, b = await start("a", "b")
        await a.fail()
        await until(lambda: b.state is OPEN)
        assert await b.circuits.reset("default")
        assert b.state is CLOSED
        assert await until(lambda: a.state is CLOSED) < 0.25
        await asyncio.sleep(0.2)
        assert b.transitions == [OPEN, CLOSED]


class TestRedisGone:
    async def test_a_start_without_it_is_local_and_told_once(
        self, start: Start, server: RedisServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "gateway.fleet")
        server.stop()
        a, b = await start("a", "b", timeout=IMPATIENT, wait=False)
        await until(lambda: all(not each.link.up and each.link.last_error is not None for each in (a, b)))
        assert await a.attempt(Outcome.SUCCESS)
        await a.fail()
        assert (a.state, b.state) == (OPEN, CLOSED)
        await until(lambda: len([r for r in caplog.records if r.getMessage().startswith("Redis lost")]) == 2)
        server.restart()
        await until(lambda: a.link.up and b.link.up)
        assert len([r for r in caplog.records if r.getMessage().startswith("Redis is back")]) == 2
        # What it had seen by then is evidence like any other.
        await until(lambda: b.state is OPEN)

    async def test_killed_and_restarted_the_open_circuit_stays_open(self, start: Start, server: RedisServer) -> None:
        a, b = await start("a", "b", timeout=IMPATIENT)
        await a.fail()
        await until(lambda: b.state is OPEN)
        server.kill()
        await until(lambda: not a.link.up and not b.link.up)
        assert (a.state, b.state) == (OPEN, OPEN)
        server.restart()
        await until(lambda: a.link.up and b.link.up)
        await asyncio.sleep(0.7)
        assert (a.state, b.state) == (OPEN, OPEN)
        # And an operator who wants them closed is heard again.
        server.execute("DEL", KEY)
        await until(lambda: a.state is CLOSED and b.state is CLOSED)

    async def test_without_it_the_open_circuit_recovers_by_itself(self, start: Start, server: RedisServer) -> None:
        a, b = await start("a", "b", timeout=IMPATIENT, reset_timeout=0.6)
        await a.fail()
        await until(lambda: b.state is OPEN)
        server.kill()
        await until(lambda: a.state is HALF_OPEN)
        for _ in range(2):
            assert await a.attempt(Outcome.SUCCESS)
        assert a.state is CLOSED

    async def test_frozen_nobody_waits_and_sharing_resumes(self, start: Start, server: RedisServer) -> None:
        a, b = await start("a", "b", timeout=IMPATIENT)
        server.pause()
        await until(lambda: not a.link.up and not b.link.up)
        with Stopwatch() as watch:
            await a.fail()
            assert watch.seconds < IMPATIENT
        assert (a.state, b.state) == (OPEN, CLOSED)
        server.resume()
        await until(lambda: a.link.up and b.link.up)
        await until(lambda: b.state is OPEN, within=0.5)

    async def test_a_short_freeze_does_not_undo_a_del(self, start: Start, server: RedisServer) -> None:
        a, b = await start("a", "b", timeout=IMPATIENT)
        await a.fail()
        await until(lambda: b.state is OPEN)
        server.pause()
        await until(lambda: not a.link.up and not b.link.up)
        server.resume()
        server.execute("DEL", KEY)
        await until(lambda: a.state is CLOSED and b.state is CLOSED)

    async def test_a_lease_asked_of_a_frozen_redis_does_not_block_probing(
        self, start: Start, server: RedisServer
    ) -> None:
        a, b = await start("a", "b", timeout=IMPATIENT, reset_timeout=0.3)
        await a.fail()
        await until(lambda: a.state is HALF_OPEN and b.state is HALF_OPEN)
        server.pause()
        assert isinstance(await a.admit(), CircuitOpen)
        server.resume()
        await until(lambda: a.link.up and b.link.up)
        deadline = time.monotonic() + PATIENCE
        while not await b.attempt(Outcome.SUCCESS):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    async def test_a_probe_that_ends_while_it_is_gone_counts_here(self, start: Start, server: RedisServer) -> None:
        (a,) = await start("a", timeout=IMPATIENT, reset_timeout=0.3)
        await a.fail()
        await until(lambda: a.state is HALF_OPEN)
        probe = await a.admit()
        assert isinstance(probe, Permit)
        server.kill()
        await until(lambda: not a.link.up)
        probe.release(Outcome.FAILURE, 0.1, time.monotonic())
        await until(lambda: a.state is OPEN)
