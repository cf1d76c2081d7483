"""Schema files and what they may refer to."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.config.reading.text_files import Texts
from gateway.validation.documents import Documents, parsed
from gateway.validation.rules import SchemaRules
from gateway.validation.schemas import Schema, SchemaError


def written(directory: Path, **files: Any) -> Path:
    for name, content in files.items():
        path = directory / name.replace("__", "/").replace("_json", ".json").replace("_yaml", ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return directory


def compiled(path: Path) -> Schema:
    documents = Documents(path, Texts().read)
    return Schema(documents.root, documents.uri, documents.retrieve)


def test_files_below_the_directory_may_be_referred_to(tmp_path: Path) -> None:
    written(
        tmp_path,
        a_json={"properties": {"x": {"$ref": "parts/b.yaml#/$defs/x"}}},
        parts__b_yaml="$defs: {x: {$ref: c.json}}",
        parts__c_json={"$ref": "../a.json#/$defs/z", "type": "integer"},
    )
    (tmp_path / "a.json").write_text(
        json.dumps({"properties": {"x": {"$ref": "parts/b.yaml#/$defs/x"}}, "$defs": {"z": {"minimum": 3}}})
    )
    found = compiled(tmp_path / "a.json").faults({"x": 2}, 1)
    assert [(each.pointer, each.detail) for each in found] == [("#/x", "must be at least 3")]


def test_a_document_with_an_id_finds_the_files_beside_it(tmp_path: Path) -> None:
    written(
        tmp_path,
        a_json={"$id": "https://schemas.example/v1/a.json", "$ref": "b.json"},
        b_json={"$id": "https://schemas.example/v1/b.json", "type": "null"},
    )
    assert compiled(tmp_path / "a.json").faults(1, 1) != []


@pytest.mark.parametrize(
    "reference",
    [
        "https://schemas.example/a.json",
        "http://127.0.0.1:1/a.json",
        "file:///etc/passwd",
        "../outside.json",
        "%2e%2e/outside.json",
        "sub/../../outside.json",
        "/etc/passwd",
        "local:///etc/passwd",
        "//schemas.example/a.json",
    ],
)
def test_nothing_else_may_be_referred_to(reference: str, tmp_path: Path) -> None:
    written(tmp_path, outside_json={}, inside__a_json={"$ref": reference})
    with pytest.raises(SchemaError, match="only files below the directory"):
        compiled(tmp_path / "inside" / "a.json")


def test_what_is_referred_to_and_cannot_be_used_is_named(tmp_path: Path) -> None:
    written(tmp_path, a_json={"$ref": "gone.json"}, b_json={"$ref": "broken.json"}, broken_json='{"a": }')
    with pytest.raises(SchemaError, match=r"gone\.json is not a readable file"):
        compiled(tmp_path / "a.json")
    with pytest.raises(SchemaError, match=r"broken\.json: not JSON: .*line 1 column 7"):
        compiled(tmp_path / "b.json")


def test_yaml_is_read_by_the_rules_of_json() -> None:
    text = "country: no\nday: 2024-01-01\nresponses: {200: ok}\ntime: 12:30\nn: 1.5\nnone:\nyes: true"
    assert parsed(text, yaml_allowed=True) == {
        "country": "no",
        "day": "2024-01-01",
        "responses": {"200": "ok"},
        "time": "12:30",
        "n": 1.5,
        "none": None,
        "yes": True,
    }
    with pytest.raises(SchemaError, match="not YAML: line 2"):
        parsed("a: [\nb: }", yaml_allowed=True)


def test_the_digest_changes_with_every_file_that_was_read(tmp_path: Path) -> None:
    written(tmp_path, a_json={"$ref": "b.json"}, b_json={})
    first = SchemaRules(str(tmp_path / "a.json"), Texts().read).digest
    written(tmp_path, b_json={"type": "null"})
    assert SchemaRules(str(tmp_path / "a.json"), Texts().read).digest != first


def test_what_one_process_has_read_another_reads_again(tmp_path: Path) -> None:
    written(tmp_path, a_json={"$ref": "b.json"}, b_json={"type": "null"})
    texts = Texts()
    digest = SchemaRules(str(tmp_path / "a.json"), texts.read).digest
    (tmp_path / "b.json").unlink()
    assert SchemaRules(str(tmp_path / "a.json"), Texts(texts.seen).read).digest == digest


def test_aliases_of_aliases_make_no_endless_document() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    with pytest.raises(SchemaError, match="aliases that repeat more than"):
        parsed("\n".join(lines), yaml_allowed=True)
