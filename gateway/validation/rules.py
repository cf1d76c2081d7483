"""What one route wants of its requests: an operation for each of them, with what its parameters and its body must be.

    Rules.find(method, path) -> Operation   this is what the request has to satisfy
                             -> Unknown     the API has no such operation

A route with a JSON Schema has the same operation for all requests. One with an OpenAPI document has many
(`gateway.validation.openapi`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from gateway.validation.content import Content, is_json
from gateway.validation.documents import Documents, Read
from gateway.validation.faults import Fault
from gateway.validation.json_body import parse
from gateway.validation.recursion import costly
from gateway.validation.schemas import Schema

ANY_JSON: Final = "application/json or any +json type"
# RFC 9110 section 9.3: the methods whose body is what they are about.
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "QUERY"})


Source = tuple[str, str, Mapping[str, str]]
"""The kind of rules, their file, and the texts that were read by their names."""


class Unknown(NamedTuple):
    """The API has no such operation. `allow` are the methods of the path; none where the path itself is unknown."""

    allow: tuple[str, ...] = ()


class BodyCheck(Protocol):
    """What a body of one media type must be. `costly`: even a small one may take long to judge
    (`gateway.validation.recursion`)."""

    costly: bool

    def faults(self, raw: bytes) -> list[Fault]:
        """What is wrong with the body. Raises `Malformed` where it is not of its media type."""

    def faults_at_once(self, raw: bytes) -> list[Fault] | None:
        """As `faults`; None says that the body is invalid, and that to tell in which way may take long."""


class JsonCheck:
    """JSON that a schema takes."""

    __slots__ = ("_schema", "costly")

    def __init__(self, schema: Schema, *, costly: bool) -> None:
        self._schema = schema
        self.costly = costly

    def faults(self, raw: bytes) -> list[Fault]:
        """See `BodyCheck`."""
        return self._schema.faults(parse(raw), _size_of(raw))

    def faults_at_once(self, raw: bytes) -> list[Fault] | None:
        """See `BodyCheck`. HOT."""
        value = parse(raw)
        # Most bodies are valid, and their size need not be known.
        return [] if self._schema.takes(value) else self._schema.faults_at_once(value, _size_of(raw))


def _size_of(raw: bytes) -> int:
    """About how many values a JSON text has."""
    return raw.count(b",") + raw.count(b":") + raw.count(b"[")


class Body:
    """The body of an operation. `checks` by media type; None is for one that is passed on unseen. `words` name the
    media types."""

    __slots__ = ("_checks", "_json", "required", "words")

    def __init__(
        self, checks: Mapping[str, BodyCheck | None], words: str, *, required: bool, json: BodyCheck | None = None
    ) -> None:
        """`json` is for JSON types that `checks` does not name."""
        self._checks = dict(checks)
        self._json = json
        self.words = words
        self.required = required

    def takes(self, content: Content) -> bool:
        """Whether a body of this media type may come."""
        return self._key(content.media) is not None or (self._json is not None and is_json(content.media))

    def check(self, content: Content) -> BodyCheck | None:
        """What a body of a media type that is taken must be, None for anything. HOT."""
        key = self._key(content.media)
        return self._checks[key] if key is not None else self._json

    def _key(self, media: str) -> str | None:
        checks = self._checks
        if media in checks:
            return media
        main = f"{media.partition('/')[0]}/*"
        return main if main in checks else "*/*" if "*/*" in checks else None


class Operation:
    """One operation of the API. `name` is for log lines. `body` None: it describes none. `headers`: some of its
    parameters are header fields."""

    __slots__ = ("body", "headers", "name")

    def __init__(self, name: str, body: Body | None, *, headers: bool = False) -> None:
        self.name = name
        self.headers = headers
        self.body = body

    def parameter_faults(self, values: Any, query: bytes, lines: bytes) -> list[Fault]:
        """What is wrong with the parameters; `values` are those of the path, as `Rules.find` has found them. `lines`
        matter where there are `headers`."""
        return []


class Rules(Protocol):
    """Everything that a route wants. `file` is where it is written; `digest` changes with what is written there;
    `source` are the arguments of `rules_of` that make the same rules in another process."""

    file: str
    digest: str
    source: Source

    @property
    def notices(self) -> Sequence[str]:
        """What of the file is not validated, in words."""

    @property
    def operations(self) -> int:
        """How many operations the file describes; 0 where it is about bodies alone."""

    def find(self, method: str, path: bytes) -> tuple[Operation, Any] | Unknown:
        """The operation of a request, with the values that the path has for its parameters. `path` is the request
        target without the query, and without what the route takes off. HOT."""

    def describe(self) -> str:
        """What it is, for people."""


class SchemaRules:
    """One JSON Schema for the bodies of all requests. POST, PUT, PATCH and QUERY must have one."""

    __slots__ = ("_optional", "_required", "digest", "file", "source")

    notices: ClassVar[Sequence[str]] = ()
    operations: ClassVar[int] = 0

    def __init__(self, file: str, read: Read) -> None:
        """Reads it. Raises `SchemaError`."""
        documents = Documents(Path(file), read)
        schema = Schema(documents.root, documents.uri, documents.retrieve)
        check = JsonCheck(schema, costly=costly(documents.root, documents.uri, documents.retrieve))
        self.file = file
        self.digest = documents.digest
        self.source: Source = ("schema", file, documents.texts)
        self._required = Operation("body", Body({}, ANY_JSON, required=True, json=check)), None
        self._optional = Operation("body", Body({}, ANY_JSON, required=False, json=check)), None

    def find(self, method: str, path: bytes) -> tuple[Operation, Any] | Unknown:
        """See `Rules`. HOT."""
        return self._required if method in _WITH_BODY else self._optional

    def describe(self) -> str:
        """See `Rules`."""
        return f"JSON Schema {self.file}"

    def __str__(self) -> str:
        """So that a changed file is a changed setting."""
        return self.digest
