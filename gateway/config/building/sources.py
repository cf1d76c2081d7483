"""What a configuration is made from, and what was found wrong with it on the way."""

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from gateway.config.building import near_misses
from gateway.config.building.place import Place
from gateway.config.building.variables import VARIABLES, Variables
from gateway.config.declaring.field_types import Name
from gateway.config.declaring.inspection import problem
from gateway.config.problems import UNKNOWN, Notice, Problem, nearest, shown
from gateway.config.reading.text_files import Texts
from gateway.config.reading.yaml_tree import Location, Tree
from gateway.config.settings import Settings

_NAME = TypeAdapter(Name)
_Entry = TypeVar("_Entry", bound=BaseModel)


@dataclass(slots=True)
class Sources:
    """One pass over settings and file. `problems` grows; the configuration counts only if it stays empty.

    `broken` are the variables whose value was refused already.
    """

    settings: Settings
    variables: Variables
    broken: frozenset[str]
    tree: Tree
    texts: Texts
    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    given_way: dict[str, tuple[object, str]] = field(default_factory=dict)
    """Defaults that gave way to another setting: what they are called, their new value, and what that setting is."""

    def place(self, *settings: str, location: Location = ()) -> Place:
        """The place of a section: `settings` leads to it in the settings, `location` in the file if it is there."""
        tree = self.tree if location else None
        return Place(self.variables, self.problems, settings, tree, location, self.broken, self.given_way)

    def report(self, model: type[BaseModel], detail: ErrorDetails, part: str, entry: tuple[Any, ...]) -> None:
        """One error about a value of the file, unless it was reported already."""
        location = (*entry, *detail["loc"])
        if location in self.tree.broken:
            return
        found = problem(model, detail, self.tree.source(location))
        if found.value == UNKNOWN:
            hint = near_misses.key(part, detail["loc"], found.allowed.split(", "), VARIABLES)
            found = dataclasses.replace(found, suggestion=hint)
        elif location in self.tree.written:
            found = dataclasses.replace(found, value=shown(self.tree.written[location]))
        self.problems.append(found)

    def refuse(self, location: Location, value: str, allowed: str, suggestion: str | None = None) -> None:
        """A value of the file, as it is shown, where only what is `allowed` would do."""
        self.problems.append(Problem(self.tree.source(location), value, allowed, suggestion))

    def refuse_name(self, location: Location, name: str, known: Collection[str]) -> None:
        """A name of the file that none of the `known` ones is."""
        allowed = ", ".join(known) or "no names yet: the file defines none"
        self.refuse(location, shown(name), allowed, nearest(name, known))

    def entries(
        self, model: type[_Entry], entries: Iterable[tuple[Any, object]], part: str, defaults: dict[str, Any]
    ) -> Iterable[tuple[Any, _Entry]]:
        """The entries that are valid; what is wrong with the others is reported."""
        for key, entry in entries:
            try:
                yield key, model.model_validate(overlaid(defaults, entry), strict=True)
            except ValidationError as error:
                for detail in error.errors():
                    self.report(model, detail, part, (part, key))

    def named(self, entries: dict[str, object], part: str) -> Iterable[tuple[str, object]]:
        """The entries with their names, in order; a name that is not allowed is reported."""
        for name, entry in entries.items():
            try:
                _NAME.validate_python(name)
            except ValidationError as error:
                detail = error.errors()[0]
                self.refuse((part, name), shown(name), detail["ctx"]["allowed"])
            yield name, entry


def overlaid(defaults: dict[str, Any], entry: object) -> object:
    """`entry`, with `defaults` for whatever it leaves out. A part that does not have the right shape is left to the
    schema."""
    if not isinstance(entry, dict):
        return entry
    result = defaults | entry
    for key, value in entry.items():
        if isinstance(value, dict) and isinstance(defaults.get(key), dict):
            result[key] = overlaid(defaults[key], value)
    return result
