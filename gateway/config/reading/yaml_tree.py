"""YAML as plain values, with the line of every one of them.

The types are those of YAML 1.2's core schema: only `true` and `false` are booleans (not `yes`, `no`, `on`), `12:30` is
text, `010` is ten. Duplicate keys, keys that are not text, tags, and aliases of a node inside itself are problems.
Merge keys (`<<`) are not supported: what the file leaves out comes from the environment. `${NAME}` in a value is
replaced (`gateway.config.reading.references`); keys are taken as they are.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from gateway.config.problems import Problem, shown
from gateway.config.reading.references import Lookup, ReferenceProblem, expanded, named
from gateway.syntax.aliases import AliasesError, Repetitions

Location = tuple[int | str, ...]

_STR = "tag:yaml.org,2002:str"
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_BOOL = "tag:yaml.org,2002:bool"
_NULL = "tag:yaml.org,2002:null"


class _CoreLoader(yaml.SafeLoader):
    """Composes nodes with the core schema's tags; nothing is ever constructed from them."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own class attribute


_CoreLoader.add_implicit_resolver(_BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_CoreLoader.add_implicit_resolver(_INT, re.compile(r"[-+]?[0-9]+$"), list("-+0123456789"))
_CoreLoader.add_implicit_resolver(
    _FLOAT, re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), list("-+.0123456789")
)
_CoreLoader.add_implicit_resolver(_NULL, re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])


_RESOLVER = _CoreLoader("")


def unset(_name: str) -> str | None:
    """Nothing is set."""
    return None


def no_secret(_name: str) -> bool:
    """No variable is a secret: for reading a file whose references are not to be hidden."""
    return False


@dataclass(slots=True)
class Tree:
    """`root` is None for an empty document. `lines` knows every location that is in the file."""

    file: str
    root: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    lookup: Lookup = unset
    secret: Callable[[str], bool] = no_secret
    references: set[str] = field(default_factory=set)
    """The names that values refer to."""
    written: dict[Location, str] = field(default_factory=dict)
    """Values that refer to something, as they stand in the file."""
    broken: set[Location] = field(default_factory=set)
    """Values whose references could not be replaced; nothing more is said about them."""
    repetitions: Repetitions = field(default_factory=Repetitions)

    def source(self, location: Location) -> str:
        """`gateway.yaml:12 routes[2].upstream`; what is not in the file is at the line of what would hold it."""
        known = location
        while known and known not in self.lines:
            known = known[:-1]
        line = self.lines.get(known)
        place = self.file if line is None else f"{self.file}:{line}"
        return f"{place} {dotted(location)}" if location else place

    def holds(self, location: Location) -> bool:
        """Whether the file has something at this location."""
        return location in self.lines


def dotted(location: Location) -> str:
    """`("routes", 2, "upstream")` as `routes[2].upstream`."""
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return shown(text)[1:-1]


def parse(text: str, file: str, lookup: Lookup = unset, secret: Callable[[str], bool] = no_secret) -> Tree:
    """`lookup` says what `${NAME}` in a value means; a value must not refer to a name that is `secret`, because the
    file's values are shown."""
    tree = Tree(file, lookup=lookup, secret=secret)
    try:
        loader = _CoreLoader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        if node is not None:
            tree.lines[()] = node.start_mark.line + 1
            tree.root = _value(tree, node, (), ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}" if mark else file
        tree.problems.append(Problem(place, shown(error.problem or error.context), "valid YAML, one document"))
    except yaml.YAMLError as error:
        reason = getattr(error, "reason", None) or "unreadable"
        tree.problems.append(Problem(file, shown(reason), "valid YAML, one document"))
    except RecursionError:
        tree.problems.append(Problem(file, "nested too deep", "valid YAML, one document"))
    except AliasesError as error:
        tree.problems.append(Problem(file, str(error), "fewer of them"))
    return tree


def _value(tree: Tree, node: yaml.Node, location: Location, around: tuple[yaml.Node, ...]) -> Any:
    if node in around:
        tree.problems.append(Problem(tree.source(location), "an alias of what it is in", "no cycles"))
        return None
    inside = (*around, node)
    if isinstance(node, yaml.CollectionNode):
        tree.repetitions.met(node, len(node.value))
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        return _mapping(tree, node, location, inside)
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        items = []
        for index, item in enumerate(node.value):
            tree.lines[(*location, index)] = item.start_mark.line + 1
            items.append(_value(tree, item, (*location, index), inside))
        return items
    if isinstance(node, yaml.ScalarNode):
        if node.tag == _STR and "${" in node.value:
            node = _expanded(tree, node, location)
        match node.tag:
            case "tag:yaml.org,2002:str":
                return node.value
            case "tag:yaml.org,2002:int" if len(node.value) <= 20:
                return int(node.value)
            case "tag:yaml.org,2002:int" | "tag:yaml.org,2002:float":
                return float(node.value)
            case "tag:yaml.org,2002:bool":
                return node.value.lower() == "true"
            case "tag:yaml.org,2002:null":
                return None
    tree.problems.append(Problem(tree.source(location), f"the tag {shown(node.tag)}", "plain YAML without tags"))
    return None


def _expanded(tree: Tree, node: yaml.ScalarNode, location: Location) -> yaml.ScalarNode:
    """The value with its references replaced. The result may be a number or a boolean even if the value is quoted: in
    `{a: "${N}"}` the quotes are needed only because of the braces."""
    names = named(node.value)
    tree.references |= names
    tree.written[location] = node.value
    hidden = sorted(filter(tree.secret, names))
    text = node.value
    try:
        text = "" if hidden else expanded(text, tree.lookup)
    except ReferenceProblem as problem:
        tree.problems.append(Problem(tree.source(location), problem.what, problem.allowed))
        tree.broken.add(location)
    if hidden:
        what = f"${{{hidden[0]}}} is a secret"
        tree.problems.append(Problem(tree.source(location), what, "variables whose values may be shown"))
        tree.broken.add(location)
    tag = _plain_tag(text)
    return yaml.ScalarNode(tag, text, node.start_mark, node.end_mark, node.style)


def _plain_tag(text: str) -> str:
    tag: str = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]  # of PyYAML
    return tag


def _mapping(tree: Tree, node: yaml.MappingNode, location: Location, inside: tuple[yaml.Node, ...]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _STR:
            key = shown(key_node.value if isinstance(key_node, yaml.ScalarNode) else [])
            place = f"{tree.file}:{line} {dotted(location)}".rstrip()
            tree.problems.append(Problem(place, f"the key {key}", "keys that are text; put it in quotes"))
            continue
        name = key_node.value
        inner = (*location, name)
        if name in mapping:
            first = tree.lines[inner]
            place = f"{tree.file}:{line} {dotted(inner)}"
            tree.problems.append(Problem(place, "a second time", f"each key once (first on line {first})"))
            continue
        tree.lines[inner] = line
        mapping[name] = _value(tree, value_node, inner, inside)
    return mapping
