"""The workflows of the configuration, and what cannot work about them.

an upstream that there is not                      a template that points nowhere
a write before the pivot, and not a word about     a compensation behind the pivot, which will never be asked for
how it is undone
a request that is sent until it works, to an upstream that would act on it each time
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from gateway.config.building.place import Place
from gateway.config.building.sources import Sources
from gateway.config.problems import Notice, shown
from gateway.config.reading.yaml_tree import Location
from gateway.config.sections.upstreams.model import UpstreamConfig
from gateway.config.sections.workflows.model import SagaLimits
from gateway.config.sections.workflows.settings import FileStep, FileWorkflow, Sagas, SagaUndo, ranges
from gateway.config.sections.workflows.templates import mistakes
from gateway.saga.templates import Found, places
from gateway.saga.workflow import SAFE, Ranges, SagaRequest, SagaStep, Workflow

_HOUR: Final = 3600.0
# The gateway's own, and those of the connection.
_OURS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer", "keep-alive"}
    | {"idempotency-key", "x-request-id", "x-correlation-id", "traceparent", "tracestate", "via"}
)
Upstreams = Mapping[str, UpstreamConfig]
_Model = TypeVar("_Model", bound=BaseModel)


def workflows_of(
    sources: Sources, entries: dict[str, Any], upstreams: Upstreams, known: Iterable[str]
) -> dict[str, Workflow]:
    """The workflows that are valid, by name; what is wrong with the others is reported. `known` are the names of all
    upstreams, also of those that something is wrong with."""
    found = {}
    for name, entry in sources.entries(FileWorkflow, sources.named(entries, "workflows"), "workflows", {}):
        made = _Maker(sources, name, upstreams, list(known)).workflow(entry)
        if made is not None:
            found[name] = made
    return found


def sagas_config(section: Sagas) -> SagaLimits:
    """The domain type."""
    return SagaLimits(section.max_open, section.concurrency, section.retention * _HOUR)


def workflow_methods(methods: frozenset[str] | None, place: Place) -> frozenset[str]:
    """The methods of a route with a workflow: POST alone, which starts a run."""
    wrong = sorted((methods or frozenset()) - {"POST"})
    if wrong:
        place.report(("methods",), wrong[0], "POST on a route with workflow")
    return frozenset({"POST"})


class _Maker:
    """Makes one workflow."""

    def __init__(self, sources: Sources, name: str, upstreams: Upstreams, known: list[str]) -> None:
        self._sources = sources
        self._upstreams = upstreams
        self._known = known
        self._name = name
        self._problems = len(sources.problems)

    def workflow(self, entry: FileWorkflow) -> Workflow | None:
        steps: list[SagaStep] = []
        committed = False
        for index, raw in enumerate(entry.steps):
            location = ("workflows", self._name, "steps", index)
            step = self._validated(FileStep, raw, location)
            if step is None:
                continue
            if any(each.name == step.name for each in steps):
                self._report((*location, "name"), step.name, "a name of its own within the workflow")
            if committed and step.pivot:
                self._report((*location, "pivot"), value=True, allowed="one pivot in a workflow")
            earlier = set(_names(entry.steps[:index]))
            steps.append(self._step(location, step, earlier, committed=committed))
            committed = committed or step.pivot
        self._templates(entry.answer, ("workflows", self._name, "answer"), set(_names(entry.steps)))
        if len(self._sources.problems) > self._problems:
            return None
        values = entry.model_dump(exclude={"steps"})
        return Workflow(self._name, tuple(steps), **values)

    def _step(self, location: Location, step: FileStep, earlier: set[str], *, committed: bool) -> SagaStep:
        request = self._request(location, step, step.upstream, earlier, ranges(step.failed))
        both = [each for each in request.failed if any(a <= each[1] and each[0] <= b for a, b in request.success)]
        if both:
            self._report((*location, "failed"), f"{both[0][0]}", "statuses that are not among those of success")
        if step.retry.base_delay > step.retry.max_delay:
            self._report((*location, "retry", "base_delay"), step.retry.base_delay, "at most retry.max_delay")
        undo = self._undo(location, step, request, earlier, committed=committed or step.pivot)
        if (committed or step.pivot) and not request.repeatable and step.upstream in self._upstreams:
            self._report(
                (*location, "method"), step.method,
                f"PUT or DELETE, or an upstream with honours_idempotency_key: true: {_UNTIL_IT_WORKS['pivot']}",
            )  # fmt: skip
        retry = step.retry
        return SagaStep(step.name, request, undo, step.pivot, retry.max_attempts, retry.base_delay, retry.max_delay)

    def _undo(
        self, location: Location, step: FileStep, request: SagaRequest, earlier: set[str], *, committed: bool
    ) -> SagaRequest | None:
        there = (*location, "compensate")
        writes = step.method not in SAFE
        if step.compensate is None:
            if writes and not committed:
                allowed = "compensate: a request that undoes it, or none where nothing has to be undone"
                self._report(there, "nothing is said", allowed, quoted=False)
            return None
        if step.compensate == "none":
            return None
        if committed:
            self._report(there, step.compensate, "nothing: the pivot and what follows it is never undone")
            return None
        if not writes:
            self._report(there, step.compensate, f"nothing: {step.method} changes nothing")
            return None
        undo = self._validated(SagaUndo, step.compensate, there)
        if undo is None:
            return None
        made = self._request(there, undo, undo.upstream or step.upstream, {*earlier, step.name}, ())
        if not made.repeatable and made.upstream in self._upstreams:
            self._report(
                (*there, "method"), undo.method,
                f"PUT or DELETE, or an upstream with honours_idempotency_key: true: {_UNTIL_IT_WORKS['undo']}",
            )  # fmt: skip
        own = f"/results/{step.name}"
        if any(each.pointer == own or each.pointer.startswith(f"{own}/") for each in _all_places(made)):
            text = (
                f"it needs the answer of {step.name}: when that is not known, the run is stuck until an operator acts;"
                " {/run/id} is always known"
            )
            self._sources.notices.append(Notice(self._sources.tree.source(there), text))
        return made

    def _request(
        self, location: Location, given: FileStep | SagaUndo, upstream: str, earlier: set[str], failed: Ranges
    ) -> SagaRequest:
        config = self._upstreams.get(upstream)
        if upstream not in self._known and given.upstream is not None:
            self._sources.refuse_name((*location, "upstream"), upstream, self._known)
        for name in given.headers:
            if name.lower() in _OURS:
                self._report((*location, "headers", name), name, "fields that the gateway does not set itself")
        for key in ("path", "headers", "body"):
            self._templates(getattr(given, key), (*location, key), earlier)
        return SagaRequest(
            upstream,
            given.method,
            given.path,
            tuple(given.headers.items()),
            given.body,
            ranges(given.success),
            failed,
            given.timeout,
            honours_key=config is not None and config.honours_idempotency_key,
        )

    def _templates(self, template: Any, location: Location, earlier: set[str]) -> None:
        for found in mistakes(template, earlier, path=location[-1] == "path"):
            self._report((*location, *found.at), found.text, found.allowed, found.instead)

    def _validated(self, model: type[_Model], raw: object, location: Location) -> _Model | None:
        try:
            return model.model_validate(raw, strict=True)
        except ValidationError as error:
            for detail in error.errors():
                self._sources.report(model, detail, "workflows", location)
            return None

    def _report(
        self, location: Location, value: object, allowed: str, suggestion: str | None = None, *, quoted: bool = True
    ) -> None:
        text = shown(value) if quoted else str(value)
        self._sources.refuse(location, text, allowed, suggestion)


_UNTIL_IT_WORKS: Final = {
    "pivot": "from the pivot on, a step is sent until it works",
    "undo": "a compensation is sent until it works",
}


def _names(raw: Iterable[object]) -> Iterator[str]:
    """The names of these steps, also of those that something else is wrong with."""
    for each in raw:
        if isinstance(each, dict) and isinstance(each.get("name"), str):
            yield each["name"]


def _all_places(request: SagaRequest) -> Iterable[Found]:
    return places([request.path, [value for _, value in request.headers], request.body])
