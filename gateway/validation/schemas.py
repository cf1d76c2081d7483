"""The port to jsonschema-rs, the library that compares values with schemas: nothing else of the gateway knows it.

It is chosen for its speed (a value of 1 KB takes about 2 µs, where jsonschema takes some hundred) and for its regular
expressions: with `RegexOptions` patterns are matched in linear time, whatever a client sends (the engine is of the kind
of RE2: no backtracking, hence no look-around and no back-references). It comes with the extra `[validation]`.

The library holds the interpreter while it works, so a comparison can be neither interrupted nor overtaken by the event
loop. What may take long is for a process of its own (`gateway.validation.apart`).
"""

import importlib.util
import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from gateway.validation.faults import MOST_FAULTS, Fault, pointer

INSTALL: Final = "pip install 'resilient-api-gateway[validation]'"
"""What to do where `available` says no."""

DIALECTS: Final = {
    "https://json-schema.org/draft/2020-12/schema": "2020-12",
    "https://json-schema.org/draft/2019-09/schema": "2019-09",
    "http://json-schema.org/draft-07/schema": "draft 7",
    "http://json-schema.org/draft-06/schema": "draft 6",
    "http://json-schema.org/draft-04/schema": "draft 4",
}
"""The dialects by what `$schema` says, without the `#` at its end."""

Retrieve = Callable[[str], Any]
"""The document at a URI. Raises LookupError with the reason where there is none."""

# To list every fault of a large value takes the library time that grows faster than the value; the first one does not.
_LISTED_VALUES: Final = 200
# What the library is to say in place of a value. It is quicker than writing the value, too.
_MASK: Final = "a value"
# Of a `SchemaSet`, where every file that may be referred to was read before.
_POPULATED: Final = (
    "and retrieving it failed: Retrieving external resources is not supported once the registry is populated"
)
_LONGEST_TEXT: Final = 120


class SchemaError(ValueError):
    """A schema cannot be used. `where` is a pointer into it."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(what)
        self.where = where


def available() -> bool:
    """Whether the library is installed."""
    return importlib.util.find_spec("jsonschema_rs") is not None


class Schema:
    """A compiled schema."""

    __slots__ = ("_validator", "_wrong", "takes")

    def __init__(
        self, document: Any, base_uri: str, retrieve: Retrieve, *, formats: bool | None = None, registry: Any = None
    ) -> None:
        """`document` is the schema, `base_uri` what its references are relative to, `retrieve` gives what they lead to.
        `formats` says whether `format` is asserted, None for what the dialect says. `registry` has documents that were
        retrieved already (`SchemaSet`). Raises `SchemaError`."""
        if not isinstance(document, dict | bool):
            raise SchemaError("#", "a schema is an object, true or false")
        dialect = document.get("$schema") if isinstance(document, dict) else None
        if dialect is not None and (not isinstance(dialect, str) or dialect.removesuffix("#") not in DIALECTS):
            raise SchemaError("#/$schema", f"the dialect is not known; known are {', '.join(DIALECTS.values())}")
        import jsonschema_rs  # noqa: PLC0415 - some megabytes, which a gateway without validation does not load

        self._wrong = jsonschema_rs.ValidationError
        try:
            self._validator = jsonschema_rs.validator_for(
                document,
                base_uri=base_uri,
                retriever=retrieve,
                registry=registry,
                validate_formats=formats,
                pattern_options=jsonschema_rs.RegexOptions(),
                mask=_MASK,
            )
        except jsonschema_rs.ValidationError as error:
            raise SchemaError(pointer(error.instance_path), _first_line(error)) from None
        except (ValueError, jsonschema_rs.ReferencingError) as unusable:
            raise SchemaError("#", _first_line(unusable)) from None
        self.takes: Callable[[Any], bool] = self._validator.is_valid
        """Whether a value is valid. HOT."""

    def faults(self, value: Any, size: int) -> list[Fault]:
        """What is wrong with the value; nothing if it is valid. `size` is about how many values it is made of: of many
        only the first fault is told."""
        found = self.faults_at_once(value, size)
        if found is not None:
            return found
        try:
            self._validator.validate(value)
        except self._wrong as error:
            return _faults_of(error)
        return []

    def faults_at_once(self, value: Any, size: int) -> list[Fault] | None:
        """As `faults`; None says that the value is invalid, and that to tell in which way may take long: the library
        makes an error of every value that an alternative (`anyOf`, `oneOf`) does not take. HOT."""
        if self.takes(value):
            return []
        if size > _LISTED_VALUES:
            return None
        found: list[Fault] = []
        for each in self._validator.iter_errors(value):
            found += _faults_of(each)
            if len(found) >= MOST_FAULTS:
                break
        # Dependencies between members can be reported once for each of them.
        return list(dict.fromkeys(found))[:MOST_FAULTS]


class SchemaSet:
    """Documents with many schemas of 2020-12, by their URIs. `format` is asserted."""

    def __init__(self, documents: Iterable[tuple[str, Any]], retrieve: Retrieve) -> None:
        """Raises `SchemaError`."""
        import jsonschema_rs  # noqa: PLC0415 - see `Schema`

        self._retrieve = retrieve
        try:
            self._registry = jsonschema_rs.Registry(
                list(documents), draft=jsonschema_rs.Draft202012, retriever=retrieve
            )
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise SchemaError("#", _first_line(error)) from None

    def at(self, where: str, value: Any) -> Schema:
        """The schema `value`, which stands at the URI `where`. Raises `SchemaError`."""
        import jsonschema_rs  # noqa: PLC0415 - see `Schema`

        try:
            jsonschema_rs.meta.validate(value)
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise SchemaError("#", _first_line(error)) from None
        return Schema({"$ref": where}, where, self._retrieve, formats=True, registry=self._registry)


def _first_line(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    if text.startswith(f"{_MASK} "):
        # It is a part of the schema, and no value of a request.
        text = json.dumps(getattr(error, "instance", None))[:_LONGEST_TEXT] + text.removeprefix(_MASK)
    if text.endswith('is not a "regex"'):
        text += ", or needs look-around or back-references, which no engine matches in linear time"
    text = text.replace(_POPULATED, "because only files below the directory of the document may be referred to")
    # The library says what it was told, with the class of the error in front.
    return text.replace("and retrieving it failed: LookupError: ", "because ")


def _faults_of(error: Any) -> list[Fault]:
    """One fault, or one for each member that is not allowed."""
    kind, path = error.kind, error.instance_path
    keyword = kind.name
    if keyword in {"additionalProperties", "unevaluatedProperties"}:
        return [Fault("this member is not allowed", pointer([*path, name])) for name in kind.unexpected[:MOST_FAULTS]]
    if keyword == "propertyNames":
        return [Fault("the name of a member is not allowed", pointer(path))]
    words = _WORDS.get(keyword)
    return [Fault(words(kind) if words is not None else f"does not satisfy {keyword}", pointer(path))]


def _cut(text: object) -> str:
    """A text of the schema."""
    written = str(text)
    return written if len(written) <= _LONGEST_TEXT else f"{written[:_LONGEST_TEXT]}…"


def _options(options: list[Any]) -> str:
    return _cut(", ".join(str(each) for each in options))


# By keyword. Everything that is named comes from the schema.
_WORDS: Final[dict[str, Callable[[Any], str]]] = {
    "type": lambda kind: f"must be of type {' or '.join(kind.types)}",
    "required": lambda kind: f"the member {_cut(kind.property)} is missing",
    "enum": lambda kind: f"must be one of: {_options(kind.options)}",
    "const": lambda kind: f"must be {_cut(kind.expected_value)}",
    "pattern": lambda kind: f"must match {_cut(kind.pattern)}",
    "format": lambda kind: f"must be a valid {_cut(kind.format)}",
    "minimum": lambda kind: f"must be at least {kind.limit}",
    "maximum": lambda kind: f"must be at most {kind.limit}",
    "exclusiveMinimum": lambda kind: f"must be more than {kind.limit}",
    "exclusiveMaximum": lambda kind: f"must be less than {kind.limit}",
    "multipleOf": lambda kind: f"must be a multiple of {kind.multiple_of}",
    "minLength": lambda kind: f"must have at least {kind.limit} characters",
    "maxLength": lambda kind: f"must have at most {kind.limit} characters",
    "minItems": lambda kind: f"must have at least {kind.limit} items",
    "maxItems": lambda kind: f"must have at most {kind.limit} items",
    "minProperties": lambda kind: f"must have at least {kind.limit} members",
    "maxProperties": lambda kind: f"must have at most {kind.limit} members",
    "uniqueItems": lambda _kind: "must not have an item twice",
    "additionalItems": lambda kind: f"must have at most {kind.limit} items",
    "unevaluatedItems": lambda _kind: "has items that are not allowed",
    "contains": lambda _kind: "lacks an item that it must contain",
    "anyOf": lambda _kind: "matches none of the alternatives (anyOf)",
    "oneOf": lambda _kind: "must match exactly one of the alternatives (oneOf)",
    "falseSchema": lambda _kind: "nothing is allowed here",
    "not": lambda _kind: "is what the schema rules out (not)",
}
