"""Requests of steps, made of their templates; and whether an input has all that a workflow needs."""

import re
import unicodedata
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from gateway.saga.exact_json import write
from gateway.saga.templates import TemplateError, fill, fill_text, parts, places, resolve
from gateway.saga.workflow import SagaRequest, Workflow

_FIELD_VALUE: Final = re.compile(r"[\x20-\x7e]*")
# The encoder writes 254 levels: an input has 200 of them at most, and a template may put it below the others.
_LEVELS_OF_TEMPLATES: Final = 54


class Rendered(NamedTuple):
    """`target` is path and query, `lines` are complete header lines."""

    target: bytes
    lines: bytes
    body: bytes


def document_of(run_id: str, given: Any, results: dict[str, Any]) -> dict[str, Any]:
    """What the pointers of a run lead into."""
    return {"input": given, "results": results, "run": {"id": run_id}}


def rendered(request: SagaRequest, document: Any) -> Rendered:
    """Raises TemplateError for a value that is not there, or must not stand where it would."""
    path, mark, query = request.path.partition("?")
    target = fill_text(path, document, _segment)
    if mark:
        target += "?" + fill_text(query, document, lambda text: quote(text, safe=""))
    lines = "".join(f"{name}: {_value(text, document)}\r\n" for name, text in request.headers)
    body = b""
    if request.body is not None:
        body = json_of(request.body, document)
        if not any(name.lower() == "content-type" for name, _ in request.headers):
            lines += "Content-Type: application/json\r\n"
    return Rendered(target.encode("ascii"), lines.encode("ascii"), body)


def json_of(template: Any, document: Any) -> bytes:
    """The JSON text of a template. Raises TemplateError, also for what is nested deeper than can be written."""
    try:
        return write(fill(template, document))
    except TypeError as error:
        raise TemplateError("a value for JSON is nested too deeply") from error


def lacking(workflow: Workflow, given: Any) -> str | None:
    """What the input of a run lacks, in words that name the step and the place; None where it has everything that the
    steps, their compensations and the answer take from it."""
    if _too_deep(given):
        return "the input is nested deeper than 200 levels"
    document = {"input": given}
    for step in workflow.steps:
        for what, request in (("", step.request), ("compensate.", step.undo)):
            if request is not None and (wrong := _wrong(request, document)) is not None:
                return f"step {step.name}, {what}{wrong}"
    return _missing(workflow.answer, document, "answer")


def _wrong(request: SagaRequest, document: Any) -> str | None:
    path, _, query = request.path.partition("?")
    for found in places(path, "path"):
        try:
            if _is_input(found.pointer):
                fill_text(f"{{{found.pointer}}}", document, _segment)
        except TemplateError as error:
            return f"path: {error}"
    for name, text in request.headers:
        try:
            for found in places(text):
                if _is_input(found.pointer):
                    _value(f"{{{found.pointer}}}", document)
        except TemplateError as error:
            return f"headers.{name}: {error}"
    # A query is a text even where it is one place alone.
    return _missing(f"?{query}", document, "path") or _missing(request.body, document, "body")


def _missing(template: Any, document: Any, where: str) -> str | None:
    for found in places(template, where):
        try:
            if _is_input(found.pointer) and found.alone:
                resolve(document, found.pointer)
            elif _is_input(found.pointer):
                fill_text(f"{{{found.pointer}}}", document)
        except TemplateError as error:
            return f"{found.where}: {error}"
    return None


def _too_deep(given: Any) -> bool:
    for _ in range(_LEVELS_OF_TEMPLATES):
        given = [given]
    try:
        write(given)
    except TypeError:
        return True
    return False


def _is_input(pointer: str) -> bool:
    return parts(pointer)[0] == "input"


def _segment(text: str) -> str:
    """A value within a path. It must not lead the request to another path than the one that was written."""
    plain = unicodedata.normalize("NFKC", text)
    if not plain or plain.startswith(".") or any(each in plain for each in "/\\\0%"):
        raise TemplateError("a value for a path is empty, begins with a dot, or has a slash or a percent sign")
    return quote(text, safe="")


def _value(template: str, document: Any) -> str:
    text = fill_text(template, document)
    if _FIELD_VALUE.fullmatch(text) is None:
        raise TemplateError("a value for a header field has other characters than visible ASCII and blanks")
    return text
