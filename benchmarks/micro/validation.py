"""What it costs to validate a request, beside only holding its body."""

import json
from collections.abc import Iterator

from benchmarks.micro.timing import Case
from gateway.config.sections.validation.model import RouteValidation
from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.gate import PASS, WAIT
from gateway.proxy.gates.validation import Sending, ValidationGate, ValidationParts
from gateway.proxy.requests.body import RequestBody
from gateway.proxy.requests.identity import Identification
from gateway.proxy.ticket import Ticket
from gateway.telemetry.log.validation_lines import ValidationLines
from gateway.telemetry.metrics.route_cells import RouteCells
from gateway.telemetry.record import LogPart, RouteAccount
from gateway.validation.apart import Apart
from gateway.validation.json_body import parse
from gateway.validation.openapi.document import OpenApiRules
from gateway.validation.rules import Rules, SchemaRules
from gateway.wire.message.request import Limits, Request, check, parse_fields

_ITEM = {
    "type": "object",
    "required": ["sku", "quantity"],
    "additionalProperties": False,
    "properties": {
        "sku": {"type": "string", "pattern": "^[a-z]+-[0-9]+$"},
        "quantity": {"type": "integer", "minimum": 1},
        "price": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "url": {"type": "string", "maxLength": 100},
    },
}
_SCHEMA = {
    "type": "object",
    "required": ["id", "items"],
    "properties": {"id": {"type": "string", "format": "uuid"}, "items": {"type": "array", "items": _ITEM}},
}
_BODY = json.dumps(
    {
        "id": "5f0c1a52-8f5c-4d40-9a5c-0f6e3a1f9c11",
        "items": [
            {
                "sku": f"abc-{at}",
                "quantity": at,
                "price": at * 1.5,
                "tags": ["x", "y"],
                "url": f"https://a.example/{at}",
            }
            for at in range(1, 11)
        ],
        "note": "x" * 60,
    },
    separators=(",", ":"),
).encode()
_API = {
    "openapi": "3.1.0",
    "paths": {
        "/customers/{customer}/orders": {
            "post": {
                "parameters": [
                    {"name": "customer", "in": "path", "required": True, "schema": {"type": "integer"}},
                    {"name": "dry", "in": "query", "schema": {"type": "boolean"}},
                ],
                "requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}},
            }
        }
    },
}
_PATH = b"/customers/5/orders?dry=true"
_FIELDS = (
    b"Host: a.example\r\nUser-Agent: benchmark\r\nAccept: */*\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(_BODY)
)


def cases() -> Iterator[tuple[str, Case]]:
    """The second one less the first one is what a route with a schema pays for a body of 1 KB."""
    schema = SchemaRules("schema.json", lambda _: json.dumps(_SCHEMA))
    api = OpenApiRules("api.json", lambda _: json.dumps(_API))
    if not 900 <= len(_BODY) <= 1100:
        raise RuntimeError(f"the body has {len(_BODY)} bytes")
    yield "validation: hold 1 KB", _held()
    yield "validation: hold and validate 1 KB, JSON Schema", _validated(schema)
    yield "validation: hold and validate 1 KB, OpenAPI", _validated(api)
    yield "validation: parse 1 KB", lambda: parse(_BODY)
    yield "validation: find an operation", lambda: api.find("POST", b"/customers/5/orders")


def _ticket() -> Ticket:
    request = Request("POST", _PATH, 1, parse_fields(_FIELDS, Limits()))
    check(request)
    origin = Identification((), "gateway").direct("192.0.2.1", "http")
    return Ticket(request, origin, RouteAccount("a", "b", RouteCells()), LogPart({}), b"0" * 32, 0.0)


def _arrive(body: RequestBody) -> None:
    body.received += len(_BODY)
    body.hold(_BODY)
    body.end()


def _held() -> Case:
    ticket = _ticket()

    def hold() -> None:
        body = ticket.body = RequestBody(0)
        body.collect(1_048_576, lambda _: None)
        _arrive(body)

    return hold


def _validated(rules: Rules) -> Case:
    config = RouteValidation(rules.file, rules)
    gate = ValidationGate("a", Sending(), config, ValidationParts(ValidationLines(each=False), Apart([rules], 1.0)))
    ticket = _ticket()

    def resumed(verdict: Refusal | OwnAnswer | None) -> None:
        if verdict is not PASS:
            raise RuntimeError(f"not what was to be timed: {verdict!r}")

    def validate() -> None:
        if gate.check(ticket) is not WAIT:
            raise RuntimeError("not what was to be timed")
        body = ticket.body = RequestBody(0)
        gate.start(ticket, resumed)
        _arrive(body)

    return validate
