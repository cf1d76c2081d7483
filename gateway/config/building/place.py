"""Where a setting was given, and what it is called there: for what is reported about it."""

from dataclasses import dataclass, field

from gateway.config.building.variables import NAMES, VARIABLES, Variables
from gateway.config.declaring.inspection import unit
from gateway.config.problems import Problem, shown
from gateway.config.reading.yaml_tree import Location, Tree, dotted

Steps = tuple[str, ...]

_UNITS = {each.path: unit(each.field.annotation, each.field.metadata) for each in VARIABLES.values()}


@dataclass(frozen=True, slots=True)
class Place:
    """Says where a value came from, and reports on it by the name it was given there.

    `settings` leads to a section of the settings, `location` to its counterpart in the file, if there is one; paths
    are relative to both.
    """

    variables: Variables
    problems: list[Problem]
    settings: Steps = ()
    tree: Tree | None = None
    location: Location = ()
    broken: frozenset[str] = field(default_factory=frozenset)
    """Variables whose value was refused already; nothing more is said about them."""
    given_way: dict[str, tuple[object, str]] = field(default_factory=dict)
    """Defaults that gave way, by what the setting is called: their new value, and to what."""

    def _in_file(self, path: Steps) -> bool:
        return self.tree is not None and self.tree.holds((*self.location, *path))

    def variable(self, path: Steps) -> str:
        """The name of the environment variable of a setting."""
        return NAMES[(*self.settings, *path)]

    def name(self, path: Steps) -> str:
        """What the user calls the setting: its path in the file where it is set there, else its variable."""
        return dotted((*self.location, *path)) if self._in_file(path) else self.variable(path)

    def given(self, path: Steps) -> bool:
        """Whether the setting was set at all, in the file or by a variable."""
        return self._in_file(path) or self.variable(path) in self.variables.given

    def source(self, path: Steps) -> str:
        """Where the setting was set, as a message begins: `file:line path` or `environment NAME`."""
        if self.tree is not None and self._in_file(path):
            return self.tree.source((*self.location, *path))
        return self.variables.source(self.variable(path))

    def report(self, path: Steps, value: object, allowed: str, suggestion: str | None = None) -> None:
        """Add a problem: this value of the setting is refused, and `allowed` says in words what is not. Nothing is
        added for a variable whose value was refused before."""
        if self.refused(path):
            return
        in_file = self._in_file(path)
        given = None if in_file else self.variables.given.get(self.variable(path))
        secret = not in_file and VARIABLES[self.variable(path)].env.secret
        text = shown(given.written if given else value, secret=secret)
        self.problems.append(Problem(self.source(path), text, allowed, suggestion))

    def gave_way(self, path: Steps, value: object, other: Steps) -> None:
        """Note that the default of a setting became `value` because of the setting `other`."""
        name = self.variable(path) if self.tree is None else dotted((*self.location, *path))
        self.given_way[name] = (value, self.name(other))

    def refused(self, path: Steps) -> bool:
        """Whether the setting comes from a variable whose value was refused already."""
        return not self._in_file(path) and self.variable(path) in self.broken

    def unit(self, path: Steps) -> str:
        """The unit of a setting with a space before it, or nothing, to be put behind a number."""
        named = _UNITS[(*self.settings, *path)]
        return f" {named}" if named else ""
