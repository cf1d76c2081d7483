"""The rules of one OpenAPI document: an operation for each path and method that it describes.

A path is compared as it is behind what the route takes off, and also without the path of one of the `servers`, those of
single paths and operations included, because documents differ in whether their paths begin where the upstream's do.
HEAD is described by GET, and OPTIONS passes where nobody describes it: it asks what there is.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.validation.documents import Documents, Read
from gateway.validation.faults import Fault, Malformed
from gateway.validation.openapi.bodies import body_of
from gateway.validation.openapi.dialect import as_2020
from gateway.validation.openapi.node import Node
from gateway.validation.openapi.parameters import BRACKETS, Parameter, Values, pairs_of, why_not
from gateway.validation.openapi.paths import Paths
from gateway.validation.recursion import costly
from gateway.validation.rules import Body, Operation, Source, Unknown
from gateway.validation.schemas import Schema, SchemaError, SchemaSet

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_ANYTHING: Final = Operation("OPTIONS", None)
# What some upstreams make of a path before they look for its operation: WSGI and ASGI decode a slash, servlet
# containers take path parameters off.
_SPELLINGS: Final = (
    (re.compile(rb"%2f", re.IGNORECASE), b"/"),
    (re.compile(rb"(?:;|%3b)[^/]*", re.IGNORECASE), b""),
)


class ApiOperation(Operation):
    """An operation with parameters."""

    __slots__ = ("_named", "_parameters", "_query")

    def __init__(self, name: str, body: Body | None, parameters: list[Parameter]) -> None:
        super().__init__(name, body, headers=any(each.place in {"header", "cookie"} for each in parameters))
        self._parameters = parameters
        self._query = any(each.place == "query" for each in parameters)
        self._named = {name: each.name for each in parameters for name in each.names}

    def parameter_faults(self, values: Any, query: bytes, lines: bytes) -> list[Fault]:
        """See `Operation`."""
        if not self._parameters:
            return []
        try:
            pairs = pairs_of(query) if self._query else {}
        except Malformed as error:
            return [Fault(f"the query {error}", place="query", name="")]
        faults = [fault for each in self._parameters for fault in each.faults(values, pairs, lines)]
        return faults + self._with_brackets(pairs) if self._named else faults

    def _with_brackets(self, pairs: Values) -> list[Fault]:
        """Parameters of the query whose names go on with brackets, unless the API describes just that."""
        named = self._named
        starts = {name.partition("[")[0] for name in pairs if "[" in name and name not in named}
        wrong = dict.fromkeys(named[each] for each in starts if each in named)
        return [Fault(BRACKETS, place="query", name=each) for each in wrong]


class OpenApiRules:
    """The rules of a file. `notices` say in words what of it is not validated."""

    def __init__(self, file: str, read: Read) -> None:
        """Reads and compiles it. Raises `SchemaError`."""
        documents = Documents(Path(file), read)
        self.file = file
        self._notices: dict[str, list[str]] = {}
        old = _is_old(documents.root)
        self._documents = documents
        documents.change(lambda document, uri: as_2020(document, partial(_value_at, documents, uri), old=old))
        self._schemas = SchemaSet(documents.all(), documents.retrieve)
        self._compiled: dict[str, tuple[Schema, bool]] = {}
        self._paths = Paths()
        root = Node(documents, documents.uri, (), documents.root)
        self._bases = sorted(set(_all_bases(root)), key=len, reverse=True)
        self.operations = 0
        for template, item in root.get("paths").members():
            self._add(template, item)
        if not self.operations:
            raise SchemaError("#/paths", "it has no operation")
        self.digest = documents.digest
        self.source: Source = ("openapi", file, documents.texts)

    @property
    def notices(self) -> list[str]:
        """Each kind once, with how often and where first."""
        return [
            f"{text} ({len(places)} {'place' if len(places) == 1 else 'places'}, the first is {places[0]})"
            for text, places in self._notices.items()
        ]

    def find(self, method: str, path: bytes) -> tuple[Operation, Any] | Unknown:
        """See `Rules`. HOT."""
        found = self._found(path)
        if found is None:
            return Unknown()
        for pattern, instead in _SPELLINGS if b"%" in path or b";" in path else ():
            if pattern.search(path) is not None:
                other = self._found(pattern.sub(instead, path))
                if other is not None and other[0] is not found[0]:
                    # Which of the two the upstream takes it for nobody knows.
                    return Unknown()
        operations, values = found
        operation = operations.get(method) or (operations.get("GET") if method == "HEAD" else None)
        if operation is not None:
            return operation, values
        return (_ANYTHING, None) if method == "OPTIONS" else Unknown(tuple(operations))

    def _found(self, path: bytes) -> tuple[Any, dict[str, str]] | None:
        found = self._paths.find(path)
        if found is None:
            for base in self._bases:
                if path.startswith(base):
                    found = self._paths.find(path[len(base) - 1 :])
                    if found is not None:
                        break
        return found

    def describe(self) -> str:
        """See `Rules`."""
        return f"OpenAPI {self.file} ({self.operations} operations)"

    def __str__(self) -> str:
        """So that a changed file is a changed setting."""
        return self.digest

    def _add(self, template: str, item: Node) -> None:
        if not template.startswith("/"):
            raise item.error("a path begins with a slash")
        common = list(item.plain("parameters").items())
        operations = {}
        for method in METHODS:
            node = item.get(method)
            if node.value is not None:
                operations[method.upper()] = self._operation(f"{method.upper()} {template}", node, common)
        self.operations += len(operations)
        if operations and not self._paths.add(template, operations):
            raise item.error("another path is the same but for the names of its parameters")

    def _operation(self, name: str, node: Node, common: list[Node]) -> ApiOperation:
        own = list(node.plain("parameters").items())
        described = {(each.text("in"), each.text("name")): each for each in (*common, *own)}
        parameters = []
        for (place, _), each in described.items():
            why = why_not(each)
            parameter = None if why else Parameter(each, place, self._compile)
            if parameter is None:
                self._notice(why, each)
            elif parameter.costly:
                # The event loop would stand still meanwhile, and only bodies are judged elsewhere.
                self._notice("parameters whose schemas may take exponential time are not validated", each)
            else:
                parameters.append(parameter)
        return ApiOperation(name, body_of(node.get("requestBody"), self._compile, self._notice), parameters)

    def _compile(self, node: Node) -> tuple[Schema, bool]:
        """The schema at a place, and whether it is costly."""
        if node.value is None:
            node.value = True
        where = node.where
        compiled = self._compiled.get(where)
        if compiled is None:
            try:
                schema = self._schemas.at(where, node.value)
            except SchemaError as error:
                raise SchemaError(node.pointer, str(error)) from None
            reference = {"$ref": where}
            compiled = schema, costly(reference, "file:///operation", self._documents.retrieve)
            self._compiled[where] = compiled
        return compiled

    def _notice(self, text: str, node: Node) -> None:
        self._notices.setdefault(text, []).append(node.pointer)


def _is_old(root: Any) -> bool:
    version = root.get("openapi") if isinstance(root, dict) else None
    if isinstance(version, str) and version.startswith(("3.0.", "3.1.")):
        return version.startswith("3.0.")
    raise SchemaError("#/openapi", "it must be an OpenAPI document of version 3.0 or 3.1")


def _value_at(documents: Documents, uri: str, reference: str) -> Any:
    try:
        return Node(documents, uri, (), None).at(reference).value
    except SchemaError:
        return None


def _all_bases(root: Node) -> Iterator[bytes]:
    yield from _bases(root)
    for _, item in root.get("paths").members():
        yield from _bases(item)
        for method in METHODS:
            yield from _bases(item.get(method))


def _bases(node: Node) -> Iterator[bytes]:
    """The paths of the servers that a place names, with a slash at the end, but for those that are none."""
    for server in node.plain("servers").items():
        url = server.text("url")
        for name, variable in server.get("variables").members():
            url = url.replace("{" + name + "}", variable.text("default"))
        path = urlsplit(url).path.rstrip("/")
        if path.startswith("/"):
            yield f"{path}/".encode()
