"""The schemas of an OpenAPI document as JSON Schema 2020-12, for requests.

Those of 3.1 are that already (its dialect only adds annotations). Those of 3.0 differ (section 4.7.24):

    nullable: true             "null" joins the type; without a type it means nothing (3.0.3)
    exclusiveMinimum: true     becomes a number, likewise exclusiveMaximum
    $ref with siblings         the siblings mean nothing

In both a `required` member that is `readOnly` is required of answers alone.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

OAS_DIALECT: Final = "https://spec.openapis.org/oas/3.1/dialect/base"
# Data, whatever it looks like; in a map of schemas these are names.
_DATA: Final = frozenset({"example", "examples", "default", "enum", "const"})
_MAPS: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions", "components"})
_MOST_LEVELS: Final = 6

Resolve = Callable[[str], Any]
"""The value that a reference in the document leads to, None where it leads nowhere."""


def as_2020(document: Any, resolve: Resolve, *, old: bool) -> Any:
    """The document with its schemas as those of 2020-12; `old` says that it is one of 3.0."""
    return _object(document, resolve, old=old)


def _object(value: Any, resolve: Resolve, *, old: bool) -> Any:
    if isinstance(value, list):
        return [_object(each, resolve, old=old) for each in value]
    if not isinstance(value, dict):
        return value
    if old and isinstance(value.get("$ref"), str):
        return {"$ref": value["$ref"]}
    made = {}
    for name, inner in value.items():
        if name in _DATA or name.startswith("x-"):
            made[name] = inner
        elif name in _MAPS and isinstance(inner, dict):
            made[name] = {key: _named(each, resolve, old=old) for key, each in inner.items()}
        else:
            made[name] = _object(inner, resolve, old=old)
    if made.get("$schema") == OAS_DIALECT:
        del made["$schema"]
    _requests_alone(made, resolve)
    if old:
        _renewed(made)
    return made


def _named(value: Any, resolve: Resolve, *, old: bool) -> Any:
    """A member of a map: its own members are schemas or, below `components`, maps of them."""
    if isinstance(value, dict) and not {"type", "$ref", "properties"} & value.keys():
        inner = {name: each for name, each in value.items() if name in _DATA and isinstance(each, dict)}
        made = _object(value, resolve, old=old)
        # `components: {schemas: {default: …}}`: a schema that is called like a keyword.
        return made | {name: _object(each, resolve, old=old) for name, each in inner.items() if "type" in each}
    return _object(value, resolve, old=old)


def _requests_alone(schema: dict[str, Any], resolve: Resolve) -> None:
    required = schema.get("required")
    if not isinstance(required, list):
        return
    schema["required"] = [
        name
        for name in required
        if not any(_read_only(each, resolve) for each in _declared(schema, name, resolve, _MOST_LEVELS))
    ]
    if not schema["required"]:
        del schema["required"]


def _declared(schema: Any, name: object, resolve: Resolve, levels: int) -> Iterator[Any]:
    """What a schema says of its member `name`, itself and in what it is made of."""
    if not isinstance(schema, dict) or levels == 0:
        return
    properties, parts, reference = (schema.get(each) for each in ("properties", "allOf", "$ref"))
    if isinstance(properties, dict) and name in properties:
        yield properties[name]
    for each in parts if isinstance(parts, list) else ():
        yield from _declared(each, name, resolve, levels - 1)
    if isinstance(reference, str):
        yield from _declared(resolve(reference), name, resolve, levels - 1)


def _read_only(schema: Any, resolve: Resolve) -> bool:
    for _ in range(10):
        if not isinstance(schema, dict):
            return False
        if schema.get("readOnly") is True:
            return True
        if not isinstance(schema.get("$ref"), str):
            return False
        schema = resolve(schema["$ref"])
    return False


def _renewed(schema: dict[str, Any]) -> None:
    kind = schema.get("type")
    if schema.pop("nullable", None) is True and isinstance(kind, str):
        schema["type"] = [kind, "null"]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and bound in schema:
            schema[exclusive] = schema.pop(bound)
