"""How the claims of a process are held while the journal comes and goes, on a clock of the test's own."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from gateway.config.sections.idempotency.model import IdempotencyLimits
from gateway.idempotency.capacity import Capacity
from gateway.idempotency.claims import Ask, Claims, Outcome
from gateway.idempotency.promise import Claim
from gateway.journal.port import Journal, JournalState, JournalUnavailable, Rows, Step

LEASE = 40.0


class Asked:
    """A journal that does what the test says, and an event loop whose time is the test's."""

    def __init__(self) -> None:
        self.state = JournalState(lambda: 0.0)
        self.state.worked()
        self.now = 0.0
        self.steps: list[tuple[float, str]] = []
        self.away = False
        self._loop = asyncio.get_running_loop()
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def run(self, step: Step) -> "asyncio.Future[Rows]":
        what = step.statement.sqlite.partition(" ")[0]
        self.steps.append((self.now, what))
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.away:
            future.set_exception(JournalUnavailable("locked", "somebody has it"))
        else:
            future.set_result([{"fence": 1}])
        return future

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append((self.now + seconds, call))

    async def until(self, instant: float) -> None:
        while self._timers and min(self._timers, key=lambda timer: timer[0])[0] <= instant:
            timer = min(self._timers, key=lambda timer: timer[0])
            self._timers.remove(timer)
            self.now = timer[0]
            timer[1]()
            await asyncio.sleep(0)
        self.now = instant

    @property
    def renewals(self) -> list[float]:
        return [at for at, what in self.steps if what == "UPDATE"]


async def held(asked: Asked) -> tuple[Claims, Claim]:
    journal = cast(Journal, asked)
    capacity = Capacity(journal, IdempotencyLimits())
    claims = Claims(journal, capacity, cast(asyncio.AbstractEventLoop, asked), lambda: asked.now)
    told: list[Outcome] = []
    claims.claim(Ask(b"key", "orders", LEASE, 86_400.0, False), told.append)
    await asyncio.sleep(0)
    claim = told[0]
    assert isinstance(claim, Claim)
    return claims, claim


async def test_a_claim_is_renewed_half_way_through_its_lease() -> None:
    asked = Asked()
    await held(asked)
    await asked.until(LEASE * 1.75)
    assert asked.renewals == [LEASE / 2, LEASE, LEASE * 1.5]


async def test_a_renewal_that_fails_is_tried_again_before_the_lease_has_ended() -> None:
    asked = Asked()
    await held(asked)
    asked.away = True
    await asked.until(LEASE / 2 + 2.0)
    failed = asked.renewals
    assert len(failed) > 1
    assert failed[-1] < LEASE
    asked.away = False
    await asked.until(LEASE / 2 + 4.0)
    renewed = [at for at in asked.renewals if at > failed[-1]]
    assert len(renewed) == 1
    await asked.until(renewed[0] + LEASE / 2)
    assert asked.renewals[-1] == renewed[0] + LEASE / 2


async def test_a_claim_that_is_settled_is_not_renewed() -> None:
    asked = Asked()
    claims, claim = await held(asked)
    done: list[bool] = []
    claims.release(claim, lambda: done.append(True))
    await asyncio.sleep(0)
    await asked.until(3 * LEASE)
    assert (done, asked.renewals, claims.held) == ([True], [], 0)
