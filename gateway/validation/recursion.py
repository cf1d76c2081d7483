"""Which schemas may take a time that grows exponentially with the depth of a value.

A schema that refers to itself is followed once for each level of the value, where it does so at one place. Where it
does so at two, each level may double the work, and 64 levels are more than anybody can wait for:

    {"$defs": {"e": {"anyOf": [{"properties": {"of": {"$ref": "#/$defs/e"}}},
                               {"properties": {"of": {"$ref": "#/$defs/e"}, "not": …}}]}}}

So a schema is costly when, among references that lead in a circle, there are more references than places that they
lead to; or when there is a circle at all and `unevaluatedProperties` or `unevaluatedItems`, which look at a value
again. That calls some schemas costly which are not, such as a tree with `left` and `right`.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import unquote, urldefrag, urljoin

_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_AGAIN: Final = ("unevaluatedProperties", "unevaluatedItems")
# What is no schema, whatever it looks like.
_DATA: Final = frozenset({"const", "enum", "default", "example", "examples"})
# Their members have names of the author's, and are schemas.
_NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies"})
_MOST_PLACES: Final = 10_000

Retrieve = Callable[[str], Any]


def costly(document: Any, uri: str, retrieve: Retrieve) -> bool:
    """Whether `document`, the schema at `uri`, is costly. `retrieve` gives documents by their URIs, or raises
    LookupError. What cannot be followed counts as costly."""
    edges: dict[str, list[str]] = {}
    again = False
    waiting: list[tuple[str, str, Any]] = [(uri, uri, document)]
    while waiting:
        place, base, schema = waiting.pop()
        if place in edges:
            continue
        if len(edges) >= _MOST_PLACES:
            return True
        edges[place] = found = []
        for keyword, target in _references(schema):
            if keyword in _AGAIN:
                again = True
                continue
            if keyword != "$ref":  # where it leads is decided while a value is compared, or another base is set
                return True
            where = urljoin(base, target)
            resolved = _resolved(where, document if urldefrag(where)[0] == uri else None, retrieve)
            if resolved is None:
                return True
            found.append(where)
            waiting.append((where, urldefrag(where)[0], resolved[0]))
    return any(count > len(circle) or again for circle, count in _circles(edges))


def _references(schema: Any) -> Iterator[tuple[str, str]]:
    """The references in a schema, with their keywords, and the keywords of `_AGAIN`."""
    to_visit = [schema]
    while to_visit:
        each = to_visit.pop()
        if isinstance(each, list):
            to_visit += each
        elif isinstance(each, dict):
            for name, inner in each.items():
                if isinstance(inner, str):
                    if name in _REFERENCES or (name == "$id" and each is not schema):
                        yield name, inner
                elif name in _NAMED and isinstance(inner, dict):
                    to_visit += inner.values()
                elif name not in _DATA and name not in {"$defs", "definitions"}:  # reached by references alone
                    if name in _AGAIN:
                        yield name, ""
                    to_visit.append(inner)


def _resolved(where: str, document: Any, retrieve: Retrieve) -> tuple[Any] | None:
    """What is there, None where that cannot be told from the pointer alone (an anchor, an embedded `$id`)."""
    uri, fragment = urldefrag(where)
    try:
        value = document if document is not None else retrieve(uri)
        for step in unquote(fragment).split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            value = value[int(name) if isinstance(value, list) else name]
    except (LookupError, ValueError, TypeError):
        return None
    return None if fragment and not fragment.startswith("/") else (value,)


def _circles(edges: dict[str, list[str]]) -> Iterator[tuple[set[str], int]]:
    """The groups of places that lead to each other, and how many references there are within each."""
    reached: dict[str, set[str]] = {}
    for place in edges:
        seen: set[str] = set()
        to_visit = [place]
        while to_visit:
            for target in edges.get(to_visit.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    to_visit.append(target)
        reached[place] = seen
    done: set[str] = set()
    for place, seen in reached.items():
        if place in seen and place not in done:
            circle = {other for other in seen if place in reached.get(other, ())}
            done |= circle
            yield circle, sum(target in circle for other in circle for target in edges[other])
