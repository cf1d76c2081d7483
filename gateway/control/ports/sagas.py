"""What the control plane may know about sagas, and what it may order (`gateway.views.sagas`). No input, no answer of a
participant and no header is among it. Instants are in seconds since the epoch."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

SagaState = Literal["running", "succeeded", "compensating", "compensated", "stuck", "damaged"]
StepState = Literal["pending", "running", "done", "failed", "unknown", "undoing", "undone", "undo_failed", "damaged"]
Order = Literal["cancel", "retry", "skip", "resolve"]
Done = Literal["done", "held", "refused", "gone"]
"""What became of an order: it is written; a gateway works on the run just now; the run is not in a state for it; there
is no such run, or no longer."""


class SagaCount(NamedTuple):
    """The runs of one workflow in one state that have not ended. `oldest` is the age of the oldest in seconds.
    `orphaned`: no route of this gateway has the workflow."""

    workflow: str
    state: SagaState
    runs: int
    oldest: float
    orphaned: bool


class SagaStepView(NamedTuple):
    """One step. `status` is that of the last answer, 0 for none; `error` says what was wrong with it. `compensated`
    says that it has something to undo, `pivot` that there is no way back behind it."""

    name: str
    state: StepState
    attempts: int
    status: int
    error: str
    compensated: bool
    pivot: bool


class SagaEvent(NamedTuple):
    """What has happened; `step` is empty where it is about the run."""

    at: float
    kind: str
    step: str
    detail: str


class SagaView(NamedTuple):
    """One run. `due_in` in seconds, None where nobody goes on with it by itself; `held`: a gateway works on it now.
    `deadline_in` in seconds, for what it does now. `orphaned`: it has not ended, and no route of this gateway has its
    workflow."""

    id: str
    workflow: str
    state: SagaState
    cancelled: bool
    reason: str
    correlation_id: str
    created_at: float
    updated_at: float
    ended_at: float | None
    due_in: float | None
    deadline_in: float
    held: bool
    orphaned: bool


class SagaDetail(NamedTuple):
    """One run with its steps and its latest events, the oldest of them first."""

    run: SagaView
    steps: Sequence[SagaStepView]
    events: Sequence[SagaEvent]


class SagasView(Protocol):
    """The runs in the journal, whichever gateway carries them out. Every method raises `JournalAway`
    (gateway.control.ports.journal)."""

    @property
    def max_open(self) -> int:
        """Runs that may be open at most."""
        ...

    async def counts(self) -> Sequence[SagaCount]:
        """Those that have not ended, by workflow and state."""
        ...

    async def runs(self, state: str, workflow: str, before: str, most: int) -> Sequence[SagaView]:
        """Up to `most` runs, the newest first; '' for every state, every workflow, from the newest on."""
        ...

    async def run(self, run_id: str) -> SagaDetail | None:
        """One run, None where there is none."""
        ...

    async def order(self, run_id: str, what: Order, reason: str, outcome: Literal["succeeded", "compensated"]) -> Done:
        """Cancel a run, try again, skip what it is stuck at, or end it with `outcome`."""
        ...
