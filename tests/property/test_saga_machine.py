"""The state machine of sagas: whatever fails, is lost or crashes, a run ends, and the participants agree about it.

The participants are a model: each has acted on a step or not, and on its compensation or not. One that honours keys
acts once; one that does not acts each time that it is asked. Answers get lost, processes die between any two writes,
and operators cancel, retry and skip.
"""

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.saga import machine
from gateway.saga.machine import Outcome, Run, StepRecord
from gateway.saga.workflow import SagaRequest, SagaStep, Workflow

DEADLINE = 100.0
COMPLETION = 1000.0
WHAT = (
    *("works", "is written alone", "fails", "is refused ahead of the key", "is turned away", "is held back"),
    *("acts, and the answer is lost", "the answer is lost", "acts, and the process dies", "the process dies"),
)


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    """Those that `gateway check` lets through: from the pivot on, and for compensations, what can be repeated."""
    count = draw(st.integers(1, 3))
    pivot = draw(st.integers(0, count))
    steps = []
    for at in range(count):
        method, keys = draw(st.sampled_from([("POST", False), ("POST", True), ("PUT", False)]))
        keys = keys or (at >= pivot and method == "POST")
        request = SagaRequest("a", method, "/", honours_key=keys)
        undo = SagaRequest("a", "DELETE", "/") if at < pivot and draw(st.booleans()) else None
        steps.append(SagaStep(f"s{at}", request, undo, at == pivot, max_attempts=draw(st.integers(1, 3))))
    return Workflow("w", tuple(steps), DEADLINE, COMPLETION)


class Sagas(RuleBasedStateMachine):
    """`run` is what the journal has; `sent` says that an attempt of it is under way."""

    @initialize(workflow=workflows())
    def begin(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.now = 0.0
        self.deadline = DEADLINE
        self.cancelled = False
        self.resolved = False
        self.by_hand: set[int] = set()
        self.done: Counter[int] = Counter()
        self.undone: Counter[int] = Counter()
        self.run = machine.begun(workflow, machine.new(workflow))
        self.sent = True

    @property
    def left(self) -> float:
        return self.deadline - self.now

    @property
    def at(self) -> int:
        at = machine.position(self.workflow, self.run)
        assert at is not None
        return at

    def under_way(self) -> bool:
        return machine.position(self.workflow, self.run) is not None

    def moved(self, after: Run, *, begin: bool) -> None:
        """What the runner writes (gateway.saga_runner.runner): the next attempt begins in the same commit."""
        before = self.run
        at = machine.position(self.workflow, after)
        if begin and at is not None:
            after = machine.begun(self.workflow, after)
            if after.steps[at].state == "undoing" and before.steps[at].state != "undoing":
                self.deadline = self.now + COMPLETION
        self.run = after
        self.sent = begin and at is not None

    def act(self) -> None:
        """The participant gets the request, and acts on it unless it has and knows."""
        request = self.workflow.steps[self.at].request
        if self.run.state == "compensating":
            self.undone[self.at] += 1
        elif not request.honours_key or not self.done[self.at]:
            self.done[self.at] += 1

    @precondition(lambda self: self.under_way())
    @rule(what=st.sampled_from(WHAT))
    def attempt(self, what: str) -> None:
        """One attempt, by whoever has the run; where nobody has it, somebody takes it up."""
        if not self.sent:
            self.moved(machine.resumed(self.workflow, self.run, self.left, cancelled=self.cancelled), begin=True)
            if not self.sent:
                return
        request = self.workflow.steps[self.at].request
        if what in {"works", "is written alone"}:
            self.act()
            self.settle(Outcome.DONE, begin=what == "works")
        elif what == "fails" and self.run.state == "running" and request.honours_key and self.done[self.at]:
            # A participant that knows keys repeats its first answer.
            self.settle(Outcome.DONE, begin=True)
        elif what == "fails":
            # One that does not may say of a repetition that there is nothing to be done.
            self.settle(Outcome.FAILED)
        elif what == "is refused ahead of the key":
            self.settle(Outcome.FAILED, final=False)
        elif what in {"is turned away", "is held back"}:
            self.settle(Outcome.REFUSED if what == "is turned away" else Outcome.HELD_BACK)
        else:
            if what.startswith("acts"):
                self.act()
            if what.endswith("the process dies"):
                self.sent = False
            else:
                self.settle(Outcome.UNCERTAIN)

    @rule(seconds=st.sampled_from([DEADLINE, COMPLETION]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: machine.may_cancel(self.workflow, self.run))
    @rule()
    def operator_cancels(self) -> None:
        if self.run.state == "running":
            self.cancelled = True
        elif not self.done[self.workflow.pivot]:
            # Whoever cancels a run that is stuck at its pivot has seen that it did not happen.
            self.run = machine.turned_back(self.workflow, self.run)

    @precondition(lambda self: self.run.state == "stuck")
    @rule()
    def operator_retries(self) -> None:
        self.run = machine.retried(self.run)
        self.deadline = self.now + (COMPLETION if self.run.state == "compensating" else 0.0)

    @precondition(lambda self: self.run.state == "stuck")
    @rule()
    def operator_skips(self) -> None:
        at = machine.stuck_at(self.run)
        if self.run.steps[at].state == "undo_failed":
            self.undone[at] += 1
        else:
            self.done[at] = max(1, self.done[at])
        self.by_hand.add(at)
        self.run = machine.skipped(self.workflow, self.run)
        self.deadline = self.now + COMPLETION

    def settle(self, outcome: Outcome, *, begin: bool = False, final: bool = True) -> None:
        after = machine.settled(self.workflow, self.run, outcome, self.left, cancelled=self.cancelled, final=final)
        same = outcome is not Outcome.DONE and after.state == self.run.state
        self.moved(after, begin=begin or (not same and machine.position(self.workflow, after) is not None))

    @invariant()
    def nothing_is_sent_that_is_not_written(self) -> None:
        for at, record in enumerate(self.run.steps):
            if record.state == "pending":
                assert not self.done[at] or record.attempts, f"step {at} has happened unnoticed"
            if record.state == "failed" and not self.by_hand:
                assert not self.done[at], f"step {at} has happened, and is said to have failed"

    @invariant()
    def no_participant_that_honours_keys_acts_twice(self) -> None:
        for at, step in enumerate(self.workflow.steps):
            assert self.done[at] <= 1 or not step.request.honours_key

    @invariant()
    def no_participant_acts_twice_on_what_may_not_be_repeated(self) -> None:
        for at, step in enumerate(self.workflow.steps):
            assert self.done[at] <= 1 or step.request.repeatable

    @invariant()
    def what_was_done_is_undone_where_the_run_says_so(self) -> None:
        state = self.run.state
        if state == "succeeded":
            assert all(self.done[at] >= 1 for at in range(len(self.workflow.steps)))
            assert not self.undone
        if state == "compensated":
            for at, step in enumerate(self.workflow.steps):
                assert not (self.done[at] and step.undo and not self.undone[at]), f"step {at} is not undone"

    @invariant()
    def nothing_is_undone_once_the_pivot_has_happened(self) -> None:
        if self.done[self.workflow.pivot]:
            assert not self.undone

    @invariant()
    def what_has_ended_is_not_under_way(self) -> None:
        assert self.under_way() == (self.run.state in {"running", "compensating"})

    def teardown(self) -> None:
        """Left alone, with participants that answer no more, every run ends or is stuck."""
        if not hasattr(self, "run"):
            return
        for _ in range(200):
            if not self.under_way():
                break
            self.now += COMPLETION + DEADLINE
            self.attempt("the answer is lost")
        assert self.run.state in {"succeeded", "compensated", "stuck"}


Sagas.TestCase.settings = settings(max_examples=300, stateful_step_count=25, deadline=None)
TestSagas: Any = Sagas.TestCase


def test_a_run_without_trouble_takes_one_attempt_of_each_step() -> None:
    request = SagaRequest("a", "POST", "/")
    workflow = Workflow("w", tuple(SagaStep(name, request, request) for name in "abc"))
    run = machine.new(workflow)
    for _ in range(3):
        run = machine.settled(workflow, machine.begun(workflow, run), Outcome.DONE, math.inf)
    assert run.state == "succeeded"
    assert {(each.state, each.attempts) for each in run.steps} == {("done", 1)}


def test_what_was_done_is_undone_in_reverse() -> None:
    request = SagaRequest("a", "POST", "/")
    workflow = Workflow("w", tuple(SagaStep(name, request, request) for name in "abc"))
    run = machine.new(workflow)
    for outcome in (Outcome.DONE, Outcome.DONE, Outcome.FAILED):
        run = machine.settled(workflow, machine.begun(workflow, run), outcome, math.inf)
    order = []
    while run.state == "compensating":
        order.append(machine.position(workflow, run))
        run = machine.settled(workflow, machine.begun(workflow, run), Outcome.DONE, math.inf)
    assert order == [1, 0]
    assert [each.state for each in run.steps] == ["undone", "undone", "failed"]
    assert run.state == "compensated"


def run_of(workflow: Workflow, *outcomes: Outcome, left: float = math.inf, final: bool = True) -> Run:
    """A run whose attempts have ended so; the last one with so much time left."""
    run = machine.new(workflow)
    for number, outcome in enumerate(outcomes, 1):
        time = left if number == len(outcomes) else 1.0
        run = machine.settled(workflow, machine.begun(workflow, run), outcome, time, final=final)
    return run


LOST, TURNED_AWAY, REFUSED = Outcome.UNCERTAIN, Outcome.REFUSED, Outcome.FAILED


@pytest.mark.parametrize(
    ("outcomes", "keys", "final", "state"),
    [
        # Nothing was in doubt: the refusal is about all that was sent.
        ((REFUSED,), False, True, "failed"),
        ((REFUSED,), True, False, "failed"),
        ((TURNED_AWAY, REFUSED), False, True, "failed"),
        ((TURNED_AWAY, TURNED_AWAY, REFUSED), True, False, "failed"),
        ((Outcome.HELD_BACK, REFUSED), False, True, "failed"),
        # An attempt may have acted, and the refusal is about the repetition alone.
        ((LOST, REFUSED), False, True, "unknown"),
        ((LOST, REFUSED), True, False, "unknown"),
        ((LOST, TURNED_AWAY, REFUSED), False, True, "unknown"),
        ((LOST, Outcome.HELD_BACK, REFUSED), True, False, "unknown"),
        # An upstream that honours keys and has looked at the key repeats its first answer.
        ((LOST, REFUSED), True, True, "failed"),
        ((LOST, TURNED_AWAY, REFUSED), True, True, "failed"),
    ],
)
def test_what_a_refusal_says_of_the_attempts_before_it(
    outcomes: tuple[Outcome, ...], state: str, *, keys: bool, final: bool
) -> None:
    request = SagaRequest("a", "PUT", "/", honours_key=keys)
    run = run_of(Workflow("w", (SagaStep("s", request, request),)), *outcomes, final=final)
    assert run.steps[0].state == state
    assert run.state == ("compensating" if state == "unknown" else "compensated")


@pytest.mark.parametrize("keys", [False, True])
def test_a_refusal_after_an_attempt_that_a_crash_has_broken_off(*, keys: bool) -> None:
    """Whoever takes the run up knows nothing of the attempt but that it had begun."""
    request = SagaRequest("a", "PUT", "/", honours_key=keys)
    workflow = Workflow("w", (SagaStep("s", request, request),))
    kept = machine.begun(workflow, machine.new(workflow))
    loaded = Run(kept.state, tuple(StepRecord(each.state, each.attempts) for each in kept.steps))
    again = machine.begun(workflow, machine.resumed(workflow, loaded, 1.0))
    assert machine.settled(workflow, again, REFUSED, 1.0, final=False).steps[0].state == "unknown"


def test_what_is_turned_away_each_time_has_not_happened() -> None:
    request = SagaRequest("a", "PUT", "/")
    workflow = Workflow("w", (SagaStep("s", request, request, max_attempts=3),))
    run = run_of(workflow, TURNED_AWAY, TURNED_AWAY, TURNED_AWAY)
    assert (run.state, run.steps[0].state) == ("compensated", "failed")
    # So a pivot that cannot be reached does not commit the run.
    pivot = Workflow("w", (SagaStep("p", request, pivot=True, max_attempts=2),))
    assert run_of(pivot, TURNED_AWAY, TURNED_AWAY).state == "compensated"


def test_a_pivot_that_may_have_happened_is_never_compensated() -> None:
    request = SagaRequest("a", "PUT", "/")
    workflow = Workflow(
        "w", (SagaStep("s", request, request), SagaStep("p", request, pivot=True)), DEADLINE, COMPLETION
    )
    late = run_of(workflow, Outcome.DONE, Outcome.UNCERTAIN, left=-1.0)
    assert (late.state, late.steps[1].state) == ("running", "running")
    too_late = run_of(workflow, Outcome.DONE, Outcome.UNCERTAIN, left=-COMPLETION)
    assert (too_late.state, too_late.steps[1].state) == ("stuck", "unknown")
    # One that was only turned away has not happened.
    assert run_of(workflow, Outcome.DONE, Outcome.REFUSED, left=-1.0).state == "compensating"


def test_what_is_unknown_stays_unknown_when_an_operator_tries_again() -> None:
    request = SagaRequest("a", "PUT", "/")
    workflow = Workflow("w", (SagaStep("p", request, pivot=True),), DEADLINE, COMPLETION)
    stuck = run_of(workflow, Outcome.UNCERTAIN, left=-COMPLETION)
    again = machine.begun(workflow, machine.retried(stuck))
    run = machine.settled(workflow, again, Outcome.REFUSED, -COMPLETION)
    assert (run.state, run.steps[0].state) == ("stuck", "unknown")
