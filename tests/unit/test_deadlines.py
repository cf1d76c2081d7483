import asyncio

from gateway.wire.deadlines import Deadlines


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
