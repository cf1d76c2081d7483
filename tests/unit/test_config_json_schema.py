"""`gateway.schema.json`: it is current, and editors that use it say what `gateway check` says."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gateway.config import ConfigError, load
from gateway.config.documents import json_schema
from gateway.config.reading import yaml_tree

REPOSITORY = Path(__file__).parents[2]
SCHEMA: dict[str, Any] = json.loads((REPOSITORY / "gateway.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

UPSTREAM = "upstreams:\n  a:\n    endpoints: ['h:1']\n"


def said(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(yaml_tree.parse(text, "gateway.yaml").root)]


def test_it_is_current() -> None:
    assert json_schema.text() == json.dumps(SCHEMA, indent=2, ensure_ascii=False) + "\n", (
        "python -m gateway.config.documents.json_schema > gateway.schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_it_says_of_each_key_what_it_means() -> None:
    """Of one with keys of its own, these say it. An endpoint has keys with the names of others."""
    definitions = SCHEMA["$defs"]
    without = [
        f"{model}.{key}"
        for model, definition in definitions.items()
        for key, rules in definition["properties"].items()
        if "$ref" not in rules and "description" not in rules
    ]
    assert without == []
    of_host = [definitions[model]["properties"]["host"]["description"] for model in ("FileEndpoint", "FileRoute")]
    assert of_host == ["Where it is.", "Only requests for this host; any."]


def test_the_example_names_it_and_is_valid() -> None:
    text = (REPOSITORY / "gateway.example.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=gateway.schema.json\n")
    assert said(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "routes:\n",
        "upstreams:\n  default: {retry: {max_attempts: 2}}\n",
        f"{UPSTREAM}    timeouts: {{attempt: 500ms, total: 2m}}\n    retry: {{statuses: [500-504, 5xx, 429]}}\n",
        f"{UPSTREAM}    max_connections: ${{MOST:-7}}\n    health_check: {{path: /h, interval: 5}}\n",
        f"{UPSTREAM}routes:\n  - {{name: r, prefix: /r, upstream: a, rate_limit: none, max_body_bytes: 1MiB}}\n",
        f"{UPSTREAM}routes:\n  - {{name: r, prefix: /r, upstream: a, rate_limit: null, methods: [GET]}}\n",
        f"{UPSTREAM}routes:\n  - {{name: r, prefix: /r, upstream: a, deliver: {{enabled: true, schedule: [1, 5m]}}}}\n",
        "upstreams:\n  a:\n    endpoints: [{host: h, port: 1, weight: 2}, 'http://i:2']\n",
    ],
)
def test_what_is_right_for_both(tmp_path: Path, text: str) -> None:
    assert said(text) == []
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    load({"GATEWAY_CONFIG": str(file)}, None)


@pytest.mark.parametrize(
    "text",
    [
        "upstream: {}\n",
        "upstreams: []\n",
        "upstreams:\n  a: {}\n",
        f"{UPSTREAM}    failure_threshold: 5\n",
        f"{UPSTREAM}    timeouts: {{attempt: 5 sec}}\n",
        f"{UPSTREAM}    timeouts: {{attempt: 4000}}\n",
        f"{UPSTREAM}    retry: {{max_attempts: 0}}\n",
        f"{UPSTREAM}    retry: {{max_attempts: '5'}}\n",
        f"{UPSTREAM}    retry: {{statuses: [200]}}\n",
        f"{UPSTREAM}    balance: random\n",
        f"{UPSTREAM}routes:\n  - {{name: r, path: /r, upstream: a}}\n",
        f"{UPSTREAM}routes:\n  - {{name: r, prefix: /r, upstream: a, strip_prefix: yes}}\n",
        f"{UPSTREAM}routes:\n  - {{name: r, prefix: /r, upstream: a, max_body_bytes: 1M}}\n",
    ],
)
def test_what_is_wrong_for_both(tmp_path: Path, text: str) -> None:
    assert said(text)
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        load({"GATEWAY_CONFIG": str(file)}, None)
