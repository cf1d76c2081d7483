"""Fallbacks in the configuration: what a route says, and what cannot work."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import ConfigError, load, read
from gateway.config.model import GatewayConfig
from gateway.config.report.text import as_text
from gateway.config.sections.fallback.model import CONDITIONS, FallbackConfig, FixedResponse

UPSTREAMS = {name: {"endpoints": [f"127.0.0.1:{port}"]} for name, port in (("a", 1), ("b", 2), ("c", 3))}


def environ(directory: Path, fallback: object, **route: object) -> dict[str, str]:
    file = directory / "gateway.yaml"
    routes = [{"name": "a", "prefix": "/a", "upstream": "a", **route, "fallback": fallback}]
    file.write_text(yaml.safe_dump({"upstreams": UPSTREAMS, "routes": routes}))
    return {"GATEWAY_CONFIG": str(file)}


def config(directory: Path, fallback: object) -> GatewayConfig:
    return load(environ(directory, fallback), None)


def fallback_of(directory: Path, fallback: object) -> FallbackConfig:
    made = config(directory, fallback).routes[0].fallback
    assert made is not None
    return made


def problems(directory: Path, fallback: object, **route: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(environ(directory, fallback, **route), None)
    return str(caught.value).splitlines()


def test_without_a_word_about_it_there_is_none(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    routes = [{"name": "a", "prefix": "/a", "upstream": "a"}]
    file.write_text(yaml.safe_dump({"upstreams": UPSTREAMS, "routes": routes}))
    assert load({"GATEWAY_CONFIG": str(file)}, None).routes[0].fallback is None


def test_the_name_of_an_upstream_is_enough(tmp_path: Path) -> None:
    assert fallback_of(tmp_path, {"upstream": "b"}) == FallbackConfig(upstreams=("b",))
    assert fallback_of(tmp_path, {"upstream": ["b", "c"]}).upstreams == ("b", "c")


def test_what_it_is_used_on_unless_it_says_so(tmp_path: Path) -> None:
    made = fallback_of(tmp_path, {"upstream": "b"})
    assert made.conditions == (*CONDITIONS, "5xx")
    assert (made.non_idempotent, made.after, made.response) == (False, None, None)


def test_conditions_are_words_and_statuses(tmp_path: Path) -> None:
    made = fallback_of(tmp_path, {"upstream": "b", "on": ["timeout", 429, "502-504"], "after": "1500ms"})
    assert (made.on, made.statuses, made.after) == (frozenset({"timeout"}), frozenset({429, 502, 503, 504}), 1.5)
    assert made.conditions == ("timeout", "429", "502", "503", "504")
    assert fallback_of(tmp_path, {"upstream": "b", "on": "5xx"}).conditions == ("5xx",)
    assert fallback_of(tmp_path, {"upstream": "b", "on": 429}).conditions == ("429",)


def test_a_response_is_enough_too(tmp_path: Path) -> None:
    response = {"status": 200, "body": "[]", "content_type": "application/json"}
    made = fallback_of(tmp_path, {"response": response})
    assert (made.upstreams, made.response) == ((), FixedResponse(200, "[]", "application/json"))


def test_an_upstream_that_only_a_fallback_leads_to_is_used(tmp_path: Path) -> None:
    loaded = read(environ(tmp_path, {"upstream": "b"}), None)
    unused = [notice.source for notice in loaded.notices if notice.text == "no route uses it"]
    assert [source.split()[1] for source in unused] == ["upstreams.c"]


def test_gateway_routes_has_a_table_of_fallbacks(tmp_path: Path) -> None:
    wanted = {"upstream": ["b", "c"], "on": ["timeout", "5xx"], "after": 2, "response": {"status": 503}}
    loaded = read(environ(tmp_path, wanted), None)
    lines = [line.split() for line in as_text(loaded, {}, 1).splitlines()]
    row = next(line for line in lines if line[:3] == ["a", "b", "c"])
    assert row == ["a", "b", "c", "timeout,5xx", "2s", "no", "no", "503", "text/plain;", "charset=utf-8"]


@pytest.mark.parametrize(
    ("wanted", "about"),
    [
        ({}, "an upstream, a response or stale_if_error"),
        ({"upstream": []}, "an upstream, a response or stale_if_error"),
        ({"upstream": "d"}, "a, b, c"),
        ({"upstream": ["b", "bb"]}, "did you mean b"),
        ({"upstream": "a"}, "not that of the route"),
        ({"upstream": ["b", "b"]}, "each upstream once"),
        ({"upstream": "b", "on": []}, "a list of circuit_open"),
        ({"upstream": "b", "on": ["timeot"]}, "did you mean timeout"),
        ({"upstream": "b", "on": [200]}, "statuses from 400 to 599"),
        ({"upstream": "b", "on": [True]}, "statuses from 400 to 599"),
        ({"upstream": "b", "on": ["6xx"]}, "statuses from 400 to 599"),
        ({"upstream": "b", "after": 0}, "a number"),
        ({"upstream": "b", "when": "5xx"}, "upstream, on, after"),
        ({"upstream": "b", "response": {"body": "x"}}, "with a status"),
        ({"response": {"status": 204, "body": "x"}}, "no body with 204"),
        ({"response": {"status": 101}}, "from 200 to 599"),
        ({"response": {"status": 200, "content_type": "json"}}, "a media type"),
        ({"response": {"status": 200, "content_type": "a/b\r\nX: y"}}, "a media type"),
    ],
)
def test_what_cannot_work_is_said(wanted: Any, about: str, tmp_path: Path) -> None:
    (line,) = problems(tmp_path, wanted)
    assert "routes[0].fallback" in line
    assert about in line


def test_a_route_that_delivers_has_no_fallback(tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path}/journal.db"
    with pytest.raises(ConfigError, match="nothing on a route with deliver"):
        load({**environ(tmp_path, {"upstream": "b"}, deliver={"enabled": True}), "JOURNAL_URL": journal}, None)
