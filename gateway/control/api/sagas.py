"""Sagas: which runs there are, what has become of them, and what an operator does about one that does not end."""

import re
from typing import Annotated, Any

from pydantic import Field

from gateway.control.api import audit
from gateway.control.api.idempotency import available
from gateway.control.api.operation import Call, Operation
from gateway.control.api.pages import OLDER, PageCount, instant, one, page, seconds, seconds_or_none
from gateway.control.models.sagas import (
    SAGA_ID,
    Saga,
    SagaHappened,
    SagaOpen,
    SagaOutcome,
    SagaReason,
    SagaRun,
    Sagas,
    SagaStep,
    Workflow,
)
from gateway.control.models.shapes import Input, Nothing
from gateway.control.parts import ControlledGateway
from gateway.control.ports.sagas import Order, SagaDetail, SagaState, SagasView, SagaView
from gateway.control.serving.problem import RefusalError
from gateway.telemetry.log.render import rfc3339

PATH = "/api/resilience/sagas"
_ID = re.compile(SAGA_ID)
_SUMMARIES: dict[Order, str] = {
    "cancel": "Compensate what a run has done",
    "retry": "Try again what a run waits for, or is stuck at",
    "skip": "Go on as if what a run is stuck at had worked",
    "resolve": "End a run that is stuck, or that no gateway can go on with",
}
_REFUSALS: dict[Order, str] = {
    "cancel": "It has ended, or is past the point of no return.",
    "retry": "It has ended.",
    "skip": "It is not stuck, and no compensation of it has failed.",
    "resolve": "It is not stuck, and a gateway can go on with it.",
}


class WhichRuns(Input):
    """Which runs are asked for."""

    state: Annotated[SagaState | None, Field(description="Only those in one state")] = None
    workflow: Workflow = None
    before: Annotated[str | None, Field(pattern=SAGA_ID, description=OLDER)] = None
    count: PageCount = 50


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operations on sagas. A gateway without workflows has none."""
    view = gateway.sagas
    if view is None:
        return []
    orders = [_ordered(view, what) for what in ("cancel", "retry", "skip")]
    return [_listed(view), _shown(view), *orders, _resolved(view)]


def _listed(view: SagasView) -> Operation[Any, Any]:
    async def listed(call: Call[WhichRuns, Nothing]) -> Sagas:
        """All open runs counted, and a page of runs."""
        query = call.query
        counts = await available(view.counts())
        which = (query.state or "", query.workflow or "", query.before or "")
        runs, next_page = await page(lambda most: view.runs(*which, most), query.count)
        return Sagas(
            open=sum(each.runs for each in counts),
            stuck=sum(each.runs for each in counts if each.state == "stuck"),
            max_open=view.max_open,
            workflows=[
                SagaOpen(
                    workflow=each.workflow,
                    state=each.state,
                    runs=each.runs,
                    oldest_seconds=seconds(each.oldest),
                    orphaned=each.orphaned,
                )
                for each in counts
            ],
            sagas=[Saga(**_members(each)) for each in runs],
            next_page=next_page,
        )

    return Operation(
        "GET", PATH, "listSagas", "The runs of workflows, counted and listed",
        Sagas, listed, WhichRuns, Nothing, refusals=(503,),
    )  # fmt: skip


def _shown(view: SagasView) -> Operation[Any, Any]:
    async def shown(call: Call[Nothing, Nothing]) -> SagaRun:
        """One run."""
        return _run(await _found(view, call))

    return Operation(
        "GET", f"{PATH}/{{saga}}", "getSaga", "What has become of a run, with its steps and events",
        SagaRun, shown, Nothing, Nothing, refusals=(404, 503),
    )  # fmt: skip


def _ordered(view: SagasView, what: Order) -> Operation[Any, Any]:
    async def ordered(call: Call[Nothing, SagaReason]) -> SagaRun:
        """Act on a run. Raises `RefusalError` (409) where its state does not allow it."""
        return await _done(view, call, what, call.body.reason)

    return Operation(
        "POST", f"{PATH}/{{saga}}/{what}", f"{what}Saga", _SUMMARIES[what],
        SagaRun, ordered, Nothing, SagaReason, body_required=True, changes=True, refusals=(404, 409, 503),
    )  # fmt: skip


def _resolved(view: SagasView) -> Operation[Any, Any]:
    async def resolved(call: Call[Nothing, SagaOutcome]) -> SagaRun:
        """End a run. Raises `RefusalError` (409) where it is not stuck."""
        return await _done(view, call, "resolve", call.body.reason, call.body.outcome)

    return Operation(
        "POST", f"{PATH}/{{saga}}/resolve", "resolveSaga", _SUMMARIES["resolve"],
        SagaRun, resolved, Nothing, SagaOutcome, body_required=True, changes=True, refusals=(404, 409, 503),
    )  # fmt: skip


async def _done(view: SagasView, call: Call[Any, Any], what: Order, reason: str, outcome: Any = "succeeded") -> SagaRun:
    before = await _found(view, call)
    run_id = before.run.id
    done = await available(view.order(run_id, what, reason, outcome))
    if done == "held":
        raise RefusalError(409, "A step of the run is under way: look again when that has ended.", retry_after=1.0)
    after = await _found(view, call)
    if done == "refused":
        raise RefusalError(409, f"The run is {after.run.state}. {_REFUSALS[what]}")
    audit.record(
        f"{what} saga {run_id}", call, before=before.run.state, after=after.run.state, scope="fleet", reason=reason
    )
    return _run(after)


async def _found(view: SagasView, call: Call[Any, Any]) -> SagaDetail:
    return await one(call, "saga", _ID, view.run, "run")


def _run(found: SagaDetail) -> SagaRun:
    return SagaRun(
        **_members(found.run),
        steps=[
            SagaStep(
                name=each.name,
                state=each.state,
                attempts=each.attempts,
                last_status=each.status or None,
                last_error=each.error or None,
                compensated=each.compensated,
                pivot=each.pivot,
            )
            for each in found.steps
        ],
        events=[
            SagaHappened(time=rfc3339(each.at), kind=each.kind, step=each.step or None, detail=each.detail or None)
            for each in found.events
        ],
    )


def _members(run: SagaView) -> dict[str, Any]:
    return {
        "id": run.id,
        "workflow": run.workflow,
        "state": run.state,
        "cancelled": run.cancelled,
        "reason": run.reason or None,
        "correlation_id": run.correlation_id,
        "created_time": rfc3339(run.created_at),
        "updated_time": rfc3339(run.updated_at),
        "ended_time": instant(run.ended_at),
        "next_attempt_in": seconds_or_none(run.due_in),
        "under_way": run.held,
        "orphaned": run.orphaned,
        "deadline_in": None if run.due_in is None else round(run.deadline_in, 3),
    }
