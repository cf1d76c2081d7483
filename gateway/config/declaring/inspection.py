"""What the declaration of a setting says: what it allows, in which unit, and what is wrong with a value."""

import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, GroupedMetadata, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gateway.config.declaring.section import Allowed, Env, Unit
from gateway.config.problems import MISSING, UNKNOWN, Problem, nearest, number, shown
from gateway.syntax import units


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable and the field it sets. `path` leads to the field from the root model."""

    env: Env
    path: tuple[str, ...]
    field: FieldInfo
    section: type[BaseModel]

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The smallest and the largest value that are allowed, None where there is no such range."""
        return _bounds(_flat(self.field.annotation, self.field.metadata)[1])

    @property
    def is_list(self) -> bool:
        """Whether the value is a list, which a variable writes with commas."""
        return get_origin(_flat(self.field.annotation, ())[0]) is list

    @property
    def allowed(self) -> str:
        """What is allowed, in words, as messages and tables say it."""
        text = allowed(self.field.annotation, self.field.metadata)
        return text.replace("a list", "a comma list", 1) if self.is_list else text

    @property
    def default_text(self) -> str:
        """The default as one would write it in the environment; empty when unset."""
        default = self.field.get_default(call_default_factory=True)
        if isinstance(default, list):
            return ",".join(_in_ranges(default))
        if isinstance(default, bool):
            return "true" if default else "false"
        return "" if default is None else f"{default:g}" if isinstance(default, float) else str(default)

    def without_separators(self, value: str) -> str | None:
        """What is meant by the first number that only Python takes for one (`5_050`), and pydantic with it; None where
        there is no such number."""
        if "_" not in value:
            return None
        kind = _flat(self.field.annotation, ())[0]
        items = value.split(",") if self.is_list else [value]
        if (_flat(get_args(kind)[0], ())[0] if self.is_list else kind) not in {int, float}:
            return None
        meant = [item.strip().replace("_", "") for item in items if "_" in item]
        return next((each for each in meant if units.number(each) is not None), None)


def variables(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[Variable]:
    """Every environment variable that `model` or a section in it declares, in order."""
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from variables(nested, (*path, name))
        for note in field.metadata:
            if isinstance(note, Env):
                yield Variable(note, (*path, name), field, model)


def allowed(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """What a field accepts, in words."""
    kind, notes = _flat(annotation, metadata)
    for note in notes:
        if isinstance(note, Allowed):
            return note.text
    if get_origin(kind) is list:
        item = get_args(kind)[0]
        return "a list" if item is Any else f"a list of {allowed(item)}"
    if get_origin(kind) is Literal:
        return " or ".join(str(option) for option in get_args(kind))
    if kind is bool:
        return "true or false"
    if kind in {int, float}:
        named = unit(kind, notes)
        bounds = _bounds(notes)
        span = f" from {number(bounds[0])} to {number(bounds[1])}" if bounds else ""
        return f"{'an integer' if kind is int else 'a number'}{span}{f', in {named}' if named else ''}"
    if get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return "a mapping"
    return "text"


def unit(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """The unit of the numbers that a field accepts; empty when it has none."""
    return next((note.name for note in _flat(annotation, metadata)[1] if isinstance(note, Unit)), "")


def problem(root: type[BaseModel], error: ErrorDetails, source: str, *, secret: bool = False) -> Problem:
    """Translate one pydantic error about a value at `error["loc"]` under `root`."""
    location = error["loc"]
    parent, kind, notes = _find(root, location)
    context = error.get("ctx", {})
    if error["type"] == "extra_forbidden":
        known = list(parent.model_fields) if parent else []
        return Problem(source, UNKNOWN, ", ".join(known), nearest(location[-1], known))
    if error["type"] == "missing":
        return Problem(source, MISSING, allowed(kind, notes))
    value = shown(error["input"], secret=secret)
    if error["type"] == "rejected":
        return Problem(source, value, context["allowed"], context["suggestion"])
    options = [str(option) for option in get_args(_flat(kind, ())[0])] if "literal" in error["type"] else []
    return Problem(source, value, allowed(kind, notes) + _examples(error["input"], notes), _meant(error, kind, options))


def _examples(value: object, notes: Iterable[Any]) -> str:
    """How an amount is written, for one that was written in another way."""
    named = unit(None, notes)
    if not isinstance(value, str) or not named or value.strip().lstrip("+-").replace(".", "", 1).isdigit():
        return ""
    parse, examples = (units.size, units.SIZE_EXAMPLES) if named == "bytes" else (units.duration, units.TIME_EXAMPLES)
    return "" if parse(value) is not None else f", {examples}"


def _meant(error: ErrorDetails, kind: Any, options: list[str]) -> str | None:
    """What was probably meant by a value of the wrong kind, such as a word for true or false, a number in quotes, or
    another case of an option."""
    value, bare = error["input"], _flat(kind, ())[0]
    if isinstance(value, str) and bare is bool:
        word = value.casefold()
        quoted = f"{word} without quotes" if word in {"true", "false"} else None
        return {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(word, quoted)
    if isinstance(value, str) and error["type"] in {"int_type", "float_type"}:
        return f"{value} without quotes" if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) else None
    return nearest(value, options)


def nest(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The flat variables in `values` as the nested input of `model`; lists are split at commas."""
    nested: dict[str, Any] = {}
    for variable in variables(model):
        if variable.env.name not in values:
            continue
        value = values[variable.env.name]
        if variable.is_list:
            value = [item.strip() for item in value.split(",") if item.strip()]
        inner = nested
        for step in variable.path[:-1]:
            inner = inner.setdefault(step, {})
        inner[variable.path[-1]] = value
    return nested


def _flat(annotation: Any, metadata: Iterable[Any]) -> tuple[Any, tuple[Any, ...]]:
    """The bare type inside `Annotated` and `| None`, and the notes that were found on the way to it."""
    notes = tuple(metadata)
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *inner = get_args(annotation)
            notes += tuple(inner)
        elif get_origin(annotation) in {Union, types.UnionType} and type(None) in get_args(annotation):
            annotation = next(option for option in get_args(annotation) if option is not type(None))
        else:
            return annotation, notes


def _in_ranges(items: list[Any]) -> Iterator[str]:
    """The items as text; four or more consecutive numbers as one range."""
    index = 0
    while index < len(items):
        end = index
        while isinstance(items[end], int) and end + 1 < len(items) and items[end + 1] == items[end] + 1:
            end += 1
        if end - index >= 3:
            yield f"{items[index]}-{items[end]}"
            index = end + 1
        else:
            yield str(items[index])
            index += 1


def _bounds(notes: Iterable[Any]) -> tuple[float, float] | None:
    lowest = highest = None
    for note in notes:
        for bound in note if isinstance(note, GroupedMetadata) else (note,):
            if isinstance(bound, Ge):
                lowest = bound.ge
            elif isinstance(bound, Le):
                highest = bound.le
    if lowest is None or highest is None:
        return None
    return lowest, highest  # type: ignore[return-value]  # annotated_types knows them only as comparable


def _find(
    root: type[BaseModel], location: tuple[int | str, ...]
) -> tuple[type[BaseModel] | None, Any, tuple[Any, ...]]:
    """The innermost model on the way to `location`, and the type and notes found there."""
    parent: type[BaseModel] | None = None
    kind: Any = root
    notes: tuple[Any, ...] = ()
    for step in location:
        kind, notes = _flat(kind, ())
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            parent = kind
            field = kind.model_fields.get(str(step))
            if field is None:
                return parent, None, ()
            kind, notes = field.annotation, tuple(field.metadata)
        elif get_origin(kind) is list:
            kind, notes = get_args(kind)[0], ()
    return parent, kind, notes
