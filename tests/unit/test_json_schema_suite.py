"""The required cases of the official JSON Schema Test Suite, through our port and through the bytes of a body.

What the port refuses on purpose is listed here, and nothing else may be refused: a case that is not listed must come
out as the suite says, and as the library alone says.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from gateway.validation.json_body import parse
from gateway.validation.schemas import Schema, SchemaError

SUITE = Path(__file__).resolve().parents[1] / "data" / "json_schema_suite"
DIALECTS = {
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft4": "http://json-schema.org/draft-04/schema#",
}
CASES = {"draft2020-12": 1252, "draft7": 913, "draft4": 610}
REMOTES: dict[str, Any] = json.loads((SUITE / "remotes.json").read_text())

# The dialect is a document of somebody else's: which keywords it has would have to be found out.
REFUSED = {
    ("draft2020-12", "vocabulary", "schema that uses custom metaschema with with no validation vocabulary"),
    ("draft2020-12", "vocabulary", "ignore unrecognized optional vocabulary"),
}


def retrieve(uri: str) -> Any:
    try:
        return REMOTES[uri.removesuffix("#")]
    except KeyError:
        raise LookupError("not in the suite") from None


def groups(draft: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for file, found in json.loads((SUITE / f"{draft}.json").read_text()).items():
        for group in found:
            schema = group["schema"]
            if isinstance(schema, dict):
                schema.setdefault("$schema", DIALECTS[draft])
            yield file, group


@pytest.mark.parametrize("draft", DIALECTS)
def test_required_cases_come_out_as_the_suite_and_the_library_say(draft: str) -> None:
    refused, wrong, cases = set(), [], 0
    for file, group in groups(draft):
        schema = group["schema"]
        if isinstance(schema, bool):
            schema = {"$schema": DIALECTS[draft], "not": {"not": {}} if schema else {}}
        try:
            ours = Schema(schema, "local:///suite.json", retrieve)
        except SchemaError:
            refused.add((draft, file, group["description"]))
            continue
        theirs = jsonschema_rs.validator_for(schema, retriever=retrieve)
        for case in group["tests"]:
            cases += 1
            valid = not ours.faults(parse(json.dumps(case["data"]).encode()), 1)
            if valid is not case["valid"] or valid is not theirs.is_valid(case["data"]):
                wrong.append((file, group["description"], case["description"]))
    assert wrong == []
    assert refused == {each for each in REFUSED if each[0] == draft}
    assert cases == CASES[draft]
