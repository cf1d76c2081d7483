"""The embedded store in another process, as workers have it: every part of the port once, and its end."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.ipc.channel import Channel
from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.lease.ask import Ask
from gateway.policy.token_bucket import RateLimitPolicy
from gateway.store.port import CircuitReport, EndpointOut, FigureDelta, StoreUnavailable
from gateway.store.served.client import ServedFigures, ServedStore
from tests.support.served_stores import refuse

POLICY = RateLimitPolicy("default", 10, 0.001)
ROOT = Path(__file__).resolve().parents[2]


class Served(NamedTuple):
    process: "subprocess.Popen[bytes]"
    channel: Channel


def serve_over(theirs: socket.socket) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.conformance.served_process", str(theirs.fileno())]
    return subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = serve_over(theirs)
    channel = await Channel.over(ours, refuse, lambda: None)
    try:
        yield Served(process, channel)
    finally:
        channel.close()
        await asyncio.to_thread(process.wait, 60.0)


async def test_the_whole_port_in_another_process(served: Served) -> None:
    # A new interpreter takes its time: the first answer may be late.
    store, figures = ServedStore(served.channel, 60.0, 60.0), ServedFigures(served.channel)
    first, second = await store.take([Ask(POLICY, "a", 12), Ask(POLICY, "b", 3)])
    assert (first.granted, second.granted) == (10, 3)
    (again,) = await store.take([Ask(POLICY, "a", 1)])
    assert (again.granted, again.retry_after > 0.0) == (0, True)
    answer = await store.sync([CircuitReport("orders", BreakerSettings(), 0, 0, 0, 0, (), None)])
    assert (answer.replicas, answer.circuits[0].state) == (1, CircuitState.CLOSED)
    forced = await store.force("orders", CircuitState.FORCED_OPEN, 600.0, "why")
    assert (forced.state, forced.cause) == (CircuitState.FORCED_OPEN, "why")
    await store.take_out(EndpointOut("orders", "h:1", "drained", 600.0, "mended"))
    assert [out.endpoint for out in await store.endpoints_out()] == ["h:1"]
    await figures.add_figures([FigureDelta("orders", 1, ((0.0, (1, 2)),), None)])
    assert (await figures.sum_figures(["orders"], 60.0, 2))[0].counts == (1, 2)
    await figures.add_records([b'{"n":1}'], 10)
    assert list(await figures.records(5)) == [b'{"n":1}']


async def test_a_process_that_is_killed_is_a_lost_store(served: Served) -> None:
    store = ServedStore(served.channel, 60.0, 60.0)
    await store.take([Ask(POLICY, "a", 1)])
    served.process.kill()
    async with asyncio.timeout(60.0):
        while True:
            try:
                await store.take([Ask(POLICY, "a", 1)])
            except StoreUnavailable:
                break
    with pytest.raises(StoreUnavailable, match="the supervisor is gone"):
        await store.sync([])
