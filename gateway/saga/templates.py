"""Templates: text and JSON with places in them that are filled from the input of a run and from earlier answers.

    "/orders/{/input/order/id}"        text around a JSON Pointer (RFC 6901)
    {"id": "{/results/pay/id}"}        a text that is one pointer alone has its value, of whatever type

A pointer begins with one of `ROOTS`. `/input` is the JSON that has started the run, `/results/<step>` the JSON that an
earlier step has answered with, `/run/id` the id of the run. There are no expressions, so a template cannot do anything.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from gateway.saga.exact_json import Number

ROOTS: Final = ("/input", "/results/<step>", "/run/id")
PLACE: Final = re.compile(r"\{(/[^{}]*)\}")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
# A `~` that begins neither of the two escapes of RFC 6901.
_BAD_ESCAPE: Final = re.compile(r"~(?![01])")


class TemplateError(ValueError):
    """A template cannot be filled. `str()` says why, without the value that is in the way."""


class Found(NamedTuple):
    """A place in a template: its pointer, and the names and indexes that lead to it. `alone`: the text is nothing else,
    and has the value of any type."""

    pointer: str
    at: tuple[str | int, ...]
    alone: bool

    @property
    def where(self) -> str:
        """Where it is, for people, such as `body.items[0]`."""
        parts = (f"[{each}]" if isinstance(each, int) else f".{each}" for each in self.at)
        return "".join(parts).removeprefix(".")


def parts(pointer: str) -> list[str]:
    """The reference tokens of a pointer. Raises TemplateError for one that is none."""
    if _BAD_ESCAPE.search(pointer):
        raise TemplateError(f"{pointer} is no JSON Pointer: ~ is written ~0")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def resolve(document: Any, pointer: str) -> Any:
    """The value that a pointer leads to. Raises TemplateError where there is none."""
    value = document
    for part in parts(pointer):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and _INDEX.fullmatch(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            raise TemplateError(f"{pointer} points nowhere")
    return value


def places(template: Any, *at: str | int) -> Iterator[Found]:
    """Every place in a template of text or JSON, which is `at` these names and indexes itself."""
    if isinstance(template, str):
        for found in PLACE.finditer(template):
            yield Found(found[1], at, alone=found[0] == template)
    elif isinstance(template, dict):
        for key, value in template.items():
            yield from places(value, *at, str(key))
    elif isinstance(template, list | tuple):
        for index, value in enumerate(template):
            yield from places(value, *at, index)


def fill(template: Any, document: Any) -> Any:
    """The JSON value of a template. Raises TemplateError."""
    if isinstance(template, str):
        alone = PLACE.fullmatch(template)
        return resolve(document, alone[1]) if alone else fill_text(template, document)
    if isinstance(template, dict):
        return {key: fill(value, document) for key, value in template.items()}
    if isinstance(template, list):
        return [fill(value, document) for value in template]
    return template


def fill_text(template: str, document: Any, escape: Callable[[str], str] = str) -> str:
    """The text of a template, each value of it changed by `escape`. Raises TemplateError."""
    return PLACE.sub(lambda found: escape(_text(resolve(document, found[1]), found[1])), template)


def _text(value: Any, pointer: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Number):
        return value.text
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise TemplateError(f"{pointer} is neither text nor a number")
