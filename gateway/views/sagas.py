"""What the control plane sees of sagas, and what it may order about them (gateway.control.ports.sagas)."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

from gateway.config.sections.workflows.model import SagaLimits
from gateway.control.ports.sagas import Done, Order, SagaCount, SagaDetail, SagaEvent, SagaStepView, SagaView
from gateway.journal import sagas
from gateway.journal.port import Journal
from gateway.journal.saga_moves import Event, Move
from gateway.journal.sagas import RunRow, Shown
from gateway.saga import machine
from gateway.saga.machine import ENDED, Run
from gateway.saga.workflow import Workflow, decoded
from gateway.saga_runner.job import changed_steps, events_of, run_of
from gateway.views.journal import available

# Of one run, for one answer.
_MOST_EVENTS: Final = 200


class LiveSagas:
    """The runs in the journal. `ended` counts those that an operator ends, by workflow and state. `routed` are the
    workflows that routes have, and `upstreams` the names of those that there are: with others a run cannot go on."""

    def __init__(
        self,
        journal: Journal,
        limits: SagaLimits,
        ended: "Counter[tuple[str, str]]",
        routed: frozenset[str],
        upstreams: frozenset[str],
    ) -> None:
        self.max_open = limits.max_open
        self._journal = journal
        self._ended = ended
        self._routed = routed
        self._upstreams = upstreams

    async def counts(self) -> Sequence[SagaCount]:
        """Those that have not ended. Raises JournalAway."""
        found = await available(self._journal.read(sagas.open_runs()))
        return [SagaCount(*each, each.workflow not in self._routed) for each in found.counts]

    async def runs(self, state: str, workflow: str, before: str, most: int) -> Sequence[SagaView]:
        """Up to `most` runs, the newest first. Raises JournalAway."""
        found = await available(self._journal.read(sagas.listed(state, workflow, before, most)))
        return [self._view(row) for row in found]

    async def run(self, run_id: str) -> SagaDetail | None:
        """One run. Raises JournalAway."""
        shown = await available(self._journal.read(sagas.show(run_id, _MOST_EVENTS)))
        if shown is None:
            return None
        events = [SagaEvent(*each) for each in shown.events]
        return SagaDetail(self._view(shown.run), _steps(shown), events)

    async def order(self, run_id: str, what: Order, reason: str, outcome: Literal["succeeded", "compensated"]) -> Done:
        """Act on a run. Raises JournalAway."""

        ends: list[tuple[str, str]] = []

        def decide(shown: Shown) -> Move | None:
            made = self._ordered(shown, what, reason, outcome)
            # The last decision is the one that is written.
            ends[:] = [(shown.run.workflow, made.state)] if made is not None and made.ended else []
            return made

        # Whoever works on a cancelled run compensates it as soon as the attempt that is under way has ended.
        operation = (
            sagas.cancelled(run_id, reason, decide, _may_cancel) if what == "cancel" else sagas.ordered(run_id, decide)
        )
        done = await available(self._journal.transact(operation))
        if done == "done":
            self._ended.update(ends)
        return done

    def _ordered(
        self, shown: Shown, what: Order, reason: str, outcome: Literal["succeeded", "compensated"]
    ) -> Move | None:
        """What an order comes to; None where the run is not in a state for it."""
        if shown.run.ended_at is not None:
            return None
        workflow, before = _read(shown)
        if workflow is None:
            return Move(outcome, ended=True, due=False, reason=reason) if what == "resolve" else None
        if what == "resolve" and self._left_alone(shown, workflow, before):
            return _move(workflow, before, before._replace(state=outcome), what, reason)
        after = _after(workflow, before, what, outcome)
        return None if after is None else _move(workflow, before, after, what, reason)

    def _left_alone(self, shown: Shown, workflow: Workflow, run: Run) -> bool:
        """Whether the configuration says that this run may wait for ever."""
        at = machine.position(workflow, run)
        if at is None:
            return False
        step = workflow.steps[at]
        request = step.undo if run.state == "compensating" else step.request
        missing = request is not None and request.upstream not in self._upstreams
        return missing or shown.run.workflow not in self._routed

    def _view(self, row: RunRow) -> SagaView:
        return SagaView(*row, row.ended_at is None and row.workflow not in self._routed)


def _move(workflow: Workflow, before: Run, after: Run, what: Order, reason: str) -> Move:
    """What is written of an order."""
    due = machine.position(workflow, after) is not None
    deadline = None
    if what in {"retry", "skip"} and due:
        # Behind the pivot the completion deadline counts from here.
        deadline = workflow.completion_deadline if after.state == "compensating" else 0.0
    if what == "retry" and before == after:
        deadline = None
    return Move(
        after.state,
        changed_steps(workflow, before, after, None),
        (Event(f"operator_{what}", "", reason), *events_of(workflow, before, after, None)),
        pause=0.0,
        due=due,
        ended=after.state in ENDED,
        deadline=deadline,
        reason=reason,
    )


def _after(workflow: Workflow, run: Run, what: Order, outcome: Literal["succeeded", "compensated"]) -> Run | None:
    stuck, at = run.state == "stuck", machine.position(workflow, run)
    if what == "retry":
        return machine.retried(run) if stuck else run if at is not None else None
    if what == "skip" and not stuck and at is not None and run.steps[at].state == "undoing":
        run, stuck = run.changed(at, "undo_failed", run.steps[at].attempts), True
    if what == "skip":
        return machine.skipped(workflow, run) if stuck else None
    if what == "resolve":
        return run._replace(state=outcome) if stuck else None
    if not machine.may_cancel(workflow, run):
        return None
    return machine.turned_back(workflow, run) if stuck else machine.resumed(workflow, run, math.inf, cancelled=True)


def _may_cancel(shown: Shown) -> bool:
    workflow, run = _read(shown)
    return workflow is not None and machine.may_cancel(workflow, run)


def _read(shown: Shown) -> tuple[Workflow | None, Run]:
    """The workflow of a run, None where another version of the gateway has begun it, and what has been done of it."""
    try:
        workflow = decoded(shown.definition)
        return workflow, run_of(shown.run.state, workflow, shown.steps)
    except ValueError:
        return None, Run(shown.run.state, ())


def _steps(shown: Shown) -> list[SagaStepView]:
    workflow, _ = _read(shown)
    rows = {each.position: each for each in shown.steps}
    if workflow is None:
        return [
            SagaStepView(each.name, each.state, each.attempts, each.status, each.error, compensated=False, pivot=False)
            for each in shown.steps
        ]
    found = []
    for position, step in enumerate(workflow.steps):
        row, undone = rows.get(position), step.undo is not None
        if row is None:
            found.append(SagaStepView(step.name, "pending", 0, 0, "", undone, step.pivot))
        else:
            found.append(SagaStepView(step.name, row.state, row.attempts, row.status, row.error, undone, step.pivot))
    return found
