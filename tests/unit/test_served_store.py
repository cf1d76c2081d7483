"""The embedded store over its channel when something goes wrong: a supervisor that is late, refuses, or is gone."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.ipc.channel import Channel, Reply
from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.lease.ask import Ask
from gateway.policy.outcome import Outcome
from gateway.policy.token_bucket import RateLimitPolicy
from gateway.store.port import CircuitReport, CircuitSnapshot, FigureDelta, ProbeLease, StoreUnavailable
from gateway.store.served.client import ServedFigures, ServedStore
from gateway.store.served.server import StoreServer
from tests.support.served_stores import refuse

POLICY = RateLimitPolicy("default", 10, 0.001)
SETTINGS = BreakerSettings(failure_threshold=1, reset_timeout=0.01)


class Supervisor:
    """It serves the store, and can be told to keep answers back or to fail."""

    def __init__(self) -> None:
        self.server = StoreServer()
        self.held: list[tuple[Reply, Any]] | None = None
        self.fails = False
        self.channel: Channel
        self.worker: Channel
        self._serve = self.server.serve_for("0-1")

    async def begin(self) -> None:
        ours, theirs = socket.socketpair()
        self.channel = await Channel.over(ours, self.serve, lambda: None)
        self.worker = await Channel.over(theirs, refuse, lambda: None)

    def serve(self, operation: str, body: Any, reply: Reply) -> None:
        if self.fails:
            reply.fail("a secret")
        elif self.held is None:
            self._serve(operation, body, reply)
        else:
            kept: list[Any] = []
            self._serve(operation, body, kept.append)  # type: ignore[arg-type] # it only calls it
            self.held.append((reply, kept[0]))

    def release(self) -> None:
        held, self.held = self.held or [], None
        for reply, answer in held:
            reply(answer)


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    made = Supervisor()
    await made.begin()
    yield made
    made.channel.close()
    made.worker.close()
    await asyncio.sleep(0)


async def test_a_supervisor_that_is_gone_is_a_lost_store_at_once_and_for_good(supervisor: Supervisor) -> None:
    store, figures = ServedStore(supervisor.worker, 60.0, 60.0), ServedFigures(supervisor.worker)
    supervisor.held = []
    waiting = asyncio.ensure_future(store.take([Ask(POLICY, "c", 1)]))
    await asyncio.sleep(0)
    supervisor.channel.close()
    async with asyncio.timeout(30.0):
        with pytest.raises(StoreUnavailable, match="the supervisor is gone"):
            await waiting
        for call in (store.sync([]), store.endpoints_out(), figures.records(1), store.reset("default")):
            with pytest.raises(StoreUnavailable, match="the supervisor is gone"):
                await call
        await store.close()


async def test_an_answer_that_is_late_is_none(supervisor: Supervisor) -> None:
    store = ServedStore(supervisor.worker, 0.02, 0.02)
    supervisor.held = []
    with pytest.raises(StoreUnavailable, match="did not answer within 20 ms"):
        await store.endpoints_out()
    # `take` is patient: its caller goes on without it, but wants to know what the store did.
    taking = asyncio.ensure_future(store.take([Ask(POLICY, "c", 3)]))
    began = time.monotonic()
    await asyncio.sleep(0.1)
    supervisor.release()
    if time.monotonic() - began < 0.8:
        (grant,) = await taking
        assert grant.granted == 3
    await asyncio.wait([taking])
    taking.exception()


async def test_a_call_that_fails_over_there_says_nothing_of_it(supervisor: Supervisor) -> None:
    store = ServedStore(supervisor.worker, 5.0, 5.0)
    supervisor.fails = True
    with pytest.raises(StoreUnavailable) as raised:
        await store.take([Ask(POLICY, "c", 1)])
    assert "secret" not in str(raised.value)
    supervisor.fails = False
    assert len(await store.take([Ask(POLICY, "c", 1)])) == 1


@pytest.mark.parametrize("lost", ["the lease", "its outcome"])
async def test_a_lease_whose_answer_was_lost_is_given_back(supervisor: Supervisor, lost: str) -> None:
    store = ServedStore(supervisor.worker, 5.0, 5.0)
    hasty = ServedStore(supervisor.worker, 0.02, 0.02)

    def report(generation: int, *ages: float) -> CircuitReport:
        return CircuitReport("default", SETTINGS, generation, len(ages), len(ages), 0, ages, None)

    (known,) = (await store.sync([report(0)])).circuits
    await store.sync([report(known.generation, 0.0)])
    circuit = supervisor.server.shared.circuits
    while (await store.sync([report(known.generation)])).circuits[0].state is not CircuitState.HALF_OPEN:
        await asyncio.sleep(0.005)
    if lost == "the lease":
        supervisor.held = []
        with pytest.raises(StoreUnavailable):
            await hasty.lease_probe("default", SETTINGS, 600.0)
        supervisor.release()
    else:
        lease = await store.lease_probe("default", SETTINGS, 600.0)
        assert isinstance(lease, ProbeLease)
        supervisor.fails = True
        with pytest.raises(StoreUnavailable):
            await hasty.settle_probe(lease, SETTINGS, Outcome.SUCCESS)
        supervisor.fails = False
    assert len(circuit.circuits["default"].probes) == 1
    assert isinstance(await store.lease_probe("default", SETTINGS, 600.0), CircuitSnapshot)
    while circuit.circuits["default"].probes:
        try:
            await hasty.sync([])
        except StoreUnavailable:
            continue
    assert isinstance(await store.lease_probe("default", SETTINGS, 600.0), ProbeLease)


async def test_the_figures_of_many_services_come_in_several_calls(supervisor: Supervisor) -> None:
    figures = ServedFigures(supervisor.worker)
    names = [f"service {i}" for i in range(40)]
    await figures.add_figures([FigureDelta(name, 1, ((0.0, (i,)),), None) for i, name in enumerate(names)])
    asked: list[int] = []
    serve = supervisor._serve

    def count(operation: str, body: Any, reply: Reply) -> None:
        asked.append(len(body[0]))
        serve(operation, body, reply)

    supervisor._serve = count
    found = await figures.sum_figures(names, 60.0, 1)
    assert [each.counts for each in found] == [(i,) for i in range(40)]
    assert asked == [16, 16, 8]
