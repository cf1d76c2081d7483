"""`validate` of a route: what is wrong with it is said with its place, before anything starts."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import ConfigError, read
from gateway.config.loading import Loaded
from gateway.config.reading.text_files import Texts


def loaded(directory: Path, validate: Any, env: dict[str, str] | None = None, **files: Any) -> Loaded:
    for name, content in {"order": {"type": "object"}, **files}.items():
        (directory / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    if isinstance(validate, dict) and "schema" in validate:
        validate = validate | {"schema": str(directory / validate["schema"])}
    route = {"name": "orders", "prefix": "/orders", "upstream": "o", "validate": validate}
    file = directory / "gateway.yaml"
    file.write_text(yaml.safe_dump({"upstreams": {"o": {"endpoints": ["a:1"]}}, "routes": [route]}))
    return read({"GATEWAY_CONFIG": str(file), **(env or {})}, None)


def problems(directory: Path, validate: Any, **files: Any) -> str:
    with pytest.raises(ConfigError) as found:
        loaded(directory, validate, **files)
    return str(found.value).replace(str(directory), "DIR")


def test_what_is_set_is_in_effect(tmp_path: Path) -> None:
    found = loaded(tmp_path, {"schema": "order.json", "max_body_bytes": "2MiB", "mode": "report"})
    (route,) = found.config.routes
    assert route.validation is not None
    assert (route.validation.enforce, route.validation.max_body_bytes) == (False, 2 * 1024 * 1024)
    assert route.validation.file.endswith("order.json")
    assert found.notices == ()


def test_the_toggles_of_the_runbook(tmp_path: Path) -> None:
    env = {"VALIDATION_STRICT_MODE": "false", "VALIDATION_TIMEOUT_MS": "5000", "LOG_VALIDATION_ERRORS": "true"}
    found = loaded(tmp_path, {"schema": "order.json"}, env)
    validation = found.config.routes[0].validation
    assert validation is not None
    whole = found.config.validation
    assert (whole.strict, whole.timeout, whole.log_errors) == (False, 5.0, True)
    assert ["VALIDATION_STRICT_MODE is false" in notice.text for notice in found.notices] == [True]


def test_a_route_that_says_nothing_is_not_validated(tmp_path: Path) -> None:
    assert loaded(tmp_path, {}).config.routes[0].validation is None


@pytest.mark.parametrize(
    ("validate", "words"),
    [
        ({"mode": "report"}, "routes[0].validate: a mapping; allowed: only with schema or openapi, which name a file"),
        ({"schema": "order.json", "openapi": "api.yaml"}, "only without schema: one of the two"),
        ({"openapi": "gone.yaml"}, "an OpenAPI document that can be used; gone.yaml is not a readable file in UTF-8"),
        ({"schema": "gone.json"}, "gone.json is not a readable file in UTF-8"),
        ({"schema": "broken.json"}, "broken.json: not JSON"),
        ({"schema": "typo.json"}, "#/properties/a/type: "),
        ({"schema": "remote.json"}, "only files below the directory of the document may be referred to"),
        ({"schema": "order.json", "mode": "warn"}, "enforce or report"),
        ({"schema": "order.json", "max_body_bytes": "1GiB"}, "from 1 to 67108864"),
        ({"schemas": "order.json"}, "did you mean schema?"),
        ("order.json", "a mapping"),
    ],
)
def test_a_mistake_is_named_with_its_place(validate: Any, words: str, tmp_path: Path) -> None:
    files = {
        "broken": "{",
        "typo": {"properties": {"a": {"type": "strin"}}},
        "remote": {"$ref": "https://schemas.example/a.json"},
    }
    said = problems(tmp_path, validate, **files)
    assert words in said
    assert said.startswith("DIR/gateway.yaml:")
    assert "\n" not in said


def test_without_the_library_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert "pip install 'resilient-api-gateway[validation]'" in problems(tmp_path, {"schema": "order.json"})


def test_all_workers_have_the_schema_that_the_first_one_has_read(tmp_path: Path) -> None:
    (tmp_path / "order.json").write_text('{"$ref": "part.json"}')
    (tmp_path / "part.json").write_text('{"type": "object"}')
    file = tmp_path / "gateway.yaml"
    route = {"name": "a", "prefix": "/a", "upstream": "o", "validate": {"schema": str(tmp_path / "order.json")}}
    file.write_text(yaml.safe_dump({"upstreams": {"o": {"endpoints": ["a:1"]}}, "routes": [route]}))
    texts = Texts()
    read({"GATEWAY_CONFIG": str(file)}, None, texts)
    (tmp_path / "part.json").write_text("{")
    again = read({"GATEWAY_CONFIG": str(file)}, None, Texts(texts.seen))
    assert again.config.routes[0].validation is not None
