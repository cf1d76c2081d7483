"""The answers and inputs of the API about sagas."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.control.models.shapes import Answer, Input, only_of
from gateway.control.models.words import REASON, Count, Instant, Seconds
from gateway.control.ports.sagas import SagaState, StepState

SAGA_ID = r"^saga_[0-9a-z]{26}$"

State = Annotated[
    SagaState, Field(description="stuck: only an operator can go on with it; damaged: the journal has another word")
]
Workflow = Annotated[str | None, only_of("workflow")]
Orphaned = Annotated[bool, Field(description="It has not ended, and no route of this gateway has the workflow")]


class SagaStep(Answer):
    """A step of a run. What it was sent and has answered is told nowhere."""

    name: str
    state: Annotated[
        StepState, Field(description="unknown: it may have happened; undone: it was compensated; damaged: another word")
    ]
    attempts: Annotated[Count, Field(description="That were made, of the request or of its compensation")]
    last_status: Annotated[int | None, Field(description="Of the last answer; null: there was none")]
    last_error: Annotated[str | None, Field(description="What was wrong with the last attempt; null: nothing")]
    compensated: Annotated[bool, Field(description="Whether there is something that undoes it")]
    pivot: Annotated[bool, Field(description="Whether there is no way back behind it")]


class SagaHappened(Answer):
    """Something that has happened to a run."""

    time: Instant
    kind: Annotated[str, Field(description="A stable word, such as step_done, attempt_failed or compensation_failed")]
    step: str | None
    detail: str | None


class Saga(Answer):
    """A run of a workflow."""

    id: str
    workflow: str
    state: State
    cancelled: Annotated[bool, Field(description="An operator has cancelled it while a step was under way")]
    reason: Annotated[
        str | None, Field(description="What went wrong last, or why an operator has acted; null: nothing")
    ]
    correlation_id: str
    created_time: Instant
    updated_time: Instant
    ended_time: Annotated[Instant | None, Field(description="null: not yet")]
    next_attempt_in: Annotated[float | None, Field(ge=0, description="Seconds; null: nobody goes on by itself")]
    under_way: Annotated[bool, Field(description="A gateway works on it now")]
    orphaned: Orphaned
    deadline_in: Annotated[float | None, Field(description="Seconds, below 0 behind it; null: nothing is bounded")]


class SagaRun(Saga):
    """A run with its steps, and the latest of its events."""

    steps: list[SagaStep]
    events: list[SagaHappened]


class SagaOpen(Answer):
    """The runs of one workflow in one state that have not ended."""

    workflow: str
    state: State
    runs: Count
    oldest_seconds: Annotated[Seconds, Field(description="The age of the oldest, in seconds")]
    orphaned: Orphaned


class Sagas(Answer):
    """The runs of all gateways that share the journal: those that are open counted, and a page, the newest first."""

    open: Annotated[Count, Field(description="Not ended, stuck ones included")]
    stuck: Count
    max_open: Count
    workflows: list[SagaOpen]
    sagas: list[Saga]
    next_page: Annotated[
        str | None, Field(description="The value of `before` for the next page; null: this is the last")
    ]


class SagaReason(Input):
    """Why an operator acts on a run."""

    reason: Annotated[str, REASON]


class SagaOutcome(Input):
    """How a run has ended, as an operator has found out."""

    outcome: Literal["succeeded", "compensated"]
    reason: Annotated[str, REASON]
