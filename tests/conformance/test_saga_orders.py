"""What operators order about runs, over both backends."""

from collections import Counter
from typing import Any

import pytest

from gateway.config.sections.workflows.model import SagaLimits
from gateway.control.ports.sagas import Order
from gateway.journal import sagas
from gateway.journal.ids import RecordIds
from gateway.journal.leases import Lease
from gateway.journal.saga_moves import Event, Move, StepRow
from gateway.journal.sagas import Locked, NewRun
from gateway.saga.workflow import SagaRequest, SagaStep, Workflow, encoded
from gateway.saga_runner.job import job_of
from gateway.views.sagas import LiveSagas
from tests.conformance.journals import Journals

_IDS = RecordIds("saga_")
_REQUEST = SagaRequest("a", "PUT", "/")
WORKFLOW = Workflow("w", (SagaStep("one", _REQUEST, _REQUEST), SagaStep("two", _REQUEST, _REQUEST)))


async def put(journals: Journals, *steps: str, state: Any = "running", held: bool = False, due: bool = True) -> str:
    """A run whose steps are in these states."""
    run = NewRun(_IDS.new(), WORKFLOW.name, encoded(WORKFLOW), b"null", b"", "correlation-1", 60.0)
    states: tuple[Any, ...] = steps
    rows = tuple(StepRow(at, WORKFLOW.steps[at].name, each, 1, 0, "", None) for at, each in enumerate(states))
    journal = await journals.replica("a")
    lease = Lease(run.id, "w1", 1)
    await journal.transact(sagas.start(run, Move("running", rows, (Event("started"),)), lease, 60.0))
    if not held:
        await journal.transact(sagas.move(lease, 60.0, lambda _: Move(state, pause=0.0, due=due)))
    return run.id


class LetGo:
    """A journal at which a run is let go whenever an order has asked it: as soon as it can, in the middle of things."""

    def __init__(self, journal: Any, lease: Lease) -> None:
        self._journal = journal
        self._lease = lease

    async def transact(self, operation: Any) -> Any:
        done = await self._journal.transact(operation)
        await self._journal.transact(sagas.let_go(self._lease))
        return done


class Operator:
    """`ended` counts what has come to an end."""

    def __init__(self, journal: Any, routed: str = "w", upstream: str = "a") -> None:
        self.ended: Counter[tuple[str, str]] = Counter()
        self.view = LiveSagas(journal, SagaLimits(), self.ended, frozenset({routed}), frozenset({upstream}))

    async def order(self, run_id: str, what: Order) -> str:
        return await self.view.order(run_id, what, "because", "compensated")

    async def state(self, run_id: str) -> str:
        found = await self.view.run(run_id)
        assert found is not None
        return found.run.state


async def test_a_cancel_takes_effect_although_whoever_works_on_the_run_lets_it_go(journals: Journals) -> None:
    """Between two looks at the run somebody may have taken it, or let it go: there is one look."""
    run = await put(journals, "running", held=True)
    journal = await journals.replica("a")
    assert await Operator(LetGo(journal, Lease(run, "w1", 1))).order(run, "cancel") == "done"
    found = await Operator(journal).view.run(run)
    assert found is not None
    assert (found.run.cancelled, found.run.held) == (True, False)
    # What was cancelled is compensated by whoever takes it next.
    (taken,) = await journal.transact(sagas.claim("w2", 6.0, 9))
    seen: list[bool] = []

    def decide(locked: Locked) -> Move:
        seen.append(locked.cancelled)
        return Move("running")

    await journal.transact(sagas.move(taken.lease, 6.0, decide))
    assert seen == [True]


@pytest.mark.parametrize(
    ("what", "steps", "state", "ends"),
    [
        ("resolve", ("undo_failed",), "stuck", "compensated"),
        ("skip", ("undo_failed", "failed"), "stuck", "compensated"),
        ("skip", ("done", "unknown"), "stuck", "succeeded"),
        ("cancel", ("pending",), "running", "compensated"),
        ("cancel", ("done",), "running", ""),
        ("retry", ("undo_failed",), "stuck", ""),
    ],
)
async def test_what_an_operator_ends_is_counted(
    journals: Journals, what: Order, steps: tuple[str, ...], state: str, ends: str
) -> None:
    run = await put(journals, *steps, state=state, due=state != "stuck")
    operator = Operator(await journals.replica("a"))
    assert await operator.order(run, what) == "done"
    assert operator.ended == ({("w", ends): 1} if ends else {})
    assert await operator.state(run) == (ends or "compensating")
    if ends:
        # Once, however often it is ordered.
        assert await operator.order(run, "resolve") == "refused"
        assert operator.ended.total() == 1


async def test_a_run_that_the_configuration_has_forgotten_can_be_ended(journals: Journals) -> None:
    journal = await journals.replica("a")
    run = await put(journals, "done")
    assert await Operator(journal).order(run, "resolve") == "refused"
    forgotten = Operator(journal, routed="other")
    assert [each.orphaned for each in await forgotten.view.counts()] == [True]
    assert [each.orphaned for each in await forgotten.view.runs("", "", "", 9)] == [True]
    assert [each.orphaned for each in await Operator(journal).view.runs("", "", "", 9)] == [False]
    assert await forgotten.order(run, "resolve") == "done"
    assert [each.orphaned for each in await forgotten.view.runs("", "", "", 9)] == [False]
    assert forgotten.ended == {("w", "compensated"): 1}
    # One that waits for an upstream, which is not there any more.
    run = await put(journals, "done")
    assert await Operator(journal, upstream="b").order(run, "resolve") == "done"
    # While somebody works on it, it is not ended under their hands.
    run = await put(journals, "done", held=True)
    assert await forgotten.order(run, "resolve") == "held"
    assert await forgotten.order(_IDS.new(), "resolve") == "gone"


async def test_a_run_with_a_step_that_its_definition_has_not_can_be_seen_and_holds_up_nobody(
    journals: Journals,
) -> None:
    run = await put(journals, "done")
    await journals.rows("UPDATE saga_steps SET position = 99 WHERE run_id = $1", run)
    journal = await journals.replica("a")
    found = await Operator(journal).view.run(run)
    assert found is not None
    assert [each.name for each in found.steps] == ["one"]
    assert await Operator(journal).order(run, "skip") == "refused"
    # Whoever takes it leaves it to another gateway, as one whose definition it does not understand.
    (taken,) = await journal.transact(sagas.claim("w2", 6.0, 9))
    with pytest.raises(ValueError, match="not in the definition"):
        job_of(taken, 0.0)
