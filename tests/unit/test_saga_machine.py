"""What the property test of the state machine does not say: what an operator was promised."""

from dataclasses import replace

import pytest

from gateway.saga import machine
from gateway.saga.machine import Outcome, Run
from gateway.saga.workflow import SagaRequest, SagaStep, Workflow


def workflow(*, pivot: bool) -> Workflow:
    request = SagaRequest("a", "POST", "/do", honours_key=True)
    step = SagaStep("reserve", request, SagaRequest("a", "DELETE", "/undo"))
    return Workflow("w", (step, replace(step, name="pay", undo=None if pivot else step.undo, pivot=pivot)))


def at_the_last_step(made: Workflow) -> Run:
    run = machine.settled(made, machine.begun(made, machine.new(made)), Outcome.DONE, 60.0)
    return machine.begun(made, run)


def test_a_run_that_is_cancelled_during_its_last_step_is_compensated() -> None:
    """The order was taken: without a pivot a run can be compensated to its end."""
    made = workflow(pivot=False)
    run = at_the_last_step(made)
    assert machine.may_cancel(made, run)
    after = machine.settled(made, run, Outcome.DONE, 60.0, cancelled=True)
    assert after.state == "compensating"
    assert machine.position(made, after) == 1


@pytest.mark.parametrize("pivot", [False, True])
def test_a_last_step_that_is_done_behind_the_deadline_is_done(*, pivot: bool) -> None:
    made = workflow(pivot=pivot)
    assert machine.settled(made, at_the_last_step(made), Outcome.DONE, -1.0).state == "succeeded"
