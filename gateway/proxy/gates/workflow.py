"""Workflows: a request starts a run, which is carried out by `gateway.saga_runner`.

What it has in common with other gates that keep requests is in `gateway.proxy.gates.journalled`. Besides:

    the body is not JSON                               400 `body_malformed`
    the workflow needs more than the request says      422 `saga_input_invalid`, also for one nested too deeply
    it is in the journal                               202, with the id of the run and where its state can be seen
    `Prefer: wait=n`, and it ends within n seconds     its outcome: 200 succeeded, 409 compensated
"""

import random
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final, Protocol

import orjson

from gateway.idempotency.claims import Claims
from gateway.journal import sagas
from gateway.journal.depth import Depth
from gateway.journal.ids import RecordIds
from gateway.journal.leases import Lease
from gateway.journal.port import Journal
from gateway.journal.saga_moves import Move
from gateway.journal.sagas import NewRun, OpenRuns, Shown, Taken
from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.gate import Question, Step, step
from gateway.proxy.gates.journalled import OUTCOMES, Entry, JournalGate, Waiting
from gateway.proxy.ticket import Ticket
from gateway.saga import exact_json
from gateway.saga.rendering import document_of, json_of, lacking
from gateway.saga.templates import TemplateError
from gateway.saga.workflow import Workflow, encoded

STATUS_PATH: Final = "/api/resilience/sagas"
LONGEST_WAIT: Final = 30
_PREFER: Final = re.compile(rb"^prefer:[^\r\n]*?[\s:;,]wait[ \t]*=[ \t]*([0-9]{1,9})", re.IGNORECASE | re.MULTILINE)


class Runs(Protocol):
    """Whoever carries runs out (`gateway.assembly.sagas`)."""

    def first(self, workflow: Workflow, run: NewRun) -> tuple[Move, Taken | None, float]:
        """The first transition of a new run. With a `Taken` it is to be written with that lease, for so many seconds,
        and handed to `carry_on` then; where it cannot be written, `not_kept` is told."""
        ...

    def not_kept(self) -> None:
        """A run with a `Taken` is not in the journal, or nobody can tell: whoever looks takes it."""
        ...

    def carry_on(self, taken: Taken, began: float) -> None:
        """Go on with a run that is in the journal now, held since `began`, an instant of the monotonic clock."""
        ...

    def wait(self, run_id: str, seconds: float, told: Any) -> None:
        """Call `told` once with the run (`Shown`) when it ends, or with None when it does not in time."""
        ...


class Begun:
    """A run that this process goes on with, and when its lease began."""

    __slots__ = ("at", "taken")

    def __init__(self, taken: Taken, at: float) -> None:
        self.taken = taken
        self.at = at


class WorkflowGate(JournalGate):
    """That of one route."""

    name: ClassVar[str] = "workflow"

    def __init__(
        self,
        workflow: Workflow,
        journal: Journal,
        depth: Depth[OpenRuns],
        runs: Runs,
        claims: Claims | None,
        rng: random.Random,
        origin: Callable[[Ticket], bytes],
    ) -> None:
        super().__init__(
            journal,
            depth,
            claims,
            rng,
            workflow.max_input_bytes,
            f"the request body is larger than {workflow.max_input_bytes} bytes, the most of an input",
            "saga_full",
            "as many runs of workflows are open as may be",
            origin,
            (*OUTCOMES, "invalid"),
        )
        self._workflow = workflow
        self._definition = encoded(workflow)
        self._runs = runs
        self._ids = RecordIds("saga_")

    def entry(self, ticket: Ticket, body: bytes) -> Entry | Refusal:
        try:
            given = exact_json.read(body or b"null")
        except ValueError:
            return Refusal(400, "body_malformed", "the body is not JSON")
        missing = lacking(self._workflow, given)
        if missing is not None:
            return Refusal(422, "saga_input_invalid", missing)
        workflow = self._workflow
        correlation_id = ticket.correlation_id.decode("latin-1")
        run = NewRun(
            *(self._ids.new(), workflow.name, self._definition, body or b"null"),
            self.origin(ticket) + ticket.caller_lines,
            *(correlation_id, workflow.deadline),
        )
        move, taken, lease_seconds = self._runs.first(workflow, run)
        lease: Lease | None = None if taken is None else taken.lease
        operation = sagas.start(run, move, lease, lease_seconds)
        answer = _answer(202, run.id, workflow.name, "running", {})
        return Entry(run.id, "saga", operation, answer, None if taken is None else Begun(taken, time.monotonic()))

    def kept(self, ticket: Ticket, waiting: Waiting, entry: Entry) -> None:
        begun = entry.starter
        if isinstance(begun, Begun):
            self._runs.carry_on(begun.taken, begun.at)
        seconds = _wait_of(ticket.request.fields.lines)
        if waiting.gone or not seconds:
            super().kept(ticket, waiting, entry)
        else:
            self._runs.wait(entry.record_id, seconds, partial(self._ended, waiting, entry, seconds))

    def not_kept(self, entry: Entry) -> None:
        if entry.starter is not None:
            self._runs.not_kept()

    def describe(self) -> dict[str, object]:
        """The workflow of the route."""
        workflow = self._workflow
        return {
            "workflow": workflow.name,
            "steps": [each.name for each in workflow.steps],
            "deadline": workflow.deadline,
            "completion_deadline": workflow.completion_deadline,
            "max_input_bytes": workflow.max_input_bytes,
        }

    async def explain(self, question: Question) -> Step:
        if self.depth.full:
            full = self.full()
            return step(self.name, "refuse", full.detail, full.status, full.reason, full.retry_after)
        names = ", ".join(each.name for each in self._workflow.steps)
        return step(
            self.name, "allow", f"It starts a run of {self._workflow.name} and is answered with 202: {names}.",
            figures={"open": self.depth.pending, "max_open": self.depth.max_pending},
        )  # fmt: skip

    def _ended(self, waiting: Waiting, entry: Entry, seconds: int, shown: Shown | None) -> None:
        if waiting.gone:
            return
        if shown is None:
            waiting.resume(_answer(202, entry.record_id, self._workflow.name, "running", {}, seconds))
        else:
            waiting.resume(_outcome(self._workflow, shown, seconds))


def _outcome(workflow: Workflow, shown: Shown, seconds: int) -> OwnAnswer:
    run = shown.run
    members: dict[str, object] = {}
    status = {"succeeded": 200, "compensated": 409}.get(run.state, 202)
    if run.state != "succeeded":
        members["detail"] = run.reason
        # Steps have a row from their first attempt on: the last one is the one that was not done.
        members["failedStep"] = shown.steps[-1].name if shown.steps else None
    elif workflow.answer is not None:
        results = {each.name: exact_json.read(each.result) for each in shown.steps if each.result is not None}
        try:
            document = document_of(run.id, exact_json.read(shown.input), results)
            members["answer"] = orjson.Fragment(json_of(workflow.answer, document))
        except TemplateError:
            members["answer"] = None
    return _answer(status, run.id, run.workflow, run.state, members, seconds)


def _answer(
    status: int, run_id: str, workflow: str, state: str, members: dict[str, object], waited: int = 0
) -> OwnAnswer:
    path = f"{STATUS_PATH}/{run_id}"
    told = {"id": run_id, "workflow": workflow, "status": state, "statusUrl": path}
    fields = b"Content-Type: application/json\r\nLocation: %b\r\n" % path.encode()
    if waited:
        fields += b"Preference-Applied: wait=%d\r\n" % waited
    decision = "accepted" if status == 202 else state
    return OwnAnswer(status, fields, ("workflow", decision), orjson.dumps({**told, **members}) + b"\n")


def _wait_of(lines: bytes) -> int:
    """Seconds that the client wants to wait for the outcome (RFC 7240 section 4.3), 30 at most; 0 where it does not."""
    found = _PREFER.search(lines)
    return 0 if found is None else min(LONGEST_WAIT, int(found[1]))
