"""How a run is held while an attempt of it lasts, with journals that answer late or never."""

import asyncio
import time
from typing import Any, cast

import pytest

from gateway.journal.leases import Lease
from gateway.journal.port import JournalUnavailable
from gateway.journal.sagas import NewRun
from gateway.saga import machine
from gateway.saga.workflow import SagaRequest, SagaStep, Workflow
from gateway.saga_runner import tenure
from gateway.saga_runner.job import Job
from gateway.saga_runner.tenure import LEASE, MARGIN, RENEW, LostError

WORKFLOW = Workflow("w", (SagaStep("s", SagaRequest("a", "PUT", "/")),))


class Journal:
    """Answers each operation with `answer`: a value, an exception, or never (None)."""

    def __init__(self, answer: bool | Exception | None) -> None:
        self.answer = answer
        self.asked: list[asyncio.Future[Any]] = []

    def transact(self, _: Any) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.append(future)
        if isinstance(self.answer, Exception):
            future.set_exception(self.answer)
        elif self.answer is not None:
            future.set_result(self.answer)
        return future


def job(held_for: float) -> Job:
    new = NewRun("saga_1", "w", b"", b"null", b"", "", 1.0)
    return Job(new, WORKFLOW, machine.new(WORKFLOW), Lease("saga_1", "me", 1), time.monotonic() + held_for)


async def renewed(answer: bool | Exception | None, held_for: float) -> Job:
    run = job(held_for)
    # For a test that fails: else it would never end.
    async with asyncio.timeout(30.0):
        await tenure.renew(cast("Any", Journal(answer)), run)
    return run


async def test_a_renewal_is_not_waited_for_beyond_the_lease() -> None:
    """Whoever waits longer has a request under way while somebody else works on the run."""
    with pytest.raises(LostError):
        await renewed(None, MARGIN + 0.05)
    with pytest.raises(LostError):
        await renewed(None, -1.0)


async def test_a_renewal_that_comes_too_late_is_nobodys_error() -> None:
    journal, run = Journal(None), job(MARGIN)
    with pytest.raises(LostError):
        await tenure.renew(cast("Any", journal), run)
    journal.asked[0].set_exception(JournalUnavailable("timeout", "late"))
    await asyncio.sleep(0)


async def test_a_renewal_holds_the_run_for_another_lease() -> None:
    before = time.monotonic()
    assert (await renewed(answer=True, held_for=LEASE)).held_until >= before + LEASE
    with pytest.raises(LostError):
        await renewed(answer=False, held_for=LEASE)


async def test_a_journal_that_is_away_is_asked_once_more_while_there_is_time() -> None:
    away = JournalUnavailable("unreachable", "away")
    until = (await renewed(away, held_for=60.0)).held_until
    assert until > time.monotonic() + LEASE, "the lease is as it was"
    with pytest.raises(LostError):
        await renewed(away, held_for=RENEW)


def test_nothing_begins_when_the_lease_may_be_over() -> None:
    tenure.check(job(60.0))
    with pytest.raises(LostError):
        tenure.check(job(MARGIN))
