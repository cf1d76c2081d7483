"""The gate that compares requests with the rules of a route: what it decides at once, and what it waits for."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.config.reading.text_files import Texts
from gateway.config.sections.headers.model import FieldChanges
from gateway.config.sections.validation.model import RouteValidation
from gateway.identity.withheld import withheld
from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.field_edits import edits_of
from gateway.proxy.gate import PASS, WAIT, Question, Verdict
from gateway.proxy.gates.validation import Sending, ValidationGate, ValidationParts
from gateway.proxy.requests.body import RequestBody
from gateway.proxy.ticket import Ticket
from gateway.syntax.path_template import PathRewrite
from gateway.telemetry.log.validation_lines import ValidationLines
from gateway.validation.apart import Apart
from gateway.validation.openapi.document import OpenApiRules
from gateway.validation.rules import SchemaRules
from tests.support.tickets import request, ticket

SCHEMA = {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}}}
JSON = "Content-Type: application/json"


@pytest.fixture
def rules(tmp_path: Path) -> SchemaRules:
    (tmp_path / "order.json").write_text(json.dumps(SCHEMA))
    return SchemaRules(str(tmp_path / "order.json"), Texts().read)


def gate_of(rules: SchemaRules, *, enforce: bool = True, limit: int = 100) -> ValidationGate:
    config = RouteValidation("order.json", rules, enforce=enforce, max_body_bytes=limit)
    return ValidationGate(
        "a", Sending(b"/a"), config, ValidationParts(ValidationLines(each=False), Apart([rules], 1.0))
    )


def posted(*lines: str, method: str = "POST") -> Ticket:
    made = ticket(request(b"/a/x?q=1", *lines, method=method))
    made.body = RequestBody(0)
    return made


def answer(verdict: Verdict) -> tuple[int, str]:
    assert isinstance(verdict, Refusal)
    return verdict.status, verdict.reason


def judged(gate: ValidationGate, *pieces: bytes, method: str = "POST") -> Refusal | None:
    """What the request gets whose body comes in these pieces."""
    asked = posted(JSON, "Transfer-Encoding: chunked", method=method)
    assert gate.check(asked) is WAIT
    told: list[Refusal | OwnAnswer | None] = []
    gate.start(asked, told.append)
    assert asked.body is not None
    for piece in pieces:
        asked.body.received += len(piece)
        asked.body.hold(piece)
    asked.body.end()
    (verdict,) = told
    assert verdict is PASS or isinstance(verdict, Refusal)
    return verdict


def test_a_chunked_body_without_a_byte_is_none(rules: SchemaRules) -> None:
    gate = gate_of(rules)
    missing = judged(gate)
    assert answer(missing) == (400, "body_malformed")
    assert isinstance(missing, Refusal)
    assert missing.detail == "the request has no body, and one is needed"
    # DELETE may have a body and needs none.
    assert judged(gate, method="DELETE") is PASS
    assert answer(judged(gate, b" ", method="DELETE")) == (400, "body_malformed")


def test_what_the_head_tells_is_refused_at_once(rules: SchemaRules) -> None:
    gate = gate_of(rules)
    assert gate.check(posted(method="GET")) is PASS
    assert answer(gate.check(posted())) == (400, "body_malformed")
    assert answer(gate.check(posted("Content-Length: 5"))) == (415, "unsupported_media_type")
    assert answer(gate.check(posted("Content-Length: 5", "Content-Type: text/xml"))) == (415, "unsupported_media_type")
    assert answer(gate.check(posted("Content-Length: 101", JSON))) == (413, "body_too_large")
    encoded = gate.check(posted("Content-Length: 5", JSON, "Content-Encoding: gzip"))
    assert isinstance(encoded, Refusal)
    assert encoded.extra == b"Accept-Encoding: identity\r\n"
    assert gate.counts["unsupported_media_type"] == 3


def test_a_body_is_waited_for_and_judged_as_a_whole(rules: SchemaRules) -> None:
    gate = gate_of(rules)
    assert judged(gate, b'{"sk', b'u": "a"}') is PASS
    refusal = judged(gate, b'{"sku": 5}')
    assert answer(refusal) == (422, "validation_failed")
    assert refusal is not None
    assert refusal.members == {"errors": [{"detail": "must be of type string", "pointer": "#/sku"}]}
    assert answer(judged(gate, b"{")) == (400, "body_malformed")
    assert answer(judged(gate)) == (400, "body_malformed")
    assert answer(judged(gate, b" " * 60, b" " * 60)) == (413, "body_too_large")
    assert {key: count for key, count in gate.counts.items() if count} == {
        "valid": 1,
        "validation_failed": 1,
        "body_malformed": 2,
        "body_too_large": 1,
    }


async def awaited(gate: ValidationGate, body: bytes) -> tuple[bool, Any]:
    """Whether the request is answered at once, and the members of its refusal."""
    asked = posted(JSON, f"Content-Length: {len(body)}")
    assert gate.check(asked) is WAIT
    told: asyncio.Queue[Refusal | OwnAnswer | None] = asyncio.Queue()
    gate.start(asked, told.put_nowait)
    assert asked.body is not None
    asked.body.received = len(body)
    asked.body.hold(body)
    asked.body.end()
    at_once = not told.empty()
    async with asyncio.timeout(60):
        refusal = await told.get()
    assert isinstance(refusal, Refusal)
    assert answer(refusal) == (422, "validation_failed")
    assert refusal.members is not None
    return at_once, refusal.members["errors"]


async def test_what_is_wrong_with_many_values_is_told_by_another_process_as_far_as_it_can_be(tmp_path: Path) -> None:
    """With alternatives the library makes an error of each value, which would take the event loop a second here."""
    alternatives = [{"items": {"type": "string", "minLength": each}} for each in range(10)]
    (tmp_path / "order.json").write_text(json.dumps({"oneOf": alternatives}))
    rules = SchemaRules(str(tmp_path / "order.json"), Texts().read)
    apart = Apart([rules], 60.0)
    config = RouteValidation("order.json", rules, max_body_bytes=2_000_000)
    gate = ValidationGate("a", Sending(b"/a"), config, ValidationParts(ValidationLines(each=False), apart))
    where = [{"detail": "must match exactly one of the alternatives (oneOf)", "pointer": "#"}]
    assert await awaited(gate, b"[0,0]") == (True, where)
    assert await awaited(gate, b"[" + b"0," * 300 + b"0]") == (False, where)
    # It would take most of a minute, and that process would be killed.
    untold = [{"detail": "does not satisfy the schema, and to say where would take too long", "pointer": "#"}]
    assert await awaited(gate, b"[" + b"0," * 900_000 + b"0]") == (False, untold)
    assert await awaited(gate, b"[" + b"0," * 300 + b"0]") == (False, where)
    await apart.stop()


def test_a_route_that_only_reports_lets_everything_pass(rules: SchemaRules) -> None:
    gate = gate_of(rules, enforce=False)
    for lines in ((), ("Content-Length: 5",), ("Content-Length: 101", JSON)):
        asked = posted(*lines)
        assert gate.check(asked) is PASS
        assert asked.log_decisions["validation"] in gate.counts
    assert judged(gate, b'{"sku": 5}') is PASS
    assert judged(gate, b" " * 101) is PASS
    assert gate.counts["valid"] == 0
    assert sum(gate.counts.values()) == 5


def test_a_request_that_has_ended_is_judged_no_more(rules: SchemaRules) -> None:
    gate = gate_of(rules)
    asked = posted(JSON, "Content-Length: 2")
    told: list[Refusal | OwnAnswer | None] = []
    assert gate.check(asked) is WAIT
    gate.start(asked, told.append)
    assert asked.body is not None
    asked.body.forget()
    gate.abandon(asked)
    asked.body.end()
    assert told == []


async def test_it_explains_what_it_does(rules: SchemaRules) -> None:
    gate = gate_of(rules)
    found = await gate.explain(Question("192.0.2.1", False, "POST", 0.0))
    assert (found["policy"], found["decision"]) == ("validation", "wait")
    assert "order.json" in found["detail"]
    assert gate.describe()["mode"] == "enforce"


def test_lines_are_summed_for_each_route(caplog: pytest.LogCaptureFixture) -> None:
    lines = ValidationLines(each=False)
    for reason in ("body_malformed", "validation_failed", "validation_failed"):
        lines.failed("a", reason, b"id", "detail", (), refused=True)
    lines.failed("b", "validation_failed", b"id", "detail", (), refused=False)
    lines.write()
    lines.write()
    assert [record.getMessage() for record in caplog.records] == [
        "validation failed: 3 requests for route a (body_malformed 1, validation_failed 2)",
        "validation failed: 1 request for route b (validation_failed 1)",
    ]


def test_a_path_that_is_the_prefix_alone_is_the_root_of_the_api(tmp_path: Path) -> None:
    document = {"openapi": "3.1.0", "paths": {"/": {"get": {}}, "/x": {"put": {}}}}
    (tmp_path / "api.json").write_text(json.dumps(document))
    rules = OpenApiRules(str(tmp_path / "api.json"), Texts().read)
    config = RouteValidation("api.json", rules)
    gate = ValidationGate(
        "a", Sending(b"/a"), config, ValidationParts(ValidationLines(each=False), Apart([rules], 1.0))
    )
    for target in (b"/a", b"/a?q=1", b"/a/", b"/a/?q=1"):
        assert gate.check(ticket(request(target))) is PASS
    assert answer(gate.check(ticket(request(b"/a/x")))) == (405, "unknown_operation")
    assert answer(gate.check(ticket(request(b"/a/y")))) == (404, "unknown_operation")
    assert gate.describe()["unknown_operation"] == "refuse"


def test_a_path_that_is_rewritten_is_compared_as_the_upstream_gets_it(tmp_path: Path) -> None:
    query = [{"name": "n", "in": "query", "schema": {"type": "integer"}}]
    paths = {"/v2/accounts/{id}": {"get": {"parameters": query}}, "/other": {"get": {}}}
    document = {"openapi": "3.1.0", "info": {"title": "a", "version": "1"}, "paths": paths}
    (tmp_path / "api.json").write_text(json.dumps(document))
    found = OpenApiRules(str(tmp_path / "api.json"), Texts().read)
    parts = ValidationParts(ValidationLines(each=False), Apart([found], 1.0))
    rewrites = (PathRewrite("/a/users/{id}", "/v2/accounts/{id}"),)
    gate = ValidationGate("a", Sending(b"/a", rewrites), RouteValidation("api.json", found), parts)
    assert gate.check(ticket(request(b"/a/users/5?n=1"))) is PASS
    assert answer(gate.check(ticket(request(b"/a/users/5?n=x")))) == (422, "validation_failed")
    assert gate.check(ticket(request(b"/a/other"))) is PASS
    assert answer(gate.check(ticket(request(b"/a/users/5/x")))) == (404, "unknown_operation")


def test_headers_are_compared_as_the_upstream_gets_them(tmp_path: Path) -> None:
    """Fields that the route sets, and those that claims of a token make: the client need not send them, and cannot."""
    wanted = {"X-Region": {"enum": ["eu"]}, "X-Mail": {"pattern": "@"}, "X-Own": {"type": "integer"}}
    parameters = [{"in": "header", "name": name, "required": True, "schema": each} for name, each in wanted.items()]
    paths = {"/x": {"get": {"parameters": parameters}}}
    document = {"openapi": "3.1.0", "info": {"title": "a", "version": "1"}, "paths": paths}
    (tmp_path / "api.json").write_text(json.dumps(document))
    found = OpenApiRules(str(tmp_path / "api.json"), Texts().read)
    edits = edits_of(FieldChanges(set=(("X-Region", "eu"),)))
    assert edits is not None
    sending = Sending(b"", (), withheld("X-API-Key", ("jwt",), ("X-Mail",)), edits)
    parts = ValidationParts(ValidationLines(each=False), Apart([found], 1.0))
    gate = ValidationGate("a", sending, RouteValidation("api.json", found), parts)
    asked = ticket(request(b"/x", "X-Own: 5", "X-Region: us", "X-Mail: forged"))
    refused = gate.check(asked)
    assert isinstance(refused, Refusal)
    assert refused.members == {"errors": [{"detail": "is missing", "in": "header", "parameter": "X-Mail"}]}
    asked.caller_lines = b"X-Consumer: login:a\r\nX-Mail: a@b\r\n"
    assert gate.check(asked) is PASS
    assert answer(gate.check(ticket(request(b"/x", "X-Own: a")))) == (422, "validation_failed")


def test_a_body_is_of_the_type_that_the_upstream_is_told(rules: SchemaRules) -> None:
    edits = edits_of(FieldChanges(set=(("Content-Type", "application/json"),)))
    assert edits is not None
    parts = ValidationParts(ValidationLines(each=False), Apart([rules], 1.0))
    gate = ValidationGate("a", Sending(b"/a", (), None, edits), RouteValidation("order.json", rules), parts)
    for lines in ((), ("Content-Type: text/plain",), ("Content-Type: application/json; charset=utf-16",)):
        assert gate.check(posted("Content-Length: 5", *lines)) is WAIT
