"""Workflows: what the file says about them, and the limits of all of them."""

import re
from typing import Annotated, Any, Literal

from annotated_types import Interval, Len
from pydantic import AfterValidator, BeforeValidator, Field

from gateway.config.declaring import addresses
from gateway.config.declaring.field_types import FieldName
from gateway.config.declaring.section import Allowed, Bytes, Env, Hours, Meaning, Seconds, Section

Verb = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]

_STEP_ALLOWED = "up to 64 letters, digits, '_' or '-', beginning with a letter or digit"
_STEP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_PATH_ALLOWED = "a path that begins with '/', with templates such as {/input/id}; no blanks, no fragment"
_PATH = re.compile(r"/[\x21\x22\x24-\x7e]*", re.ASCII)
_STATUSES_ALLOWED = "statuses from 200 to 599, such as 201, 400-407 or 2xx"
_STATUSES = re.compile(r"([2-5][0-9]{2})(?:-([2-5][0-9]{2}))?|([2-5])xx", re.ASCII | re.IGNORECASE)
_UNDO_ALLOWED = "a mapping with method and path, or none"
_TEXT_ALLOWED = "text of visible ASCII characters and blanks, with templates such as {/input/id}"
_JSON_ALLOWED = "text, a number, true, false, a list or a mapping"
_TEXT = re.compile(r"[\x20-\x7e]*", re.ASCII)


def _step_name(text: str) -> str:
    return text if _STEP.fullmatch(text) else addresses.reject(_STEP_ALLOWED)


def _path(text: str) -> str:
    return text if _PATH.fullmatch(text) else addresses.reject(_PATH_ALLOWED)


def _header(text: str) -> str:
    return text if _TEXT.fullmatch(text) else addresses.reject(_TEXT_ALLOWED)


def _range(value: object) -> object:
    """One status or several as text, whatever it was written as."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    found = _STATUSES.fullmatch(text) if isinstance(text, str) else None
    if found is None or (found[2] and found[1] > found[2]):
        addresses.reject(_STATUSES_ALLOWED)
    return text


def _undo(value: object) -> object:
    """`none` says that there is nothing to undo; left out, nobody has thought about it."""
    if not isinstance(value, dict) and value != "none":
        addresses.reject(_UNDO_ALLOWED)
    return value


Statuses = Annotated[
    list[Annotated[str, BeforeValidator(_range), Allowed(_STATUSES_ALLOWED)]], Len(1, 50), Allowed(_STATUSES_ALLOWED)
]
Headers = dict[FieldName, Annotated[str, AfterValidator(_header), Allowed(_TEXT_ALLOWED)]]


class SagaRetry(Section):
    """When a step is tried again."""

    max_attempts: Annotated[
        int,
        Interval(ge=1, le=100),
        Meaning("Attempts, before it is taken for possible that it was done, and it is undone"),
    ] = 4
    base_delay: Annotated[
        Seconds, Interval(ge=0.05, le=3600), Meaning("Pause after the first attempt, twice as long each time")
    ] = 0.2
    max_delay: Annotated[Seconds, Interval(ge=0.05, le=86_400), Meaning("The longest pause")] = 30.0


class SagaUndo(Section):
    """What compensates a step."""

    upstream: Annotated[str | None, Meaning("Where the request goes", "that of the step")] = None
    method: Annotated[Verb, Meaning("Of the request")]
    path: Annotated[
        str,
        AfterValidator(_path),
        Allowed(_PATH_ALLOWED),
        Meaning("Path and query: a template, with the answer of the step itself, too"),
    ]
    headers: Annotated[Headers, Meaning("Fields of the request: templates", "none")] = Field(default_factory=dict)
    body: Annotated[Any, Allowed(_JSON_ALLOWED), Meaning("Its JSON: a template", "none")] = None
    success: Annotated[Statuses, Meaning("Answers by which it is undone; any other is tried again")] = Field(
        default_factory=lambda: ["2xx"]
    )
    timeout: Annotated[Seconds, Interval(ge=0.1, le=300), Meaning("Bounds one attempt")] = 15.0


class FileStep(Section):
    """One step of a workflow in the YAML file."""

    name: Annotated[
        str, AfterValidator(_step_name), Allowed(_STEP_ALLOWED), Meaning("Of the step, unique in the workflow")
    ]
    upstream: Annotated[str, Allowed("the name of an upstream"), Meaning("Where the request goes")]
    method: Annotated[Verb, Meaning("Of the request")] = "POST"
    path: Annotated[
        str,
        AfterValidator(_path),
        Allowed(_PATH_ALLOWED),
        Meaning("Path and query below the upstream's `base_path`: a template"),
    ]
    headers: Annotated[Headers, Meaning("Fields of the request: templates", "none")] = Field(default_factory=dict)
    body: Annotated[Any, Allowed(_JSON_ALLOWED), Meaning("Its JSON: a template", "none")] = None
    success: Annotated[Statuses, Meaning("Answers by which it is done")] = Field(default_factory=lambda: ["2xx"])
    failed: Annotated[Statuses, Meaning("Answers by which it is certain that it was not done, and will not be")] = (
        Field(default_factory=lambda: ["400-407", "410-424", "426-428", "430-499"])
    )
    timeout: Annotated[Seconds, Interval(ge=0.1, le=300), Meaning("Bounds one attempt")] = 15.0
    retry: SagaRetry = SagaRetry()
    compensate: Annotated[
        Any,
        BeforeValidator(_undo),
        Allowed(_UNDO_ALLOWED),
        Meaning("The request that undoes it, or `none`. A write before the pivot must say", "nothing"),
    ] = None
    pivot: Annotated[bool, Meaning("Behind it nothing is undone: it and what follows is tried until it works")] = False


class FileWorkflow(Section):
    """One workflow in the YAML file."""

    steps: Annotated[
        list[Any], Len(1, 50), Allowed("a list of 1 to 50 steps"), Meaning("What a run does, one after the other")
    ]
    deadline: Annotated[
        Seconds,
        Interval(ge=1, le=2_592_000),
        Meaning("A run that has not come to its pivot by then, or to its end, is compensated"),
    ] = 3600.0
    completion_deadline: Annotated[
        Seconds, Interval(ge=1, le=2_592_000), Meaning("How long a compensation is tried, and all from the pivot on")
    ] = 86_400.0
    answer: Annotated[
        Any,
        Allowed(_JSON_ALLOWED),
        Meaning("Told to a client that waits for a run that succeeds: a template", "nothing"),
    ] = None
    max_input_bytes: Annotated[Bytes, Interval(ge=2, le=1_048_576), Meaning("Largest input; beyond it 413")] = 65_536
    max_result_bytes: Annotated[
        Bytes,
        Interval(ge=0, le=1_048_576),
        Meaning("A larger answer of a step is not kept for the templates of others"),
    ] = 65_536


class Sagas(Section):
    """Sagas, for routes with `workflow`"""

    max_open: Annotated[
        int,
        Interval(ge=1, le=10_000_000),
        Env("SAGA_MAX_OPEN", "Runs that have not ended, stuck ones included; beyond it requests get 503"),
    ] = 10_000
    concurrency: Annotated[
        int, Interval(ge=1, le=10_000), Env("SAGA_CONCURRENCY", "Runs that each worker carries out at once")
    ] = 64
    retention: Annotated[
        Hours,
        Interval(ge=0.01, le=87_600),
        Env("SAGA_RETENTION_HOURS", "How long a run is kept after it has ended; stuck ones are kept until they end"),
    ] = 168.0


def ranges(statuses: list[str]) -> tuple[tuple[int, int], ...]:
    """As numbers."""
    found = []
    for text in statuses:
        match = _STATUSES.fullmatch(text)
        assert match is not None  # noqa: S101 - it was validated
        if match[3]:
            found.append((int(match[3]) * 100, int(match[3]) * 100 + 99))
        else:
            found.append((int(match[1]), int(match[2] or match[1])))
    return tuple(found)
