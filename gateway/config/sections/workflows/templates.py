"""What cannot be meant in the templates of a workflow: places that lead nowhere, and text that was to be a place.

    {/result/pay/id}               a root that there is not
    {/results/pya/id}              a step that there is not, or not before this one
    {{steps.pay.body.id}}          another tool's way to write it, and so with {input.id}, {{/input/id}}, { /input/id }
    {/input/id                     never closed
    {"{/input/id}": 1}             the name of a member, which is sent as it stands

Other braces are text: `{name}` may be for whoever gets it. In a path there are none.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any, Final, NamedTuple

from gateway.config.problems import nearest
from gateway.saga.templates import PLACE, ROOTS, Found, TemplateError, parts, places

_ALLOWED: Final = "a place is written {/input/…}, {/results/<step>/…} or {/run/id}"
# With what it is written in other tools.
_OTHERS: Final = {"steps": "results", "step": "results", "inputs": "input", "result": "results", "outputs": "results"}
_ROOTS: Final = ("input", "results", "run")
# What stands between a step and a member of its answer elsewhere.
_ANSWERS: Final = frozenset({"body", "result", "response", "output", "outputs", "json"})
# Doubled, with a blank or without the slash, and never closed. What begins with a quote is JSON in a text.
_ALMOST: Final = re.compile(
    r"\$?\{\{\s*/?[A-Za-z][^{}]*\}\}|\$?\{(?:\s+/)?\s*[A-Za-z][^{}]*\}|\{\s*/?[A-Za-z][^{}]*(?=\{|$)"
)
# Of difflib: `point` is not input, and `imput` is.
_NEAR: Final = 0.75
_WORD: Final = re.compile(r"[^\s.\[\]/${}]+")
_BRACE: Final = re.compile(r"[{}]")


class Mistake(NamedTuple):
    """`at` is where it is within the template. `instead` is what was probably meant."""

    at: tuple[str | int, ...]
    text: str
    allowed: str
    instead: str | None


def mistakes(template: Any, earlier: Collection[str], *, path: bool = False) -> Iterator[Mistake]:
    """All of them. `earlier` are the steps whose answers there are; `path`: the template is a path."""
    told = set()
    for found in places(template):
        wrong = _wrong(found, earlier)
        if wrong is not None:
            told.add(found.at)
            yield Mistake(found.at, f"{{{found.pointer}}}", wrong, _instead(found.pointer, earlier))
    yield from (each for each in _texts(template, (), earlier, path=path) if each.at not in told)


def _texts(template: Any, at: tuple[str | int, ...], earlier: Collection[str], *, path: bool) -> Iterator[Mistake]:
    if isinstance(template, str):
        yield from _almost(template, at, earlier, path=path)
    elif isinstance(template, dict):
        for key, value in template.items():
            if PLACE.search(str(key)):
                yield Mistake(
                    (*at, str(key)), str(key), "a place in a value: names of members are sent as they stand", None
                )
            yield from _texts(value, (*at, str(key)), earlier, path=path)
    elif isinstance(template, list):
        for index, value in enumerate(template):
            yield from _texts(value, (*at, index), earlier, path=path)


def _almost(text: str, at: tuple[str | int, ...], earlier: Collection[str], *, path: bool) -> Iterator[Mistake]:
    told = False
    for found in _ALMOST.finditer(text):
        if path or _root(found[0]) is not None:
            told = True
            yield Mistake(at, found[0], _ALLOWED, _instead(found[0], earlier))
    if path and not told and _BRACE.search(PLACE.sub("", text)):
        yield Mistake(at, text, _ALLOWED, None)


def _wrong(found: Found, earlier: Collection[str]) -> str | None:
    """What is allowed in place of a pointer that cannot lead anywhere; None for one that may."""
    try:
        root, *rest = parts(found.pointer)
    except TemplateError as error:
        return str(error)
    if root == "results":
        known = ", ".join(sorted(earlier)) or "none"
        return None if rest and rest[0] in earlier else f"/results/<step> of an earlier step: {known}"
    if root == "run":
        return None if rest == ["id"] else "/run/id"
    return None if root == "input" else " or ".join(ROOTS)


def _root(text: str) -> str | None:
    """The root that was probably meant; None where it is not likely that a place was."""
    words = _WORD.findall(text)
    return (_OTHERS.get(words[0].lower()) or nearest(words[0], _ROOTS, _NEAR)) if words else None


def _instead(text: str, earlier: Collection[str]) -> str | None:
    """The place that was probably meant, if there is one."""
    root, words = _root(text), _WORD.findall(text)
    if root == "run":
        return "{/run/id}"
    if root == "results":
        step = nearest(words[1], earlier) if words[1:] else None
        if step is None:
            return None
        elsewhere = words[0].lower() in {"steps", "step"} and words[2:] and words[2] in _ANSWERS
        words = [root, step, *words[3 if elsewhere else 2 :]]
    return None if root is None else f"{{/{'/'.join([root, *words[1:]])}}}"
