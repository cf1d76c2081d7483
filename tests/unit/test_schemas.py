"""The port to the library: what is told of a value, what a schema may be, and that no pattern takes long."""

import time
from typing import Any

import pytest

from gateway.validation.faults import MOST_FAULTS, Fault, pointer
from gateway.validation.schemas import Schema, SchemaError

SECRET = "hunter2"


def nothing(uri: str) -> Any:
    raise LookupError("there is nothing")


def schema(document: Any, **options: Any) -> Schema:
    return Schema(document, "local:///schema.json", nothing, **options)


def faults(document: Any, value: Any, size: int = 1) -> list[tuple[str, str]]:
    return [(each.pointer, each.detail) for each in schema(document).faults(value, size)]


# The schema, a value that it does not take, and what is told.
TOLD: list[tuple[Any, Any, list[tuple[str, str]]]] = [
    ({"type": ["string", "null"]}, 5, [("#", "must be of type null or string")]),
    ({"required": ["a"]}, {}, [("#", "the member a is missing")]),
    ({"enum": ["a", 1]}, SECRET, [("#", "must be one of: a, 1")]),
    ({"const": "a"}, SECRET, [("#", "must be a")]),
    ({"pattern": "^a+$"}, SECRET, [("#", "must match ^a+$")]),
    ({"minimum": 3}, 2, [("#", "must be at least 3")]),
    ({"maximum": 3}, 4, [("#", "must be at most 3")]),
    ({"exclusiveMinimum": 3}, 3, [("#", "must be more than 3")]),
    ({"exclusiveMaximum": 3}, 3, [("#", "must be less than 3")]),
    ({"multipleOf": 2}, 3, [("#", "must be a multiple of 2")]),
    ({"minLength": 9}, SECRET, [("#", "must have at least 9 characters")]),
    ({"maxLength": 2}, SECRET, [("#", "must have at most 2 characters")]),
    ({"minItems": 1}, [], [("#", "must have at least 1 items")]),
    ({"maxItems": 1}, [1, 2], [("#", "must have at most 1 items")]),
    ({"minProperties": 1}, {}, [("#", "must have at least 1 members")]),
    ({"maxProperties": 0}, {SECRET: 1}, [("#", "must have at most 0 members")]),
    ({"uniqueItems": True}, [SECRET, SECRET], [("#", "must not have an item twice")]),
    ({"contains": {"const": 1}}, [SECRET], [("#", "lacks an item that it must contain")]),
    ({"anyOf": [{"type": "null"}, {"type": "array"}]}, SECRET, [("#", "matches none of the alternatives (anyOf)")]),
    ({"oneOf": [True, True]}, SECRET, [("#", "must match exactly one of the alternatives (oneOf)")]),
    ({"not": {"type": "string"}}, SECRET, [("#", "is what the schema rules out (not)")]),
    ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, [("#", "the name of a member is not allowed")]),
    (
        {"properties": {"b": {}}, "additionalProperties": False},
        {"a/b~c d": 1},
        [("#/a~1b~0c%20d", "this member is not allowed")],
    ),
    ({"unevaluatedProperties": False}, {"a": 1}, [("#/a", "this member is not allowed")]),
    ({"unevaluatedItems": False}, [1], [("#", "has items that are not allowed")]),
    ({"items": {"properties": {"a": {"type": "null"}}}}, [{}, {"a": 1}], [("#/1/a", "must be of type null")]),
    (False, SECRET, [("#", "nothing is allowed here")]),
    ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, [("#", "the member b is missing")]),
    (
        {"$schema": "http://json-schema.org/draft-07/schema#", "format": "date"},
        SECRET,
        [("#", "must be a valid date")],
    ),
]


@pytest.mark.parametrize(("document", "value", "told"), TOLD)
def test_what_is_wrong_is_told_with_the_place_and_without_the_value(document: Any, value: Any, told: Any) -> None:
    found = faults(document, value)
    assert found == told
    assert SECRET not in str(found)


def test_at_most_so_many_faults_are_told_and_of_many_values_the_first() -> None:
    document = {"items": {"type": "string"}}
    assert len(faults(document, [1] * 100)) == MOST_FAULTS
    assert len(faults(document, [1] * 100, 1000)) == 1
    assert (
        len(faults({"properties": {"b": {}}, "additionalProperties": False}, {str(at): at for at in range(100)}))
        == MOST_FAULTS
    )


def test_a_pointer_is_cut_where_a_client_made_it_long() -> None:
    assert pointer(["x" * 1000]) == f"#/{'x' * 64}%E2%80%A6"
    assert len(pointer(["y" * 60] * 100)) < 300
    assert Fault("wrong", place="query", name="limit").member() == {
        "detail": "wrong",
        "in": "query",
        "parameter": "limit",
    }


@pytest.mark.parametrize(
    ("document", "where", "words"),
    [
        ({"properties": {"a": {"type": "strin"}}}, "#/properties/a/type", "anyOf"),
        ({"items": {"pattern": "["}}, "#/items/pattern", "regex"),
        ({"pattern": "(?=a)b"}, "#/pattern", "linear time"),
        ({"pattern": r"(a)\1"}, "#/pattern", "linear time"),
        ({"$ref": "#/$defs/none"}, "#", "does not exist"),
        ({"$ref": "https://schemas.example/a.json"}, "#", "because there is nothing"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "#/$schema", "dialect"),
        ({"$schema": 3}, "#/$schema", "dialect"),
        ([], "#", "an object, true or false"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_the_place(document: Any, where: str, words: str) -> None:
    with pytest.raises(SchemaError, match=words) as found:
        schema(document)
    assert found.value.where == where


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "^(a|aa)+$", "^(a|a?)+$", "(.*a){20}", "^([a-zA-Z0-9])(([-.]|[_]+)?([a-zA-Z0-9]+))*$"]
)
def test_no_pattern_takes_more_than_linear_time(pattern: str) -> None:
    compiled = schema({"pattern": pattern})
    began = time.process_time()
    compiled.faults("a" * 50_000 + "!", 1)
    # A backtracking engine would take longer than the universe has.
    assert time.process_time() - began < 10


def test_formats_are_asserted_where_the_dialect_does_or_where_it_is_asked_for() -> None:
    assert schema({"format": "date"}).faults(SECRET, 1) == []
    assert schema({"format": "date"}, formats=True).faults(SECRET, 1) != []
