"""OpenAPI documents as rules: what 3.0 has of its own, paths, parameters, forms, and what cannot be used."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.reading.text_files import Texts
from gateway.validation.content import Content
from gateway.validation.openapi.document import OpenApiRules
from gateway.validation.openapi.paths import Paths
from gateway.validation.recursion import costly
from gateway.validation.rules import Unknown
from gateway.validation.schemas import SchemaError


def rules(directory: Path, paths: Any, version: str = "3.1.0", **more: Any) -> OpenApiRules:
    document = {"openapi": version, "info": {"title": "a", "version": "1"}, "paths": paths, **more}
    (directory / "api.yaml").write_text(yaml.safe_dump(document))
    return OpenApiRules(str(directory / "api.yaml"), Texts().read)


def posted(schema: Any, media: str = "application/json") -> Any:
    return {"/a": {"post": {"requestBody": {"content": {media: {"schema": schema}}}}}}


def body_faults(found: OpenApiRules, body: Any, media: str = "application/json") -> list[tuple[str, str]]:
    operation = found.find("POST", b"/a")
    assert not isinstance(operation, Unknown)
    assert operation[0].body is not None
    check = operation[0].body.check(Content(media))
    assert check is not None
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return [(each.pointer, each.detail) for each in check.faults(raw)]


def query_faults(found: OpenApiRules, query: bytes) -> list[tuple[str, str]]:
    operation = found.find("GET", b"/a")
    assert not isinstance(operation, Unknown)
    return [(each.name, each.detail) for each in operation[0].parameter_faults(operation[1], query, b"")]


def asked(*parameters: Any) -> Any:
    return {"/a": {"get": {"parameters": [{"in": "query", **each} for each in parameters]}}}


OLD_SCHEMA = {
    "type": "object",
    "required": ["id", "name"],
    "properties": {
        "id": {"type": "integer", "readOnly": True},
        "name": {"type": "string", "nullable": True},
        "age": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
        "nullable": {"type": "boolean"},
        "example": {"type": "integer", "maximum": 9, "exclusiveMaximum": False},
        "other": {"$ref": "#/components/schemas/Other", "nullable": True},
    },
}
OTHER = {"schemas": {"Other": {"type": "string", "enum": ["x"]}, "default": {"type": "string", "nullable": True}}}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"name": None, "age": 1, "nullable": True, "example": 9, "other": "x"}, []),
        ({"name": None, "age": 0}, [("#/age", "must be more than 0")]),
        ({"name": None, "example": 10}, [("#/example", "must be at most 9")]),
        ({"name": None, "nullable": None}, [("#/nullable", "must be of type boolean")]),
        ({"name": None, "other": None}, [("#/other", "must be one of: x"), ("#/other", "must be of type string")]),
        ({"age": 1}, [("#", "the member name is missing")]),
    ],
)
def test_schemas_of_3_0_are_read_as_it_says(body: Any, told: list[tuple[str, str]], tmp_path: Path) -> None:
    found = rules(tmp_path, posted(OLD_SCHEMA), "3.0.3", components=OTHER)
    assert sorted(body_faults(found, body)) == sorted(told)


def test_schemas_of_3_1_are_those_of_2020_12(tmp_path: Path) -> None:
    schema = {"type": ["string", "null"], "$schema": "https://spec.openapis.org/oas/3.1/dialect/base"}
    found = rules(
        tmp_path, posted({"prefixItems": [{"$ref": "#/components/schemas/S"}]}), components={"schemas": {"S": schema}}
    )
    assert body_faults(found, [None]) == []
    assert body_faults(found, [1]) == [("#/0", "must be of type null or string")]


def test_a_member_that_is_read_only_where_it_is_inherited_is_not_required_either(tmp_path: Path) -> None:
    base = {"type": "object", "properties": {"id": {"type": "integer", "readOnly": True}, "name": {"type": "string"}}}
    child = {"allOf": [{"$ref": "#/components/schemas/Base"}], "required": ["id", "name"]}
    for version in ("3.0.3", "3.1.0"):
        found = rules(tmp_path, posted(child), version, components={"schemas": {"Base": base}})
        assert body_faults(found, {"name": "a"}) == []
        assert body_faults(found, {"id": 1}) == [("#", "the member name is missing")]


def test_references_to_other_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "parts.yaml").write_text(
        yaml.safe_dump(
            {
                "limit": {"name": "limit", "in": "query", "schema": {"$ref": "#/limit_schema"}},
                "limit_schema": {"type": "integer", "nullable": True, "maximum": 10, "exclusiveMaximum": True},
            }
        )
    )
    paths = {"/a": {"get": {"parameters": [{"$ref": "parts.yaml#/limit"}]}}}
    found = rules(tmp_path, paths, "3.0.0")
    assert query_faults(found, b"limit=9") == []
    assert query_faults(found, b"limit=10") == [("limit", "must be less than 10")]


@pytest.mark.parametrize(
    ("document", "where", "words"),
    [
        ({"swagger": "2.0"}, "#/openapi", "version 3.0 or 3.1"),
        ({"openapi": "3.2.0"}, "#/openapi", "version 3.0 or 3.1"),
        ({"openapi": "3.1.0"}, "#/paths", "no operation"),
        (
            {"openapi": "3.1.0", "paths": posted({"type": "strin"})},
            "#/paths/~1a/post/requestBody/content/application~1json/schema",
            "strin",
        ),
        (
            {"openapi": "3.1.0", "paths": posted({"pattern": "(?=a)"})},
            "#/paths/~1a/post/requestBody/content/application~1json/schema",
            "linear time",
        ),
        (
            {"openapi": "3.1.0", "paths": posted({"$ref": "#/components/schemas/None"})},
            "#/paths/~1a/post/requestBody/content/application~1json/schema",
            "None",
        ),
        (
            {"openapi": "3.1.0", "paths": posted({"$ref": "https://a.example/b.json"})},
            "#/paths/~1a/post/requestBody/content/application~1json/schema",
            "only files below",
        ),
        ({"openapi": "3.1.0", "paths": {"a": {"get": {}}}}, "#/paths/a", "slash"),
        ({"openapi": "3.1.0", "paths": {"/a/{x}": {"get": {}}, "/a/{y}": {"get": {}}}}, "#/paths/~1a~1%7By%7D", "same"),
        ({"openapi": "3.1.0", "paths": {"/a": {"$ref": "#/paths/~1a"}}}, "", "circle"),
        (
            {"openapi": "3.1.0", "paths": {"/a": {"get": {"parameters": [{"in": "query", "name": 5}]}}}},
            "",
            "must be a text",
        ),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place(document: Any, where: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "api.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(SchemaError, match=words) as found:
        OpenApiRules(str(tmp_path / "api.yaml"), Texts().read)
    assert where in found.value.where


def test_paths_are_compared_decoded_and_concrete_ones_first() -> None:
    paths = Paths()
    for template in (
        "/a/{id}",
        "/a/mine",
        "/a/{id}/b",
        "/f/{name}.json",
        "/f/{name}",
        "/r/{x}-{y}",
        "/a/{other}/c/{d}",
    ):
        assert paths.add(template, template)
    assert not paths.add("/a/{x}", "again")
    for path, found in {
        b"/a/5": ("/a/{id}", {"id": "5"}),
        b"/a/m%69ne": ("/a/mine", {}),
        b"/a/mine/b": ("/a/{id}/b", {"id": "mine"}),
        b"/a/x%2Fy": ("/a/{id}", {"id": "x%2Fy"}),
        b"/a/1/c/2": ("/a/{other}/c/{d}", {"other": "1", "d": "2"}),
        b"/f/x.json": ("/f/{name}.json", {"name": "x"}),
        b"/f/x.xml": ("/f/{name}", {"name": "x.xml"}),
        b"/r/1-2": ("/r/{x}-{y}", {"x": "1", "y": "2"}),
    }.items():
        assert paths.find(path) == found, path
    for path in (b"/", b"", b"/a", b"/a/", b"/a//b", b"/A/5", b"/a/%ff", b"/a/\xff", b"/a/5/"):
        assert paths.find(path) is None, path


def test_a_path_that_may_be_that_of_another_operation_is_none(tmp_path: Path) -> None:
    found = rules(tmp_path, {"/{slug}": {"post": {}}, "/orders/{id}": {"post": {}}, "/orders": {"post": {}}})
    for path in (b"/orders/5", b"/a%2Fb", b"/a;x=1", b"/orders/a%2fb", b"/orders/5;v=1"):
        assert not isinstance(found.find("POST", path), Unknown), path
    # Flask and Starlette answer /orders/5 for the first one, Tomcat /orders for the others.
    for path in (b"/orders%2F5", b"/orders%2f5", b"/orders;x=1", b"/orders;", b"/orders%3Bx"):
        assert found.find("POST", path) == Unknown(), path


def test_long_segments_are_split_in_linear_time() -> None:
    paths = Paths()
    paths.add("/{a}-{b}-{c}-{d}.json", "found")
    began = time.process_time()
    assert paths.find(b"/" + b"-" * 30_000 + b"x") is None
    assert paths.find(b"/" + b"-" * 30_000 + b".json") is not None
    assert paths.find(b"/a-b-c-d.json") == ("found", {"a": "a", "b": "b", "c": "c", "d": "d"})
    assert paths.find(b"/a-b--d.json") is None
    assert time.process_time() - began < 10


def test_values_of_parameters_are_of_the_types_that_their_schemas_name(tmp_path: Path) -> None:
    found = rules(
        tmp_path,
        asked(
            {"name": "n", "schema": {"type": "integer", "maximum": 10}},
            {"name": "b", "schema": {"type": "boolean"}},
            {"name": "s", "schema": {"type": "string", "maxLength": 3}},
            {
                "name": "o",
                "schema": {"oneOf": [{"type": "integer"}, {"const": "all"}, {"type": "string", "enum": ["all"]}]},
            },
            {"name": "j", "content": {"application/json": {"schema": {"type": "object", "required": ["x"]}}}},
            {"name": "e", "allowEmptyValue": True, "schema": {"type": "integer"}},
        ),
    )
    assert query_faults(found, b"n=5&b=true&s=123&j=%7B%22x%22:1%7D&e=&unknown=1") == []
    assert query_faults(found, b"n=11&b=yes&s=1234") == [
        ("n", "must be at most 10"),
        ("b", "must be of type boolean"),
        ("s", "must have at most 3 characters"),
    ]
    for query in (b"n=1.5", b"n=0x1", b"n=+1", b"n=01", b"n=1e999", b"n=" + b"9" * 400, b"n=", b"j={}", b"j={"):
        assert len(query_faults(found, query)) == 1, query
    assert query_faults(found, b"n=\xff") == [("", "the query is not percent-encoded")]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (b"limit[$gt]=", ["limit"]),
        (b"limit%5B%24gt%5D=&limit=1", ["limit"]),
        (b"limit[]=x", ["limit"]),
        (b"ids[]=x", ["ids"]),
        (b"ids[0]=x&ids=1", ["ids"]),
        (b"R[x]=1", ["color"]),
        (b"p[a]=1&p[a][b]=x", ["p"]),
        (b"p[a][]=1", ["p"]),
        (b"p[a=1", ["p"]),
        (b"p=1", ["p"]),
        (b"sort[by]=x&sort[by][z]=1&other[a]=1&[a]=1", []),
        (b"p[a]=1&R=1&ids=1", []),
    ],
)
def test_a_member_in_brackets_is_a_spelling_of_the_parameter(query: bytes, names: list[str], tmp_path: Path) -> None:
    """Express, Rails and PHP read `limit[$gt]=` as an object: what they get must not differ from what is validated."""
    integers = {"type": "object", "properties": {"a": {"type": "integer"}}}
    found = rules(
        tmp_path,
        asked(
            {"name": "limit", "schema": {"type": "integer"}},
            {"name": "ids", "schema": {"type": "array", "items": {"type": "integer"}}},
            {"name": "color", "schema": {"type": "object", "properties": {"R": {"type": "integer"}}}},
            {"name": "p", "style": "deepObject", "schema": integers},
            {"name": "sort[by]", "schema": {"type": "string"}},
        ),
    )
    assert [name for name, _ in query_faults(found, query)] == names


def header_faults(found: OpenApiRules, *lines: bytes) -> list[tuple[str, str]]:
    operation = found.find("GET", b"/a")
    assert not isinstance(operation, Unknown)
    text = b"".join([each + b"\r\n" for each in lines])
    return [(each.name, each.detail) for each in operation[0].parameter_faults(operation[1], b"", text)]


def test_a_header_that_upstreams_may_read_differently_is_refused(tmp_path: Path) -> None:
    parameters = [
        {"in": "header", "name": "X-Role", "schema": {"type": "string", "pattern": "^user"}},
        {"in": "header", "name": "X-Tags", "schema": {"type": "array", "items": {"type": "integer"}}},
        {"in": "header", "name": "X-Json", "content": {"application/json": {"schema": True}}},
    ]
    found = rules(tmp_path, {"/a": {"get": {"parameters": parameters}}})
    assert header_faults(found, b"X-Role: user", b"x-tags: 1", b"X-Tags: 2", b"X-Json: {}") == []
    several = "is there more than once"
    assert header_faults(found, b"X-Role: user", b"x-role: admin") == [("X-Role", several)]
    assert header_faults(found, b"X-Json: 1", b"X-Json: 2") == [("X-Json", several)]
    another = "is there in another spelling of its name"
    assert header_faults(found, b"X-Role: user", b"X_Role: admin") == [("X-Role", another)]
    assert header_faults(found, b"X_Tags: x") == [("X-Tags", another)]


def test_parameters_hold_up_the_loop_for_no_longer_than_their_length(tmp_path: Path) -> None:
    exploding = {"anyOf": [{"properties": {"of": {"$ref": "#/components/schemas/E"}}, "required": ["a"]}] * 2}
    found = rules(
        tmp_path,
        asked(
            {
                "name": "ids",
                "explode": False,
                "schema": {"type": "array", "items": {"oneOf": [{"type": "integer"}] * 9}},
            },
            {"name": "e", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/E"}}}},
        ),
        components={"schemas": {"E": exploding}},
    )
    began = time.process_time()
    assert query_faults(found, b"ids=" + b"1," * 16_000 + b"1") == [
        ("ids", "has many values, and not all are what the schema takes")
    ]
    assert query_faults(found, b"e=" + b'{"of":' * 40 + b"{}" + b"}" * 40) == []
    assert time.process_time() - began < 10
    (notice,) = found.notices
    assert notice.startswith("parameters whose schemas may take exponential time are not validated (1 place")


def test_a_form_is_an_object(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "integer"}},
        },
        "additionalProperties": False,
    }
    form = "application/x-www-form-urlencoded"
    found = rules(tmp_path, posted(schema, form))
    assert body_faults(found, b"name=a+b&age=5&tags=1&tags=2", form) == []
    assert body_faults(found, b"name=a&age=x&tags=y", form) == [
        ("#/age", "must be of type integer"),
        ("#/tags/0", "must be of type integer"),
    ]
    assert body_faults(found, b"name=a&name=b", form) == [("#/name", "is there more than once")]
    assert body_faults(found, b"name=%ff", form) == [("#/name", "is not UTF-8")]
    assert body_faults(found, b"name=a&x=1", form) == [("#/x", "this member is not allowed")]
    assert body_faults(found, b"name[$ne]=a&name=a", form) == [
        ("#/name", "is written with brackets, which the API does not describe")
    ]


@pytest.mark.parametrize(
    ("fields", "encoding"),
    [
        ({"a": {"type": "object"}}, {}),
        ({"a": {"type": "array", "items": {"allOf": [{"type": "object"}]}}}, {}),
        ({"a": {"type": "array"}}, {"a": {"style": "deepObject"}}),
        ({"a": {"type": "array"}}, {"a": {"explode": False}}),
        ({"a": {"type": "array"}}, {"a": {"contentType": "application/json"}}),
    ],
)
def test_a_form_whose_fields_are_written_in_another_way_passes_unseen(
    fields: Any, encoding: Any, tmp_path: Path
) -> None:
    """Stripe's document has such forms: every request that it describes would be refused."""
    media = {"schema": {"properties": fields, "additionalProperties": False}, "encoding": encoding}
    content = {"application/x-www-form-urlencoded": media}
    found = rules(tmp_path, {"/a": {"post": {"requestBody": {"content": content}}}})
    operation = found.find("POST", b"/a")
    assert not isinstance(operation, Unknown)
    body = operation[0].body
    assert body is not None
    assert body.check(Content("application/x-www-form-urlencoded")) is None
    assert "where they have objects, or a style of their own pass unseen" in found.notices[0]


def test_media_types_with_stars(tmp_path: Path) -> None:
    content = {"application/*": {}, "text/plain": {"schema": {"type": "string"}}}
    found = rules(tmp_path, {"/a": {"post": {"requestBody": {"required": True, "content": content}}}})
    operation = found.find("POST", b"/a")
    assert not isinstance(operation, Unknown)
    body = operation[0].body
    assert body is not None
    assert (body.required, body.takes(Content("application/zip")), body.takes(Content("image/png"))) == (
        True,
        True,
        False,
    )
    assert found.notices == [
        "bodies of text/plain pass unseen (1 place, the first is #/paths/~1a/post/requestBody/content/text~1plain)"
    ]


def test_a_server_may_be_in_front_of_the_path(tmp_path: Path) -> None:
    found = rules(
        tmp_path,
        {"/a": {"get": {}}},
        servers=[{"url": "https://x.example/v1"}, {"url": "/{v}/", "variables": {"v": {"default": "v2"}}}],
    )
    for path in (b"/a", b"/v1/a", b"/v2/a"):
        assert not isinstance(found.find("GET", path), Unknown)
    assert found.find("GET", b"/v3/a") == Unknown()


def test_a_server_of_one_path_may_be_in_front_of_it_too(tmp_path: Path) -> None:
    item = {"servers": [{"url": "/admin"}], "get": {}, "post": {"servers": [{"url": "https://b.example/upload/v1"}]}}
    found = rules(tmp_path, {"/a": item}, servers=[{"url": "/v1"}])
    for path in (b"/a", b"/v1/a", b"/admin/a", b"/upload/v1/a"):
        assert not isinstance(found.find("POST", path), Unknown)


COOKIES: list[tuple[str, list[str]]] = [
    ("Cookie: limit=5; session=x", []),
    ("cookie:limit=5", []),
    ("Cookie: a=1", ["limit is missing"]),
    ("", ["limit is missing"]),
    ("Cookie: Limit=5", ["limit is missing"]),
    ("Cookie: limit=five", ["limit must be of type integer"]),
    ("Cookie: limit=50", ["limit must be at most 10"]),
    ("Cookie: limit=5; limit=6", ["limit is there more than once"]),
    ("Cookie: limit=5\r\nCookie: limit=6", ["limit is there more than once"]),
    ("Cookie: limit=5; ids=1,2", []),
    ("Cookie: limit=5; ids=1,x", ["ids must be of type integer"]),
    ("Cookie: limit=5; role=user", []),
    ("Cookie: limit=5; role=admin", ["role must match ^user"]),
    ('Cookie: limit=5; filter={"a":1}', ["filter is written with quotes"]),
    ("Cookie: limit=5; filter=%7B%22a%22:1%7D", []),
    ("Cookie: limit=5; filter=%7B", ["filter is not JSON that everybody reads alike"]),
    ("Cookie: limit=5; filter=[1]", []),
    # Some upstreams decode, and some take quotes off; PHP reads brackets.
    ('Cookie: limit="5"', ["limit is written with quotes"]),
    ("Cookie: limit=%35", ["limit must be of type integer"]),
    ("Cookie: limit=5; role=user%2Fa", []),
    ("Cookie: limit=5; role=%75ser", ["role must match ^user"]),
    ("Cookie: limit=5; role=user; rol%65=admin", ["role is there in another spelling of its name"]),
    ("Cookie: limit=5; role=user; role[x]=admin", ["role is there in another spelling of its name"]),
]


@pytest.mark.parametrize(("line", "wrong"), COOKIES)
def test_cookies_are_parameters(line: str, wrong: list[str], tmp_path: Path) -> None:
    described = [
        {"in": "cookie", "name": "limit", "required": True, "schema": {"type": "integer", "maximum": 10}},
        {"in": "cookie", "name": "role", "schema": {"type": "string", "pattern": "^user"}},
        {"in": "cookie", "name": "ids", "explode": False, "schema": {"type": "array", "items": {"type": "integer"}}},
        {"in": "cookie", "name": "filter", "content": {"application/json": {"schema": True}}},
        {"in": "cookie", "name": "more", "schema": {"type": "array"}},
    ]
    found = rules(tmp_path, asked(*described))
    operation = found.find("GET", b"/a")
    assert not isinstance(operation, Unknown)
    assert operation[0].headers
    faults = operation[0].parameter_faults(operation[1], b"", f"{line}\r\n".encode())
    assert [f"{each.name} {each.detail}" for each in faults] == wrong
    assert {each.place for each in faults} <= {"cookie"}
    (notice,) = found.notices
    assert notice.startswith("cookies with arrays or objects are not validated without explode: false (1 place")


TREE = {"properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}
COSTLY: list[Any] = [
    {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}},
    {"anyOf": [{"properties": {"of": {"$ref": "#"}}}, {"properties": {"of": {"$ref": "#"}}}]},
    {"properties": {"of": {"$ref": "#"}}, "unevaluatedProperties": False},
    {"properties": {"enum": {"$ref": "#"}, "const": {"$ref": "#"}}},
    {"$dynamicAnchor": "a", "items": {"$dynamicRef": "#a"}},
    {
        "$defs": {
            "a": {"items": {"$ref": "#/$defs/b"}, "contains": {"$ref": "#/$defs/b"}},
            "b": {"items": {"$ref": "#/$defs/a"}},
        },
        "$ref": "#/$defs/a",
    },
    {"items": {"$ref": "#anchor"}},
]


def nothing(uri: str) -> Any:
    raise LookupError(uri)


def test_schemas_that_may_take_exponential_time_are_found() -> None:
    assert not costly(TREE, "file:///a.json", nothing)
    assert not costly(
        {"$defs": {"x": {}}, "allOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/x"}]}, "file:///a.json", nothing
    )
    for schema in COSTLY:
        assert costly(schema, "file:///a.json", nothing), schema
