"""examples/hooks.yaml as it stands, with the hook beside it."""

import json
from pathlib import Path

import jsonschema

from gateway.config.reading.yaml_tree import parse
from tests.conformance.wire.upstream import ProgrammedUpstream, fresh, ok
from tests.conftest import StartGateway

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/hooks.yaml"


def test_the_example_is_valid_for_its_schema() -> None:
    schema = json.loads((ROOT / "gateway.schema.json").read_text(encoding="utf-8"))
    parsed = parse(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE.name)
    jsonschema.Draft202012Validator(schema).validate(parsed.root)


def test_partners_get_what_they_have_paid_for(start_gateway: StartGateway) -> None:
    with ProgrammedUpstream() as upstream:
        path = fresh()
        upstream.on(path, ok(b"a report", b"Server: secret/1.0", b"Vary: Accept"))
        env = {"GATEWAY_CONFIG": str(EXAMPLE), "HOOKS_DIR": str(ROOT / "examples"), "REPORTS_URL": upstream.url}
        gateway = start_gateway({**env, "WORKERS": "1"})
        answer = gateway.get(f"/reports{path}")
        assert (answer.status, answer.json()["code"]) == (403, "partner_unknown")
        answer = gateway.get(f"/reports{path}", {"X-Partner": "initech"})
        assert (answer.status, answer.json()["code"]) == (402, "plan_too_small")
        answer = gateway.get(f"/reports{path}", {"X-Partner": "acme", "X-Plan": "platinum"})
        assert (answer.status, answer.body) == (200, b"a report")
        assert upstream.only(path).all("X-Plan") == ["gold"]
        assert answer.headers.get_all("Vary") == ["Accept", "X-Partner"]
        assert "Server" not in answer.headers
