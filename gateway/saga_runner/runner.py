"""The runner: takes runs that are due, and carries each of them on until it ends or has to wait.

    take up ──▶ write that an attempt begins ──▶ send ──▶ write what came of it, and that the next one begins ──▶ …

So a run costs one commit to begin and one for each attempt. Whoever works on a run holds a lease of `LEASE` seconds and
renews it while an attempt lasts: when its process dies, another one takes the run over within `LEASE` and a look. An
attempt is not begun when the lease may be over, and is broken off when it cannot be renewed in time.

A run that has to wait for long is let go, and is due again later; for a short pause it is kept.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from gateway.journal import fault_points, sagas
from gateway.journal.consumer import Consumer, Work, new_owner
from gateway.journal.leases import Lease
from gateway.journal.port import Journal, JournalUnavailable
from gateway.journal.saga_moves import Move, known, moved
from gateway.journal.sagas import Locked, Taken
from gateway.proxy.errands.own_requests import OwnRequests
from gateway.saga import machine
from gateway.saga.machine import ENDED, Outcome, Run
from gateway.saga.workflow import Workflow
from gateway.saga_runner import tenure
from gateway.saga_runner.attempt import attempted
from gateway.saga_runner.job import Job, Report, changed_steps, events_of, job_of
from gateway.saga_runner.tenure import LEASE, RENEW, LostError

log = logging.getLogger("gateway.saga")

# For so long a transition is tried while the journal is away: whoever takes the run meanwhile makes it void.
_WRITE: Final = 30.0
_WRITE_AGAIN: Final = 0.25
# A run that waits no longer than this is kept. After so many attempts of a step it is let go all the same, because what
# fails for so long may fail for hours, and an operator can only change a run that nobody holds.
_SHORT: Final = 1.0
_MOST_KEPT: Final = 10
_LONGEST_PAUSE: Final = 86_400.0
# A run that this version of the gateway does not understand is left to another one for so long.
_NOT_UNDERSTOOD: Final = 60.0
OUTCOMES: Final = tuple(outcome.value for outcome in Outcome)
RUN_OUTCOMES: Final = ("succeeded", "compensated", "stuck")


class SagaRunner:
    """`attempts` and `compensations` are counted by workflow, step and outcome; `runs` by workflow and outcome.
    `requests` is set before it is started."""

    requests: OwnRequests

    def __init__(self, journal: Journal, workflows: Iterable[Workflow], most: int, rng: random.Random) -> None:
        steps = [(each.name, step) for each in workflows for step in each.steps]
        names = {name for name, _ in steps}
        self.runs = Counter(dict.fromkeys(((name, outcome) for name in names for outcome in RUN_OUTCOMES), 0))
        self.attempts = Counter(
            dict.fromkeys(((name, step.name, outcome) for name, step in steps for outcome in OUTCOMES), 0)
        )
        undone = [(name, step.name) for name, step in steps if step.undo is not None]
        self.compensations = Counter(dict.fromkeys(((*each, outcome) for each in undone for outcome in OUTCOMES), 0))
        self.late = 0
        # Workflows with an upstream that is not in the configuration, of which the log tells once.
        self._missing: set[tuple[str, str]] = set()
        self._journal = journal
        self._rng = rng
        work = Work(
            "saga",
            sagas.TOPIC,
            sagas.any_due,
            lambda owner, free: sagas.claim(owner, LEASE, free),
            lambda taken: sagas.let_go(taken.lease),
            self._claimed,
        )
        self.consumer = Consumer(journal, work, most, log)

    # For whoever starts runs.

    def lease_for(self, run_id: str) -> Lease | None:
        """The lease with which a new run is written, to be handed to `carry_on` or `not_kept` then; None where this
        process has enough to do."""
        if not self.consumer.takes or self.consumer.free <= 0:
            return None
        self.consumer.reserve()
        return Lease(run_id, new_owner(), 1)

    def carry_on(self, taken: Taken, began: float) -> None:
        """Go on with a run whose first attempt is written, at `began`."""
        self.consumer.give_back()
        self.consumer.begin(taken, began)

    def not_kept(self) -> None:
        """A run that was to be handed to `carry_on` is not in the journal, or nobody can tell."""
        self.consumer.give_back()

    # Carrying out.

    async def _claimed(self, taken: Taken, began: float) -> None:
        try:
            job = job_of(taken, began + LEASE)
        except ValueError as error:
            await self._not_understood(taken, error)
            return
        job.knows(taken.known, began)
        try:
            with contextlib.suppress(JournalUnavailable, LostError):
                await self._carry_out(job, begun=taken.begun)
        except asyncio.CancelledError:
            with contextlib.suppress(JournalUnavailable):
                await asyncio.shield(self._journal.transact(sagas.let_go(job.lease)))
            raise

    async def _carry_out(self, job: Job, *, begun: bool) -> None:
        going = begun or await self._move(job, lambda locked: self._taken_up(job, locked), None)
        while going:
            if job.wait is not None:
                await asyncio.sleep(job.wait)
                going = await self._move(job, lambda locked: self._taken_up(job, locked), None)
                continue
            tenure.check(job)
            report = await attempted(job, self.requests, lambda: tenure.renew(self._journal, job), RENEW)
            fault_points.reach("saga.sent")
            self._count(job, report)
            going = await self._ended(job, report)

    async def _ended(self, job: Job, report: Report) -> bool:
        """Write what came of an attempt. Whether this process goes on with the run."""

        def decided(locked: Locked) -> tuple[Run, Move]:
            left = min(locked.left, 0.0) if report.hopeless and job.undoes else locked.left
            after = machine.settled(
                job.workflow, job.run, report.outcome, left, cancelled=locked.cancelled, final=report.final
            )
            return self._next(job, after, report, locked.left)

        return await self._move(job, decided, report)

    def _taken_up(self, job: Job, locked: Locked) -> tuple[Run, Move]:
        """The next attempt of a run that nobody has worked on."""
        after = machine.resumed(job.workflow, job.run, locked.left, cancelled=locked.cancelled)
        return self._next(job, after, None, locked.left)

    def _next(self, job: Job, after: Run, report: Report | None, left: float) -> tuple[Run, Move]:
        """What is written of the run `after` an attempt: it ends, it waits, or its next attempt begins. `left` is the
        time until its deadline, in seconds."""
        workflow, before = job.workflow, job.run
        job.wait = None
        at = machine.position(workflow, after)
        events = events_of(workflow, before, after, report)
        if at is None:
            steps = changed_steps(workflow, before, after, report)
            ended = after.state in ENDED
            reason = _why(job, report) if after.state == "stuck" or not job.undoes else None
            return after, Move(after.state, steps, events, due=False, ended=ended, reason=reason)
        pause: float | None = None
        if report is not None and report.outcome is not Outcome.DONE and at == job.at and after.state == before.state:
            wait = self._pause(job, at, after, report)
            # What comes then is decided at the deadline, and not after the pause.
            wait = min(wait, left) if left > 0 else wait
            if wait <= _SHORT and after.steps[at].attempts <= _MOST_KEPT and self.consumer.takes:
                job.wait = wait
            else:
                pause = wait
        elif self.consumer.takes:
            after = machine.begun(workflow, after)
        else:
            pause = 0.0
        steps = changed_steps(workflow, before, after, report)
        begins_undo = after.steps[at].state == "undoing" and before.steps[at].state != "undoing"
        deadline = workflow.completion_deadline if begins_undo else None
        # While it compensates, the reason is why it does.
        reason = None if job.undoes else _why(job, report)
        return after, Move(after.state, steps, events, pause, deadline=deadline, reason=reason)

    def _pause(self, job: Job, at: int, after: Run, report: Report) -> float:
        """Seconds until the next attempt of the same step."""
        spread = self._rng.random()
        if report.outcome is Outcome.HELD_BACK:
            return (report.retry_after or 0.0) * (1.0 + spread / 5)
        pause = job.workflow.steps[at].pause(after.steps[at].attempts, spread)
        return max(pause, min(report.retry_after or 0.0, _LONGEST_PAUSE))

    async def _move(self, job: Job, decide: Callable[[Locked], tuple[Run, Move]], report: Report | None) -> bool:
        """Write a transition. Whether this process goes on with the run. Raises LostError, JournalUnavailable."""
        before = job.run
        made: list[Run] = []

        def decided(locked: Locked) -> Move:
            run, move = decide(locked)
            made.append(run)
            return move

        began, move = await self._written(job, decided)
        fault_points.reach("saga.written")
        if move is None:
            self.late += 1
            log.warning(
                "SagaOrchestrator: somebody else has taken saga %s meanwhile", job.id, extra=_extra(job, "saga_late")
            )
            raise LostError
        if report is not None and report.outcome is Outcome.DONE and before.state == "running":
            job.keep(_position(job, before), report.result)
        job.run, job.held_until = made[-1], began + LEASE
        self._tell(job, before, report)
        return move.due and move.pause is None

    async def _written(self, job: Job, decided: Callable[[Locked], Move]) -> tuple[float, Move | None]:
        """Try until the journal takes it, or it is not known whether it has. With the instant before it was asked."""
        until = time.monotonic() + _WRITE
        while True:
            began = time.monotonic()
            try:
                return began, await self._tried(job, decided, began)
            except JournalUnavailable as why:
                if why.unsure or why.trouble == "closed" or began > until:
                    raise
            await asyncio.sleep(_WRITE_AGAIN)

    async def _tried(self, job: Job, decided: Callable[[Locked], Move], now: float) -> Move | None:
        found = job.locked(now)
        if found is not None:
            events, locked = found
            move = decided(locked)
            rows = await asyncio.shield(self._journal.run(moved(job.lease, LEASE, events, move)))
            job.knows(known(rows, events, move), now)
            if rows:
                return move
        # Somebody has cancelled the run, or taken it, or it was just taken up.
        made = await asyncio.shield(self._journal.transact(sagas.move(job.lease, LEASE, decided)))
        if made is None:
            return None
        job.knows(made.known, now)
        return made.move

    async def _not_understood(self, taken: Taken, error: ValueError) -> None:
        log.error(
            "SagaOrchestrator: saga %s is left alone, because this gateway does not understand it: %s",
            taken.run.id,
            error,
            extra={"event": "saga_not_understood", "saga_id": taken.run.id},
        )
        with contextlib.suppress(JournalUnavailable):
            await self._journal.transact(sagas.put_off(taken.lease, _NOT_UNDERSTOOD))

    # Telling.

    def _count(self, job: Job, report: Report) -> None:
        counts = self.compensations if job.undoes else self.attempts
        name, upstream = job.workflow.name, job.request.upstream
        counts[name, job.workflow.steps[job.at].name, report.outcome.value] += 1
        if upstream not in self.requests.upstreams and (name, upstream) not in self._missing:
            self._missing.add((name, upstream))
            text = "SagaOrchestrator: saga %s of %s waits, because upstream %s is not in the configuration"
            extra = _extra(job, "saga_upstream_missing") | {"upstream": upstream}
            log.warning(text, job.id, name, upstream, extra=extra)

    def _tell(self, job: Job, before: Run, report: Report | None) -> None:
        """Log lines with the words that the resilience runbook looks for."""
        run, name = job.run, job.workflow.name
        if report is not None and report.outcome is not Outcome.DONE:
            self._tell_failure(job, before, report)
        if run.state == before.state:
            return
        if run.state in RUN_OUTCOMES:
            self.runs[name, run.state] += 1
        if run.state == "stuck":
            text = "SagaOrchestrator: Saga %s of %s failed and is stuck: an operator has to see to it"
            log.error(text, job.id, name, extra=_extra(job, "saga_stuck"))
        elif run.state == "compensating":
            log.warning("SagaOrchestrator: Saga %s of %s failed and is compensated now", job.id, name,
                        extra=_extra(job, "saga_compensating"))  # fmt: skip
        else:
            text = "SagaOrchestrator: saga %s of %s has ended: %s"
            log.info(text, job.id, name, run.state, extra=_extra(job, f"saga_{run.state}"))

    def _tell_failure(self, job: Job, before: Run, report: Report) -> None:
        at = _position(job, before)
        step = job.workflow.steps[at].name
        extra = _extra(job, "saga_step_failed") | {
            "step": step, "attempt": before.steps[at].attempts, "status": report.status or None,
            "outcome": report.outcome.value,
        }  # fmt: skip
        if report.outcome is Outcome.HELD_BACK:
            # Once a second, maybe, for each run: its reason and the metrics say so, too.
            extra["event"] = "saga_held_back"
            log.debug("SagaOrchestrator: step %s of saga %s waits: %s", step, job.id, report.detail, extra=extra)
        elif before.state == "compensating":
            extra["event"] = "compensation_failed"
            text = "Failed to compensate saga step %s of %s: %s (compensation_failed)"
            log.error(text, step, job.id, report.detail, extra=extra)
        else:
            log.warning("SagaOrchestrator: Saga step %s of %s failed: %s", step, job.id, report.detail, extra=extra)


def _position(job: Job, run: Run) -> int:
    at = machine.position(job.workflow, run)
    assert at is not None  # noqa: S101 - an attempt was made of it
    return at


def _why(job: Job, report: Report | None) -> str | None:
    """What went wrong last, for whoever looks at the run; None where nothing did."""
    if report is None or report.outcome is Outcome.DONE:
        return None
    return f"{job.workflow.steps[job.at].name}: {report.detail}"[:500]


def _extra(job: Job, event: str) -> dict[str, object]:
    return {
        "event": event, "saga_id": job.id, "workflow": job.workflow.name, "correlation_id": job.correlation_id,
    }  # fmt: skip
