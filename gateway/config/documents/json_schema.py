"""The JSON Schema (2020-12) of the YAML file, for editors: made from the models that read it.

    python -m gateway.config.documents.json_schema > gateway.schema.json

`gateway check` is stricter, because it knows which settings must agree, and what a reference or a unit means. The
schema accepts what only `gateway check` can judge: text with a unit, and `${NAME}` wherever there is a value.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from annotated_types import Len
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.config.declaring.inspection import unit
from gateway.config.declaring.section import Env, Meaning
from gateway.config.sections.identity.settings import FileConsumer, FileTenant, FileTier
from gateway.config.sections.issuers.settings import FileIssuer
from gateway.config.sections.rate_limits.settings import RateLimit
from gateway.config.sections.routes.settings import FileRoute
from gateway.config.sections.upstreams.settings import FileUpstream
from gateway.config.sections.workflows.settings import FileStep, FileWorkflow, SagaUndo

_REF = "#/$defs/{model}"
_REFERENCE = {"type": "string", "pattern": r"\$\{"}
_AMOUNTS = {
    "seconds": r"^[0-9]*\.?[0-9]+ ?(ms|s|m|min|h|d)$",
    "bytes": r"^[0-9]*\.?[0-9]+ ?([kKmMgGtT]i?)?[bB]$",
}
# These are pydantic's names for the bounds of a field that a function reads first.
_BOUNDS = {"ge": "minimum", "le": "maximum"}
_ONE_FOR_A_LIST = {"authentication", "audience", "algorithms", "upstream", "on"}
# Statuses of steps are read from text and from numbers.
_OF_STEPS = {"success", "failed"}
_STATUS = {
    "anyOf": [
        {"type": "integer", "minimum": 200, "maximum": 599},
        {"type": "string", "pattern": "^([2-5][0-9]{2}(-[2-5][0-9]{2})?|[2-5][xX]{2})$"},
    ]
}
_STATUSES = {"type": "string", "pattern": "^([0-9]{3}-[0-9]{3}|[45][xX]{2})$"}


def document() -> dict[str, Any]:
    """The schema as plain values."""
    _, found = models_json_schema([(model, "validation") for model in _ENTRIES], ref_template=_REF)
    definitions: dict[str, Any] = found["$defs"]
    for name, definition in definitions.items():
        model = _MODELS[name]
        definition.pop("title", None)
        definition["description"] = definition.get("description", "").strip() or name
        for key, rules in definition.get("properties", {}).items():
            definition["properties"][key] = _property(model, key, rules)
    upstream = definitions["FileUpstream"]
    endpoint = {"anyOf": [{"type": "string", "description": "host:port or http://host:port"}, _ref("FileEndpoint")]}
    upstream["properties"]["endpoints"] |= {"items": endpoint, "minItems": _fewest(FileUpstream, "endpoints")}
    hook = {"anyOf": [{"type": "string", "description": "module:attribute"}, _ref("HookEntry")]}
    definitions["FileRoute"]["properties"]["hooks"] |= {"items": hook}
    definitions["FileWorkflow"]["properties"]["steps"] |= {"items": _ref("FileStep"), "minItems": 1}
    compensate = definitions["FileStep"]["properties"]["compensate"]
    definitions["FileStep"]["properties"]["compensate"] = {
        "description": compensate["description"],
        "anyOf": [_ref("SagaUndo"), {"const": "none"}],
    }
    # `default` may leave its address to UPSTREAM_URL.
    definitions["DefaultUpstream"] = {key: value for key, value in upstream.items() if key != "required"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Upstreams, rate limits, routes and consumers of the gateway (GATEWAY_CONFIG)",
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {
            "upstreams": _named("Upstreams by name", "FileUpstream", {"default": _ref("DefaultUpstream")}),
            "rate_limits": _named("Rate limits by name", "RateLimit", {}),
            "routes": {
                "description": "Longest prefix wins",
                "type": ["array", "null"],
                "items": _ref("FileRoute"),
            },
            "tiers": _named("What tenants may use, by name of the tier", "FileTier", {}),
            "tenants": _named("Customers by name", "FileTenant", {}),
            "consumers": _named("Programs that ask, by name", "FileConsumer", {}),
            "issuers": _named("Whose tokens say who asks, by name", "FileIssuer", {}),
            "workflows": _named("Steps that are all done, or undone, by name of the workflow", "FileWorkflow", {}),
        },
        "$defs": dict(sorted(definitions.items())),
    }


def text() -> str:
    """The JSON Schema as it stands in gateway.schema.json."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def _property(model: type[BaseModel], key: str, rules: dict[str, Any]) -> dict[str, Any]:
    field = model.model_fields[key]
    notes = field.metadata
    described = _described(notes)
    rules = _bounded({name: value for name, value in rules.items() if name not in {"title", "default"}})
    named = unit(field.annotation, notes)
    if "$ref" in rules or rules.get("type") == "string":
        shape = rules
    elif rules.get("type") == "array":
        more = [_STATUSES] if key in {"statuses", "on"} else []
        item = _STATUS if key in _OF_STEPS else _bounded(rules["items"])
        amounts = _amounts(next(map(unit, get_args(field.annotation)), ""))
        shape = rules | {"items": {"anyOf": [item, *more, *amounts, _REFERENCE]}}
        if key in _ONE_FOR_A_LIST:
            none = [{"const": "none"}] if key in {"authentication", "audience"} else []
            shape = {"anyOf": [shape, rules["items"], *none, _REFERENCE]}
    else:
        options = [_bounded(option) for option in rules.pop("anyOf", None) or [rules]]
        shape = {"anyOf": [*options, *_amounts(named), _REFERENCE]}
    return {"description": described, **shape} if described else shape


def _described(notes: Iterable[object]) -> str:
    """What a field means, and what it is when left out."""
    for note in notes:
        if isinstance(note, Env):
            return f"{note.meaning}. Left out: {note.name}."
        if isinstance(note, Meaning):
            return f"{note.meaning}; {note.unset}." if note.unset else f"{note.meaning}."
    return ""


def _bounded(rules: dict[str, Any]) -> dict[str, Any]:
    return {_BOUNDS.get(name, name): value for name, value in rules.items()}


def _amounts(named: str) -> list[dict[str, Any]]:
    return [{"type": "string", "pattern": _AMOUNTS[named]}] if named in _AMOUNTS else []


def _fewest(model: type[BaseModel], key: str) -> int:
    return next(note.min_length for note in model.model_fields[key].metadata if isinstance(note, Len))


def _named(description: str, definition: str, special: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"},
        "properties": special,
        "additionalProperties": _ref(definition),
    }


def _ref(definition: str) -> dict[str, Any]:
    return {"$ref": _REF.format(model=definition)}


def _all(models: Iterable[type[BaseModel]]) -> dict[str, type[BaseModel]]:
    """These models and all within them, by name."""
    found: dict[str, type[BaseModel]] = {}
    for model in models:
        inner = (each for field in model.model_fields.values() for each in _within(field.annotation))
        found |= {model.__name__: model} | _all(inner)
    return found


def _within(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _within(part)


_ENTRIES = (
    *(FileUpstream, FileRoute, RateLimit, FileConsumer, FileTenant, FileTier, FileIssuer),
    # A workflow is read step by step.
    *(FileWorkflow, FileStep, SagaUndo),
)
_MODELS = _all(_ENTRIES)

if __name__ == "__main__":
    sys.stdout.write(text())
