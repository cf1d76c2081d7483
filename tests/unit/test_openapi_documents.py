"""Documents that nobody here wrote compile, and their own examples pass or fail as they should."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config.reading.text_files import Texts
from gateway.validation.content import Content
from gateway.validation.openapi.document import OpenApiRules
from gateway.validation.rules import Unknown

DOCUMENTS = Path(__file__).resolve().parents[1] / "data" / "openapi"


def rules(name: str) -> OpenApiRules:
    return OpenApiRules(str(DOCUMENTS / f"{name}.json"), Texts().read)


def faults(found: OpenApiRules, method: str, target: str, headers: str = "", body: Any = None) -> list[str]:
    """What is wrong with a request, as log lines have it. `body` is JSON, or a form where it is bytes."""
    path, _, query = target.partition("?")
    operation = found.find(method, path.encode())
    assert not isinstance(operation, Unknown), f"there is no {method} {path}"
    wrong = operation[0].parameter_faults(operation[1], query.encode(), headers.encode())
    if body is not None:
        form = isinstance(body, bytes)
        assert operation[0].body is not None
        check = operation[0].body.check(Content("application/x-www-form-urlencoded" if form else "application/json"))
        assert check is not None
        wrong += check.faults(body if form else json.dumps(body).encode())
    return [f"{each.where} {each.detail}" for each in wrong]


PET = {"id": 1, "category": {"id": 2, "name": "dogs"}, "name": "doggie", "photoUrls": ["a"], "status": "available"}
# The method, the target, header lines, the body, and what is wrong.
PETSTORE: list[tuple[str, str, str, Any, list[str]]] = [
    ("POST", "/pet", "", PET, []),
    ("POST", "/v2/pet", "", PET, []),
    ("POST", "/pet", "", {**PET, "name": 5}, ["#/name must be of type string"]),
    ("POST", "/pet", "", {**PET, "status": "lost"}, ["#/status must be one of: available, pending, sold"]),
    ("PUT", "/pet", "", {"name": "doggie"}, ["# the member photoUrls is missing"]),
    ("PUT", "/pet", "", {**PET, "tags": [{"id": "x"}]}, ["#/tags/0/id must be of type integer"]),
    ("GET", "/pet/findByStatus?status=available&status=sold", "", None, []),
    ("GET", "/pet/findByStatus?status=lost", "", None, ["query status must be one of: available, pending, sold"]),
    ("GET", "/pet/findByStatus", "", None, ["query status is missing"]),
    ("GET", "/pet/12", "", None, []),
    ("GET", "/pet/twelve", "", None, ["path petId must be of type integer"]),
    ("DELETE", "/pet/12", "api_key: abc\r\n", None, []),
    ("POST", "/pet/12", "", b"name=a+b&status=c%2Fd", []),
    ("POST", "/user", "", {"id": 1, "username": "a", "userStatus": 3}, []),
    ("POST", "/user", "", {"userStatus": "3"}, ["#/userStatus must be of type integer"]),
    ("POST", "/user/createWithArray", "", [{"id": 1}], []),
    ("POST", "/user/createWithArray", "", {"id": 1}, ["# must be of type array"]),
    ("GET", "/user/login?username=a&password=b", "", None, []),
    ("GET", "/user/login?username=a&username=b&password=c", "", None, ["query username is there more than once"]),
    ("GET", "/store/order/5", "", None, []),
    ("GET", "/store/order/11", "", None, ["path orderId must be at most 10"]),
    ("POST", "/store/order", "", {"petId": 1, "shipDate": "2026-01-31T12:00:00Z", "complete": True}, []),
    ("POST", "/store/order", "", {"shipDate": "yesterday"}, ["#/shipDate must be a valid date-time"]),
]


@pytest.mark.parametrize(("method", "target", "headers", "body", "wrong"), PETSTORE)
def test_requests_of_the_petstore(method: str, target: str, headers: str, body: Any, wrong: list[str]) -> None:
    assert faults(rules("petstore-3.0"), method, target, headers, body) == wrong


def test_what_the_petstore_does_not_describe() -> None:
    found = rules("petstore-3.0")
    assert found.operations == 20
    assert found.find("GET", b"/pets") == Unknown()
    assert found.find("GET", b"/pet/1/2") == Unknown()
    assert found.find("GET", b"/pet/") == Unknown()
    assert found.find("PATCH", b"/pet") == Unknown(("PUT", "POST"))
    assert not isinstance(found.find("POST", b"/p%65t"), Unknown)
    assert not isinstance(found.find("OPTIONS", b"/pet"), Unknown)
    assert not isinstance(found.find("HEAD", b"/pet/5"), Unknown)
    assert any("multipart/form-data" in each for each in found.notices)


def examples(document: dict[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """Every example of a JSON request body that stands in the document itself."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            if "schema" not in content:
                continue
            for name, example in content.get("examples", {}).items():
                if "value" in example:
                    yield method.upper(), path, name, example["value"]
            if "example" in content:
                yield method.upper(), path, "example", content["example"]


def test_the_examples_of_a_document_pass_but_for_those_that_are_none() -> None:
    document = json.loads((DOCUMENTS / "request-examples-3.0.json").read_text())
    found = rules("request-examples-3.0")
    wrong, passed = [], 0
    for method, path, _, value in examples(document):
        if any(each.startswith("#") for each in faults(found, method, path, body=value)):
            wrong.append((method, path, type(value)))
        else:
            passed += 1
    # These have JSON within a text where the schema wants an array or an object.
    assert set(wrong) == {(method, "/requestBody-primitive-example", str) for method in ("PUT", "PATCH")}
    assert (len(wrong), passed) == (4, 8)


OBJECT = {"object": {"R": "100", "G": "200"}}
STYLES: list[tuple[str, str, list[str]]] = [
    ("/anything/path/a/1,2/R,100,G,200", "", []),
    ("/anything/path/simple/a/1,2/R,100,G,200", "", []),
    ("/anything/headers", "primitive: a\r\nARRAY: 1,2\r\narray: 3\r\nobject: R,100,G,200\r\n", []),
    ("/anything/headers", "object: R,100,G\r\n", ["header object must be names and values in turn"]),
    ("/anything/query?primitive=a&array=1&array=2", "", []),
    ("/anything/query?primitive=a&primitive=b", "", ["query primitive is there more than once"]),
    ("/anything/query?primitive=%ff", "", ["query primitive is not UTF-8"]),
    ("/anything/query/form?array=1,2&object=R,100,G,200", "", []),
    ("/anything/query/form?array=1&array=2", "", ["query array is there more than once"]),
    ("/anything/query/spaceDelimited?array=1%202", "", []),
    ("/anything/query/pipeDelimited?array=1|2&object=R|100|G", "", ["query object must be names and values in turn"]),
    ("/anything/query/deepObject?object[R]=100&object[G]=200", "", []),
    ("/cookies", "Cookie: primitive=a; x=%\r\n", []),
    ("/cookies", "Cookie: primitive=a; primitive=b\r\n", ["cookie primitive is there more than once"]),
    ("/anything/query/deepObject?object[R]=100&object[R]=200", "", ["query object is there more than once"]),
]


@pytest.mark.parametrize(("target", "headers", "wrong"), STYLES)
def test_parameters_in_every_style(target: str, headers: str, wrong: list[str]) -> None:
    assert faults(rules("parameters-style-3.1"), "GET", target, headers) == wrong


def test_styles_that_are_left_out_are_told() -> None:
    told = " ".join(rules("parameters-style-3.1").notices)
    for words in ("cookies with arrays or objects", "style matrix in path", "style label in path"):
        assert words in told
