"""Templates, and the requests that are made of them."""

from typing import Any

import pytest

from gateway.saga.exact_json import read
from gateway.saga.rendering import Rendered, document_of, lacking, rendered
from gateway.saga.templates import TemplateError, fill, fill_text, places, resolve
from gateway.saga.workflow import SagaRequest, SagaStep, Workflow

GIVEN = {"a": {"b/c": [1, {"d~e": "x"}]}, "n": 10.5, "t": True, "z": None, "text": "ü /?&"}
DOCUMENT = document_of("saga_1", GIVEN, {"pay": {"id": 7}})


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/input/a/b~1c/0", 1),
        ("/input/a/b~1c/1/d~0e", "x"),
        ("/results/pay/id", 7),
        ("/run/id", "saga_1"),
        ("/input/z", None),
        ("/input/a/b~1c", [1, {"d~e": "x"}]),
    ],
)
def test_pointers_lead_where_rfc_6901_says(pointer: str, value: Any) -> None:
    assert resolve(DOCUMENT, pointer) == value
    assert fill(f"{{{pointer}}}", DOCUMENT) == value


@pytest.mark.parametrize(
    "pointer", ["/input/x", "/input/a/b~1c/2", "/input/a/b~1c/01", "/input/a/b~1c/-", "/input/n/0", "/results/x", "/"]
)
def test_a_pointer_may_lead_nowhere(pointer: str) -> None:
    with pytest.raises(TemplateError, match="points nowhere"):
        resolve(DOCUMENT, pointer)


def test_text_around_a_pointer() -> None:
    assert fill_text("{/input/n}-{/input/t}-{/results/pay/id}", DOCUMENT) == "10.5-true-7"
    assert fill("a {not a place} {/input/n}", DOCUMENT) == "a {not a place} 10.5"
    for pointer in ("/input/a", "/input/z"):
        with pytest.raises(TemplateError, match="neither text nor a number"):
            fill_text(f"x{{{pointer}}}", DOCUMENT)


def test_a_template_is_filled_all_through() -> None:
    template = {"a": ["{/input/n}", {"b": "{/input/a}"}], "c": 1, "d": None}
    assert fill(template, DOCUMENT) == {"a": [10.5, {"b": GIVEN["a"]}], "c": 1, "d": None}
    assert [(each.pointer, each.where) for each in places(template)] == [("/input/n", "a[0]"), ("/input/a", "a[1].b")]


def test_a_value_is_never_a_template() -> None:
    """Whoever sends the input cannot read what it does not say."""
    document = document_of("saga_1", {"a": "{/results/pay/id}"}, {"pay": {"id": "secret"}})
    assert fill({"x": "{/input/a}", "y": "b{/input/a}"}, document) == {
        "x": "{/results/pay/id}",
        "y": "b{/results/pay/id}",
    }


def test_a_request_is_made_of_its_templates() -> None:
    request = SagaRequest(
        "a", "POST", "/o/{/input/n}?q={/input/text}&r=1", (("X-A", "v {/run/id}"),), {"a": "{/input/a}"}
    )
    assert rendered(request, DOCUMENT) == Rendered(
        b"/o/10.5?q=%C3%BC%20%2F%3F%26&r=1",
        b"X-A: v saga_1\r\nContent-Type: application/json\r\n",
        b'{"a":{"b/c":[1,{"d~e":"x"}]}}',
    )
    own = SagaRequest("a", "POST", "/", (("content-type", "application/merge-patch+json"),), {})
    assert rendered(own, DOCUMENT).lines == b"content-type: application/merge-patch+json\r\n"
    assert rendered(SagaRequest("a", "GET", "/"), DOCUMENT) == Rendered(b"/", b"", b"")


@pytest.mark.parametrize(
    "value", ["", ".", "..", "../x", "a/b", "a\\b", ".%2e", "%2e%2e", "\uff0e\uff0e", "..;x", "a\0"]
)
def test_a_value_does_not_lead_to_another_path(value: str) -> None:
    with pytest.raises(TemplateError, match="a value for a path"):
        rendered(SagaRequest("a", "POST", "/o/{/input}"), document_of("r", value, {}))


@pytest.mark.parametrize("value", ["a\r\nX: y", "ü", "\0", "a\n"])
def test_a_value_does_not_begin_another_field(value: str) -> None:
    with pytest.raises(TemplateError, match="a value for a header field"):
        rendered(SagaRequest("a", "POST", "/", (("X-A", "{/input}"),)), document_of("r", value, {}))


@pytest.mark.parametrize(
    ("request_", "given", "lacks"),
    [
        (SagaRequest("a", "POST", "/{/input/a}"), {}, "step s, path: /input/a points nowhere"),
        (SagaRequest("a", "POST", "/{/input/a}"), {"a": ".."}, "step s, path: a value for a path"),
        (SagaRequest("a", "POST", "/?{/input/a}"), {"a": ".. ü"}, None),
        (SagaRequest("a", "POST", "/?{/input/a}"), {"a": []}, "step s, path: /input/a is neither text nor a number"),
        (SagaRequest("a", "POST", "/", (("X-A", "{/input/a}"),)), {"a": "ü"}, "step s, headers.X-A: a value for"),
        (SagaRequest("a", "POST", "/", (), {"b": ["{/input/a}"]}), {"a": None}, None),
        (SagaRequest("a", "POST", "/", (), {"b": ["x{/input/a}"]}), {"a": None}, "step s, body.b[0]: /input/a is"),
        (SagaRequest("a", "POST", "/", (), {"b": "{/results/x/y}"}), {}, None),
    ],
)
def test_what_an_input_lacks(request_: SagaRequest, given: Any, lacks: str | None) -> None:
    found = lacking(Workflow("w", (SagaStep("s", request_),)), given)
    assert (found or "").startswith(lacks) if lacks else found is None
    undone = Workflow("w", (SagaStep("s", SagaRequest("a", "POST", "/"), request_),))
    found = lacking(undone, given)
    assert (found or "").startswith(lacks.replace("step s, ", "step s, compensate.")) if lacks else found is None


def test_the_answer_needs_input_too() -> None:
    workflow = Workflow("w", (), answer={"a": "{/input/a}"})
    assert lacking(workflow, {"a": 1}) is None
    assert lacking(workflow, None) == "answer.a: /input/a points nowhere"


@pytest.mark.parametrize(
    "number",
    [
        *("12345678901234567890123", "-9223372036854775809", "18446744073709551616", "0.1234567890123456789", "1E-400"),
        *("9007199254740993", "9223372036854775807", "123456789012345678", "0.5", "-0.25", "10", "1e5"),
    ],
)  # fmt: skip
def test_a_number_is_passed_on_as_it_came(number: str) -> None:
    """Also one that a float or 64 bits cannot hold: it may be the id of an order."""
    given = read(b'{"id": %b, "of": [[%b]]}' % (number.encode(), number.encode()))
    request_ = SagaRequest(
        "a",
        "POST",
        "/o/{/input/id}?id={/input/id}",
        (("X-Id", "{/input/id}"),),
        {"id": "{/input/id}", "all": "{/input}"},
    )
    workflow = Workflow("w", (SagaStep("s", request_),))
    assert lacking(workflow, given) is None
    made = rendered(request_, document_of("saga_1", given, {}))
    if number != "1e5":
        assert made.target.decode() == f"/o/{number}?id={number}"
        assert made.lines.decode().startswith(f"X-Id: {number}\r\n")
        assert made.body.decode() == f'{{"id":{number},"all":{{"id":{number},"of":[[{number}]]}}}}'
    else:
        assert made.target == b"/o/100000.0?id=100000.0"


def test_what_is_no_json_is_no_json_with_large_numbers_either() -> None:
    for text in (b"[12345678901234567890123", b"NaN", b"[NaN, 12345678901234567890123]", b"1e400", b"\xff"):
        with pytest.raises(ValueError, match=r".+"):
            read(text)
    assert read(b'"12345678901234567890123"') == "12345678901234567890123"
    # Far deeper than can be written again, and no error of the reader.
    deep = b"[" * 1000 + b"12345678901234567890123" + b"]" * 1000
    assert isinstance(read(deep), list)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_a_request_of_what_is_nested_too_deeply_cannot_be_made() -> None:
    """An answer of an upstream can be read with more levels than can be written."""
    request_ = SagaRequest("a", "POST", "/", body={"all": "{/results/pay/id}"})
    with pytest.raises(TemplateError, match="too deeply"):
        rendered(request_, document_of("saga_1", None, {"pay": {"id": nested(300)}}))


@pytest.mark.parametrize(("levels", "lacks"), [(200, None), (201, "the input is nested deeper than 200 levels")])
def test_an_input_is_not_nested_too_deeply(levels: int, lacks: str | None) -> None:
    body: Any = "{/input}"
    for _ in range(50):
        body = {"in": body}
    workflow = Workflow("w", (SagaStep("s", SagaRequest("a", "POST", "/", body=body)),))
    assert lacking(workflow, nested(levels)) == lacks
    if lacks is None:
        rendered(workflow.steps[0].request, document_of("saga_1", nested(levels), {}))
