import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from gateway.wire.deadlines import Deadlines
from tests.support.fake_transport import FakeLoop


class Member:
    def __init__(self, deadline: float, log: list["Member"]) -> None:
        self.deadline = deadline
        self.log = log

    def expire(self, now: float) -> None:
        assert now >= self.deadline
        self.log.append(self)
        self.deadline = float("inf")


async def test_they_pass_late_but_never_early_and_once() -> None:
    loop = asyncio.get_running_loop()
    log: list[Member] = []
    now = 100.0
    deadlines = Deadlines(loop, 0.001, lambda: now)
    soon, later, never = Member(100.5, log), Member(101.0, log), Member(float("inf"), log)
    for member in (soon, later, never):
        deadlines.add(member)
    await asyncio.sleep(0.01)
    assert log == []
    now = 100.5
    await asyncio.sleep(0.01)
    assert log == [soon]
    later.deadline = 102.0
    now = 101.5
    await asyncio.sleep(0.01)
    assert log == [soon]
    deadlines.discard(later)
    now = 200.0
    await asyncio.sleep(0.01)
    assert log == [soon]
    assert len(deadlines) == 2
    deadlines.close()
    assert len(deadlines) == 0


class Loop:
    """Keeps the latest timer, which a test lets go off."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.ring: Callable[[], None] = lambda: None

    def call_later(self, delay: float, callback: Callable[[], None]) -> object:
        self.delay, self.ring = delay, callback
        return object()


@pytest.mark.parametrize(("held_up", "waits"), [(0.03, 0.03), (20.0, 0.05)])
def test_after_a_stall_the_loop_reads_before_anything_expires(held_up: float, waits: float) -> None:
    """Timers run before what has arrived meanwhile is read (libuv)."""
    loop, log, now = Loop(), list[Member](), 100.0
    deadlines = Deadlines(cast(asyncio.AbstractEventLoop, loop), 0.05, lambda: now)
    heard, silent = Member(100.05, log), Member(100.05, log)
    deadlines.add(heard)
    deadlines.add(silent)
    now += 0.05 + held_up
    loop.ring()
    assert log == []
    assert loop.delay == pytest.approx(waits)
    heard.deadline = now + 1.0
    now += waits
    loop.ring()
    assert (log, loop.delay) == ([silent], 0.05)


def test_a_loop_that_is_always_late_does_not_put_off_deadlines_for_ever() -> None:
    loop, log, now = Loop(), list[Member](), 100.0
    deadlines = Deadlines(cast(asyncio.AbstractEventLoop, loop), 0.05, lambda: now)
    deadlines.add(Member(100.05, log))
    for waits in (0.05, 0.05, 0.05, 0.001):
        now += loop.delay + 1.0
        loop.ring()
        assert (log, loop.delay) == ([], waits)
    now += loop.delay + 1.0
    loop.ring()
    assert len(log) == 1


async def test_one_that_discards_another_while_expiring() -> None:
    log: list[Member] = []
    deadlines = Deadlines(asyncio.get_running_loop(), 0.001, lambda: 10.0)
    members = [Member(1.0, log), Member(1.0, log)]

    class Discarding(Member):
        def expire(self, now: float) -> None:
            super().expire(now)
            for member in members:
                deadlines.discard(member)

    members.append(Discarding(1.0, log))
    for member in members:
        deadlines.add(member)
    await asyncio.sleep(0.01)
    assert members[2] in log
    assert len(deadlines) == 0
    deadlines.close()


class Broken(Member):
    def expire(self, now: float) -> None:
        self.log.append(self)
        raise ValueError("a defect")


def test_one_that_raises_keeps_no_other_waiting_and_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    loop, log = FakeLoop(), list[Member]()
    now = 0.0
    deadlines = Deadlines(cast(asyncio.AbstractEventLoop, loop), 1.0, lambda: now)
    members = [Broken(1.0, log), Member(1.0, log), Broken(1.0, log), Member(1.0, log)]
    for member in members:
        deadlines.add(member)
    now = 1.0
    loop.timers.pop()[1]()
    assert sorted(map(id, log)) == sorted(map(id, members))
    assert len(deadlines) == 2
    assert "ValueError: a defect" in caplog.text
    assert len(loop.timers) == 1
