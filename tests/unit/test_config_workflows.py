"""Workflows in the configuration: what the file says, and what cannot work."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import ConfigError, load, read
from gateway.config.model import GatewayConfig
from gateway.config.sections.workflows.model import SagaLimits
from gateway.saga.workflow import SagaRequest, SagaStep, Workflow, decoded, encoded, within

UPSTREAMS = {
    "keys": {"endpoints": ["127.0.0.1:1"], "honours_idempotency_key": True},
    "none": {"endpoints": ["127.0.0.1:2"]},
}
ROUTE = {"name": "a", "prefix": "/a", "workflow": "w"}


def step(name: str = "one", **more: Any) -> dict[str, Any]:
    return {"name": name, "upstream": "keys", "path": "/", "compensate": "none", **more}


def written(directory: Path, *steps: Any, route: dict[str, Any] = ROUTE, **workflow: Any) -> dict[str, str]:
    file = directory / "gateway.yaml"
    whole = {"upstreams": UPSTREAMS, "workflows": {"w": {"steps": list(steps), **workflow}}, "routes": [route]}
    file.write_text(yaml.safe_dump(whole))
    return {"GATEWAY_CONFIG": str(file), "JOURNAL_URL": f"sqlite:///{directory}/journal.db"}


def config(directory: Path, *steps: Any, **more: Any) -> GatewayConfig:
    return load(written(directory, *steps, **more), None)


def problems(directory: Path, *steps: Any, **more: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config(directory, *steps, **more)
    return [line.partition("gateway.yaml:")[2] for line in str(caught.value).splitlines()]


def test_what_is_left_out_has_its_defaults(tmp_path: Path) -> None:
    made = config(tmp_path, step())
    assert made.journal_needed
    assert made.sagas == SagaLimits()
    request = SagaRequest("keys", "POST", "/", honours_key=True)
    workflow = Workflow("w", (SagaStep("one", request),))
    assert made.workflows == {"w": workflow}
    route = made.routes[0]
    assert (route.workflow, route.upstream, route.methods) == (workflow, "keys", frozenset({"POST"}))


def test_all_that_can_be_said(tmp_path: Path) -> None:
    undo = {"method": "DELETE", "path": "/x/{/results/one/id}", "upstream": "none", "success": ["2xx", 404]}
    one = step(
        method="PUT",
        path="/x?a={/input/a}",
        headers={"X-A": "{/run/id}"},
        body={"a": ["{/input/b}", 1, None, True]},
        success=[200, "201-202"],
        failed=["4xx"],
        timeout="3s",
        retry={"max_attempts": 2, "base_delay": "1s", "max_delay": "1m"},
        compensate=undo,
    )
    made = config(
        tmp_path, one, step("two", pivot=True, compensate="none"), deadline="5m", completion_deadline="2h",
        answer={"id": "{/results/two/id}"}, max_input_bytes="1KiB", max_result_bytes=0,
    ).workflows["w"]  # fmt: skip
    first, second = made.steps
    assert first.request.success == ((200, 200), (201, 202))
    assert first.request.failed == ((400, 499),)
    assert (first.max_attempts, first.base_delay, first.max_delay) == (2, 1.0, 60.0)
    assert first.undo is not None
    assert (first.undo.upstream, first.undo.method, first.undo.honours_key) == ("none", "DELETE", False)
    assert first.undo.success == ((200, 299), (404, 404))
    assert second.pivot
    assert (made.deadline, made.completion_deadline, made.max_input_bytes) == (300.0, 7200.0, 1024)
    assert made.upstreams == {"keys", "none"}
    assert decoded(encoded(made)) == made


@pytest.mark.parametrize(
    "text", [b"{", b"{}", b"[]", b'{"name": "w", "steps": [{}]}', b'{"name":"w","steps":[],"x":1}']
)
def test_a_definition_that_cannot_be_understood(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decoded(text)


def test_statuses() -> None:
    assert within(204, ((200, 299),))
    assert not within(300, ((200, 299), (301, 301)))


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"upstream": "key"}, '"key"; allowed: keys, none; did you mean keys?'),
        (
            {"path": "/{/inputs/a}"},
            '"{/inputs/a}"; allowed: /input or /results/<step> or /run/id; did you mean {/input/a}?',
        ),
        ({"path": "/{input.a}"}, '"{input.a}"; allowed: a place is written {/input/…}'),
        ({"path": "/{/input/a"}, "did you mean {/input/a}?"),
        ({"path": "/{id}"}, '"{id}"; allowed: a place is written {/input/…}'),
        ({"path": "/}"}, "a place is written"),
        ({"body": "{ /input/a }"}, '"{ /input/a }"'),
        ({"body": {"a": [1, "{{/imput/a}}"]}}, "did you mean {/input/a}?"),
        ({"body": {"a": [1, "{{/imput/a}}"]}}, "body.a[1]: "),
        ({"headers": {"X-A": "{{run.id}}"}}, "headers.X-A: "),
        ({"headers": {"X-A": "$${run.id}"}}, "did you mean {/run/id}?"),
        ({"body": "{{steps.x.body.y}}"}, '"{{steps.x.body.y}}"; allowed: a place is written'),
        ({"body": {"{/input/a}": 1}}, "names of members are sent as they stand"),
        ({"path": "/{/results/two/id}"}, "/results/<step> of an earlier step: none"),
        ({"body": {"a": "{/results/one/id}"}}, "/results/<step> of an earlier step: none"),
        ({"headers": {"X-A": "{/run/name}"}}, "allowed: /run/id"),
        ({"path": "/{/input/~2}"}, "no JSON Pointer"),
        ({"headers": {"Idempotency-Key": "x"}}, "fields that the gateway does not set itself"),
        ({"headers": {"X-A": "a\nb"}}, "text of visible ASCII"),
        ({"path": "x"}, "a path that begins with '/'"),
        ({"path": "/a b"}, "no blanks"),
        ({"compensate": None}, "nothing is said; allowed: compensate: a request that undoes it, or none"),
        ({"compensate": "nothing"}, "a mapping with method and path, or none"),
        ({"compensate": {"method": "DELETE"}}, "compensate.path: missing"),
        (
            {"compensate": {"method": "POST", "path": "/", "upstream": "none"}},
            "PUT or DELETE, or an upstream with honours_idempotency_key: true: a compensation is sent until it works",
        ),
        ({"compensate": {"method": "DELETE", "path": "/{/results/two}"}}, "of an earlier step: one"),
        ({"method": "GET", "compensate": {"method": "DELETE", "path": "/"}}, "nothing: GET changes nothing"),
        ({"pivot": True, "compensate": {"method": "DELETE", "path": "/"}}, "what follows it is never undone"),
        ({"pivot": True, "upstream": "none"}, "from the pivot on, a step is sent until it works"),
        ({"success": [199]}, "statuses from 200 to 599"),
        ({"success": ["299-200"]}, "statuses from 200 to 599"),
        ({"success": [409], "failed": ["400-410"]}, "statuses that are not among those of success"),
        ({"retry": {"base_delay": 60}}, "at most retry.max_delay"),
        ({"retry": {"max_attempts": 0}}, "an integer from 1 to 100"),
        ({"colour": "red"}, "unknown name"),
    ],
)
def test_what_is_wrong_with_a_step(tmp_path: Path, more: dict[str, Any], problem: str) -> None:
    (told,) = problems(tmp_path, {key: value for key, value in step(**more).items() if value is not None})
    assert problem in told
    assert told.partition(" ")[2].startswith("workflows.w.steps[0]")


@pytest.mark.parametrize(
    ("template", "instead"),
    [
        ("{/results/pya/id}", "{/results/pay/id}"),
        ("{/result/pay/id}", "{/results/pay/id}"),
        ("$${steps.pay.body.id}", "{/results/pay/id}"),
        ("for {{ steps.pay.id }}", "{/results/pay/id}"),
        ("{results.pay.items[0].id}", "{/results/pay/items/0/id}"),
        ("{{ inputs.a }}", "{/input/a}"),
    ],
)
def test_what_was_probably_meant_in_a_template(tmp_path: Path, template: str, instead: str) -> None:
    (told,) = problems(tmp_path, step("pay"), step("send", body={"x": {"y": template}}))
    assert told.partition(" ")[2].startswith("workflows.w.steps[1].body.x.y: ")
    assert told.endswith(f"; did you mean {instead}?")


def test_a_place_that_is_written_like_a_variable_is_told_both_ways(tmp_path: Path) -> None:
    told = problems(tmp_path, step("pay"), step("send", body={"x": "${steps.pya.body.y}"}))
    assert ["workflows.w.steps[1].body.x: " in each for each in told] == [True, True]
    assert "a ${ that is not understood" in told[0]
    assert told[1].endswith("did you mean {/results/pay/y}?")


@pytest.mark.parametrize("text", ["{name}", "a { b", "{point}", '{"input": {"a": 1}}', "{}", "{{x}}"])
def test_braces_that_are_no_place_are_text(tmp_path: Path, text: str) -> None:
    made = config(tmp_path, step(body=text, headers={"X-A": text}))
    assert made.workflows["w"].steps[0].request.body == text


def test_what_is_wrong_between_steps(tmp_path: Path) -> None:
    told = problems(tmp_path, step(), step(), step("p", pivot=True), step("q", pivot=True), answer="{/results/x}")
    assert len(told) == 3
    assert "a name of its own within the workflow" in "".join(told)
    assert "one pivot in a workflow" in "".join(told)
    assert "workflows.w.answer" in "".join(told)
    after = {"method": "DELETE", "path": "/"}
    (late,) = problems(tmp_path, step("p", pivot=True), step("late", compensate=after))
    assert "the pivot and what follows it is never undone" in late


def test_behind_the_pivot_and_for_reads_nothing_has_to_be_said(tmp_path: Path) -> None:
    silent = [{key: value for key, value in step(name).items() if key != "compensate"} for name in "pqr"]
    made = config(tmp_path, {**silent[0], "method": "GET"}, {**silent[1], "pivot": True}, silent[2])
    assert [each.undo for each in made.workflows["w"].steps] == [None, None, None]


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ({"workflow": "v"}, "allowed: w"),
        ({"workflow": "w", "upstream": "keys"}, "nothing on a route with workflow"),
        ({"workflow": "w", "deliver": {"enabled": True}}, "nothing on a route with workflow"),
        ({"workflow": "w", "fallback": {"upstream": "none"}}, "nothing on a route with deliver or workflow"),
        ({"workflow": "w", "rewrite": [{"path": "/a", "to": "/b"}]}, "nothing on a route with deliver or workflow"),
        ({"workflow": "w", "methods": ["GET"]}, "POST on a route with workflow"),
        ({}, "missing; allowed: the name of an upstream, or workflow"),
    ],
)
def test_what_is_wrong_with_a_route(tmp_path: Path, route: dict[str, Any], problem: str) -> None:
    told = problems(tmp_path, step(), route={"name": "a", "prefix": "/a", **route})
    assert any(problem in each for each in told), told


def test_a_compensation_that_needs_its_own_answer_is_noticed(tmp_path: Path) -> None:
    undo = {"method": "DELETE", "path": "/x/{/results/one/id}"}
    loaded = read(written(tmp_path, step(compensate=undo)), None)
    (notice,) = [each for each in map(str, loaded.notices) if "compensate" in each]
    assert "it needs the answer of one" in notice


def test_upstreams_of_steps_are_used_and_workflows_without_a_route_are_not(tmp_path: Path) -> None:
    environ = written(tmp_path, step(), route={"name": "a", "prefix": "/a", "upstream": "none"})
    notices = [str(each) for each in read(environ, None).notices]
    assert any("workflows.w: no route uses it" in each for each in notices), notices
    assert not any("upstreams.keys" in each for each in notices)
