"""The state machine of a run, as pure functions: from a run and what has happened to the run that follows.

    run    running ──▶ succeeded
              │ ──────────────────────────▶ stuck ──▶ running, compensating   an operator: retry, skip
              └──▶ compensating ──▶ compensated ▲  └─▶ succeeded, compensated  an operator: resolve
                        └───────────────────────┘
    step   pending ──▶ running ──▶ done ──────────▶ undoing ──▶ undone
                          │ ─────▶ unknown ───────────┘  └────▶ undo_failed
                          └──────▶ failed

A step becomes `running` before a byte of it is sent, so what is `running` when nobody works on it may have happened.
`unknown` may have happened, too, and is compensated like `done`. `failed` and `pending` have not happened.

A refusal (4xx) says that its own attempt did nothing. What it says of the step depends on the attempts before it:

    none of them, or each was turned away                              failed
    one of them may have acted, the upstream does not honour keys      unknown
    … it does, and has looked at the key (`final`)                     failed: it repeats its first answer
    … it does, and has refused before that, such as with 401           unknown

Once the pivot may have happened there is no way back: it and what follows is tried until it works or its time is over,
and then the run is stuck, and so it is when a compensation does not work in its time.

Left out on purpose: clocks, answers, and who works on the run. How much time is `left` is told, in seconds; it is
negative when the time is over.
"""

from enum import Enum
from typing import Final, Literal, NamedTuple

from gateway.saga.workflow import Workflow

RunState = Literal["running", "succeeded", "compensating", "compensated", "stuck"]
StepState = Literal["pending", "running", "done", "failed", "unknown", "undoing", "undone", "undo_failed"]

OPEN: Final[tuple[RunState, ...]] = ("running", "compensating", "stuck")
ENDED: Final[tuple[RunState, ...]] = ("succeeded", "compensated")
_MAY_HAVE_HAPPENED: Final = ("done", "unknown")


class Outcome(Enum):
    """What became of an attempt: it worked; it certainly did not, and will not; it was turned away, and may work later;
    nobody knows; nothing was sent, to protect the upstream, which spends no attempt."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    UNCERTAIN = "uncertain"
    HELD_BACK = "held_back"


class StepRecord(NamedTuple):
    """One step. `attempts` are those of the present direction. `doubtful`: an attempt is under way, and one before it
    may have acted. It follows from the state before the attempt, so it is stored nowhere: whoever takes the step up
    when its attempt was broken off begins the next one in doubt."""

    state: StepState = "pending"
    attempts: int = 0
    doubtful: bool = False


class Run(NamedTuple):
    """A run. `steps` are those of its workflow, in the same order."""

    state: RunState
    steps: tuple[StepRecord, ...]

    def changed(self, position: int, state: StepState, attempts: int, *, doubtful: bool = False) -> "Run":
        """The run with another record of one step."""
        record = StepRecord(state, attempts, doubtful)
        return self._replace(steps=(*self.steps[:position], record, *self.steps[position + 1 :]))


def new(workflow: Workflow) -> Run:
    """A run of which nothing has begun."""
    return Run("running", tuple(StepRecord() for _ in workflow.steps))


def position(workflow: Workflow, run: Run) -> int | None:
    """The step that an attempt is made of next, or now: None where there is none, because the run is not under way."""
    if run.state == "running":
        return next((at for at, each in enumerate(run.steps) if each.state in {"pending", "running"}), None)
    if run.state == "compensating":
        undoing = (at for at, each in enumerate(run.steps) if each.state == "undoing")
        return next(undoing, _last_to_undo(workflow, run))
    return None


def begun(workflow: Workflow, run: Run) -> Run:
    """Its next attempt begins: to be written before anything is sent. The run must be under way."""
    at = position(workflow, run)
    assert at is not None  # noqa: S101 - the run is under way
    state, attempts, _ = run.steps[at]
    if run.state == "running":
        return run.changed(at, "running", attempts + 1, doubtful=state == "running")
    return run.changed(at, "undoing", attempts + 1 if state == "undoing" else 1)


def settled(
    workflow: Workflow, run: Run, outcome: Outcome, left: float, *, cancelled: bool = False, final: bool = True
) -> Run:
    """An attempt that had begun has ended. `cancelled`: what can be compensated shall be. `final` False: a refusal that
    an upstream gives before it looks at the key, so it is not the answer to the attempts before."""
    at = position(workflow, run)
    assert at is not None  # noqa: S101 - an attempt was made
    if run.state == "compensating":
        return _undo_settled(workflow, run, at, outcome, left)
    step, record = workflow.steps[at], run.steps[at]
    stop = cancelled or left <= 0
    if outcome is Outcome.DONE:
        after = run.changed(at, "done", record.attempts)
        if at < workflow.pivot and (cancelled or (stop and at + 1 < len(run.steps))):
            return _compensating(workflow, after)
        # The time of what comes behind the pivot begins with it.
        return _went_on(after, at)
    if outcome is Outcome.FAILED:
        certain = not record.doubtful or (final and step.request.honours_key)
        return _turned(workflow, run.changed(at, "failed" if certain else "unknown", record.attempts), at)
    happened = outcome is Outcome.UNCERTAIN or record.doubtful
    attempts = record.attempts - (outcome is Outcome.HELD_BACK)
    if _committed(workflow, at, happened=happened):
        again = left > -workflow.completion_deadline
    else:
        spent = outcome is not Outcome.HELD_BACK and attempts >= step.max_attempts
        again = not stop and not spent and (step.request.repeatable or not happened)
    if again:
        return run.changed(at, "running" if happened else "pending", attempts)
    return _turned(workflow, run.changed(at, "unknown" if happened else "failed", attempts), at)


def resumed(workflow: Workflow, run: Run, left: float, *, cancelled: bool = False) -> Run:
    """Somebody takes up a run that nobody works on. A step that is `running` was broken off, or waits to be sent again;
    what may not be sent again is `unknown`. What may only be tried until it works is tried once more in any case."""
    at = position(workflow, run)
    if at is None or run.state == "compensating":
        return run
    step, record = workflow.steps[at], run.steps[at]
    broken_off = record.state == "running"
    if _committed(workflow, at, happened=broken_off):
        return run
    stop = cancelled or left <= 0
    spent = record.attempts >= step.max_attempts
    if stop or (broken_off and (spent or not step.request.repeatable)):
        return _turned(workflow, run.changed(at, "unknown" if broken_off else "failed", record.attempts), at)
    return run


def may_cancel(workflow: Workflow, run: Run) -> bool:
    """Whether what was done can still be compensated: the pivot has not begun, or it is where the run is stuck, and an
    operator says that it has not happened."""
    if run.state == "running":
        return all(record.state == "pending" for record in run.steps[workflow.pivot :])
    return run.state == "stuck" and stuck_at(run) == workflow.pivot


def turned_back(workflow: Workflow, run: Run) -> Run:
    """A run that is stuck at its pivot is compensated: the pivot has not happened."""
    at = workflow.pivot
    return _compensating(workflow, run.changed(at, "failed", run.steps[at].attempts))


def retried(run: Run) -> Run:
    """A stuck run tries again what it is stuck at."""
    at = stuck_at(run)
    state = run.steps[at].state
    if state == "undo_failed":
        return run.changed(at, "undoing", 0)._replace(state="compensating")
    # An attempt of before is remembered: else the next refusal would say that it has not happened.
    again = run.changed(at, "running", 1) if state == "unknown" else run.changed(at, "pending", 0)
    return again._replace(state="running")


def skipped(workflow: Workflow, run: Run) -> Run:
    """A stuck run goes on as if what it is stuck at had worked: an operator has seen to it."""
    at = stuck_at(run)
    if run.steps[at].state == "undo_failed":
        return _compensating(workflow, run.changed(at, "undone", run.steps[at].attempts))
    return _went_on(run.changed(at, "done", run.steps[at].attempts)._replace(state="running"), at)


def stuck_at(run: Run) -> int:
    """A failed compensation; else the last step that is no longer pending, which the run could not finish."""
    for at, record in enumerate(run.steps):
        if record.state == "undo_failed":
            return at
    return max(at for at, record in enumerate(run.steps) if record.state in {"failed", "unknown"})


def _last_to_undo(workflow: Workflow, run: Run) -> int | None:
    steps = zip(workflow.steps, run.steps, strict=True)
    found = [at for at, (step, each) in enumerate(steps) if each.state in _MAY_HAVE_HAPPENED and step.undo]
    return found[-1] if found else None


def _went_on(run: Run, at: int) -> Run:
    return run._replace(state="succeeded") if at + 1 == len(run.steps) else run


def _turned(workflow: Workflow, run: Run, at: int) -> Run:
    """The step at this position was not done. There is a way back unless the pivot, or what follows it, may have
    happened."""
    committed = _committed(workflow, at, happened=run.steps[at].state == "unknown")
    return _stuck(run) if committed else _compensating(workflow, run)


def _committed(workflow: Workflow, at: int, *, happened: bool) -> bool:
    """Whether there is no way back from the step at this position, which may have `happened`."""
    return at > workflow.pivot or (at == workflow.pivot and happened)


def _compensating(workflow: Workflow, run: Run) -> Run:
    return run._replace(state="compensated" if _last_to_undo(workflow, run) is None else "compensating")


def _undo_settled(workflow: Workflow, run: Run, at: int, outcome: Outcome, left: float) -> Run:
    attempts = run.steps[at].attempts - (outcome is Outcome.HELD_BACK)
    if outcome is Outcome.DONE:
        return _compensating(workflow, run.changed(at, "undone", attempts))
    return run.changed(at, "undoing", attempts) if left > 0 else _stuck(run.changed(at, "undo_failed", attempts))


def _stuck(run: Run) -> Run:
    return run._replace(state="stuck")
