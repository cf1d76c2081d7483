"""A run while this process holds it, and the transitions that it writes."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, get_args

from gateway.journal.leases import Lease
from gateway.journal.saga_moves import Event, Known, Move, StepRow
from gateway.journal.sagas import Locked, NewRun, Taken
from gateway.saga import exact_json, machine
from gateway.saga.machine import Outcome, Run, RunState, StepRecord, StepState
from gateway.saga.rendering import document_of
from gateway.saga.workflow import SagaRequest, Workflow, decoded

# Later attempts of a step are told by its counters alone, so that a run that is tried for a day stays small.
_MOST_ATTEMPTS_TOLD: Final = 20
_STILL_TRIED: Final = ("pending", "running", "undoing")


class Report(NamedTuple):
    """What came of an attempt. `status` 0: there was no answer. `result` is the JSON of the answer where it is kept.
    `retry_after` in seconds. `hopeless`: another attempt would be the same. `final`: as in `machine.settled`."""

    outcome: Outcome
    status: int = 0
    detail: str = ""
    result: bytes | None = None
    retry_after: float | None = None
    hopeless: bool = False
    final: bool = True


class Job:
    """`run` is what the journal has; `results` are the answers of its steps so far. Until `held_until`, an instant of
    the monotonic clock, nobody else works on it. `wait` in seconds is to pass before its next attempt begins; None: it
    has begun."""

    def __init__(self, new: NewRun, workflow: Workflow, run: Run, lease: Lease, held_until: float) -> None:
        self.id = new.id
        self.workflow = workflow
        self.run = run
        self.lease = lease
        self.held_until = held_until
        self.correlation_id = new.correlation_id
        self.headers = new.headers
        self.wait: float | None = None
        self._known: tuple[Known, float] | None = None
        self.results: dict[str, Any] = {}
        self._input: Any = exact_json.read(new.input)

    @property
    def document(self) -> dict[str, Any]:
        """What the templates of its requests are filled from."""
        return document_of(self.id, self._input, self.results)

    @property
    def at(self) -> int:
        """The step that an attempt is made of now."""
        at = machine.position(self.workflow, self.run)
        assert at is not None  # noqa: S101 - the run is under way
        return at

    @property
    def undoes(self) -> bool:
        """Whether it compensates."""
        return self.run.state == "compensating"

    @property
    def request(self) -> SagaRequest:
        """What is to be sent now."""
        step = self.workflow.steps[self.at]
        request = step.undo if self.undoes else step.request
        assert request is not None  # noqa: S101 - the machine compensates no step without it
        return request

    @property
    def key(self) -> str:
        """The idempotency key of what is to be sent, the same for each attempt."""
        return f"{self.id}.{self.workflow.steps[self.at].name}.{'undo' if self.undoes else 'do'}"

    def knows(self, known: Known | None, since: float) -> None:
        """What the journal has told of the run, at an instant of the monotonic clock."""
        self._known = None if known is None else (known, since)

    def locked(self, now: float) -> tuple[int, Locked] | None:
        """How many events the run has, and what it would be found in; None where the journal has to be asked."""
        if self._known is None:
            return None
        known, since = self._known
        return known.events, Locked(cancelled=False, left=known.left - (now - since))

    def keep(self, at: int, result: bytes | None) -> None:
        """What the step at this position has answered with."""
        if result is not None:
            self.results[self.workflow.steps[at].name] = exact_json.read(result)


def job_of(taken: Taken, held_until: float) -> Job:
    """Raises ValueError where the definition of the run cannot be understood."""
    workflow = decoded(taken.run.definition)
    job = Job(taken.run, workflow, run_of(taken.state, workflow, taken.steps), taken.lease, held_until)
    for row in taken.steps:
        job.keep(row.position, row.result)
    return job


def run_of(state: RunState, workflow: Workflow, rows: Iterable[StepRow]) -> Run:
    """A run as the journal has it. Raises ValueError for a state that is none, and for a row of a step that the
    workflow has not."""
    if state not in get_args(RunState):
        raise ValueError("a state that no run has")
    records = [StepRecord() for _ in workflow.steps]
    for row in rows:
        if not 0 <= row.position < len(records):
            raise ValueError("a step that is not in the definition of the run")
        if row.state not in get_args(StepState):
            raise ValueError("a state that no step has")
        records[row.position] = StepRecord(row.state, row.attempts)
    return Run(state, tuple(records))


def first_move(workflow: Workflow, *, begins: bool) -> tuple[Run, Move]:
    """How a run begins: with its first attempt, or waiting for whoever takes it."""
    run = machine.new(workflow)
    if not begins:
        return run, Move("running", events=(Event("started"),))
    after = machine.begun(workflow, run)
    return after, Move("running", changed_steps(workflow, run, after, None), (Event("started"),))


def _is_told(report: Report, attempts: int) -> bool:
    """Whether an attempt that has changed no state is an event: not one that was not made."""
    return bool(report.detail) and report.outcome is not Outcome.HELD_BACK and attempts <= _MOST_ATTEMPTS_TOLD


def changed_steps(workflow: Workflow, before: Run, after: Run, report: Report | None) -> tuple[StepRow, ...]:
    """The rows of the steps that have changed; `report` is about the one that an attempt was made of."""
    at = None if report is None else machine.position(workflow, before)
    rows = []
    for position, (old, new) in enumerate(zip(before.steps, after.steps, strict=True)):
        if old == new and position != at:
            continue
        status, error, result = 0, "", None
        if report is not None and position == at:
            status, error, result = report.status, report.detail, report.result
        rows.append(StepRow(position, workflow.steps[position].name, new.state, new.attempts, status, error, result))
    return tuple(rows)


def events_of(workflow: Workflow, before: Run, after: Run, report: Report | None) -> tuple[Event, ...]:
    """What is told of a transition: steps and runs that have another state, and attempts that did not work."""
    found = []
    at = None if report is None else machine.position(workflow, before)
    for position, (old, new) in enumerate(zip(before.steps, after.steps, strict=True)):
        name, tried = workflow.steps[position].name, report is not None and position == at
        if report is not None and tried and new.state in _STILL_TRIED:
            if _is_told(report, new.attempts):
                kind = "compensation_failed" if before.state == "compensating" else "attempt_failed"
                found.append(Event(kind, name, report.detail))
        elif old.state != new.state:
            found.append(Event(f"step_{new.state}", name, report.detail if report is not None and tried else ""))
    if before.state != after.state:
        found.append(Event(after.state))
    return tuple(found)
