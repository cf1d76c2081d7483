"""The OpenAPI 3.1 document, made from the operations and the models that serve them.

The probes and `/metrics`, which are served without those, are described here beside their models.
"""

import asyncio
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.control.api.operation import Operation
from gateway.control.models.faults import FAULT_ID
from gateway.control.models.health import Alive, Breakers, HealthReport, Ready
from gateway.control.models.outbox import MESSAGE_ID
from gateway.control.models.problem import Problem
from gateway.control.models.sagas import SAGA_ID
from gateway.telemetry.metrics.exposition import OPENMETRICS, TEXT

PATH = "/api/openapi.json"
_REF = "#/components/schemas/{model}"
_TOKEN = "adminToken"  # noqa: S105 - the name of a scheme

# Refusals that are possible before the operation is known, and those that are possible for all operations.
_ANY = (408, 414, 431, 500)

_DESCRIPTION = """\
What the gateway knows of itself and of its upstreams, and an operator's hand on their circuits.

Reading needs nothing. Changing needs `Authorization: Bearer $ADMIN_TOKEN`; without a token configured, only requests
from the gateway's own machine that come through no proxy may change anything, and none in production. With
`CONSOLE_AUTH=token` reading needs the token, too.
"""


def document(
    operations: Iterable[Operation[Any, Any]],
    *,
    services: Sequence[str],
    version: str,
    needs_token: bool,
    guards_reading: bool = False,
) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the control plane. `services` are the values that a path parameter may have; with
    `needs_token` the commands are said to need one, and with `guards_reading` the questions, too."""
    operations = [replace(each, private=True) if guards_reading else each for each in operations]
    answers: list[type[BaseModel]] = [HealthReport, Alive, Ready, Breakers, *(each.answer for each in operations)]
    inputs: list[type[BaseModel]] = [Problem, *(each.body for each in operations if each.has_body)]
    named, schemas = models_json_schema(
        [*((model, "serialization") for model in dict.fromkeys(answers)), *((model, "validation") for model in inputs)],
        by_alias=True,
        ref_template=_REF,
    )
    references = {model: schema for (model, _), schema in named.items()}
    paths: dict[str, dict[str, Any]] = {}
    for path, name, summary, model, refusals in (
        ("/health", "health", "The state of the gateway; 200 whatever it is", HealthReport, ()),
        ("/livez", "livez", "Whether the event loop runs", Alive, ()),
        ("/readyz", "readyz", "Whether traffic should come here", Ready, (503,)),
        ("/status/breakers", "breakers", "Every circuit by upstream", Breakers, ()),
    ):
        paths[path] = {"get": _described(name, summary, _json(references[model]), _refusals({*_ANY, *refusals}))}
    paths["/metrics"] = {"get": _described("metrics", "The Prometheus exposition", _text(), _refusals(_ANY))}
    for path, methods in paths.items():
        sample = {"lang": "Shell", "label": "curl", "source": f'curl -s "$GATEWAY_URL{path}"'}
        methods["get"]["x-codeSamples"] = [sample]
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, references, services, needs_token)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gateway control plane", "version": version, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {_TOKEN: {"type": "http", "scheme": "bearer", "description": "ADMIN_TOKEN"}},
        },
    }


def routes(make: Callable[[], dict[str, Any]]) -> list[web.RouteDef]:
    """The document as a route for aiohttp. It is made and encoded once, when somebody asks: that takes a tenth of the
    time of a start. It takes that time in a thread, beside the requests."""

    @functools.cache
    def encoded() -> bytes:
        return orjson.dumps(make(), option=orjson.OPT_APPEND_NEWLINE)

    async def openapi(_: web.Request) -> web.Response:
        """`GET /api/openapi.json`."""
        return web.Response(body=await asyncio.to_thread(encoded), content_type="application/json")

    return [web.get(PATH, openapi)]


_IDS = {"fault": FAULT_ID, "key": "^[a-z0-9]{8,32}$", "message": MESSAGE_ID, "saga": SAGA_ID}
"""The parameters of paths that are ids, and what those look like."""


def _sample(each: Operation[Any, Any], services: Sequence[str], *, needs_token: bool) -> dict[str, str]:
    """An example of a call on a command line, in the form that documentation tools know (`x-codeSamples` of Redocly).

    `GATEWAY_URL` and `ADMIN_TOKEN` are variables of the shell. A header with the token is read from standard input: an
    argument could be seen by everybody on the machine.
    """
    path = each.path.replace(f"{{{each.names_by}}}", services[0] if services else "default")
    required = [f"{name}={_example(rules)}" for name, rules in _required(each.query)]
    for name in ("endpoint", *_IDS):
        path = path.replace(f"{{{name}}}", f"${name.upper()}")
    url = f'"$GATEWAY_URL{path}{"?" if required else ""}{"&".join(required)}"'
    lines = [f"curl -s {url}" if each.method == "GET" else f"curl -s -X {each.method} {url}"]
    if each.needs_access and needs_token:
        lines = [
            """printf 'header = "Authorization: Bearer %s"\\n' "$ADMIN_TOKEN" |""",
            f"  curl -s --config - -X {each.method} {url}",
        ]
    if each.has_body and each.body_required:
        body = {name: _example(rules) for name, rules in _required(each.body)}
        lines[-1] += " \\"
        lines.append(f"    -H 'Content-Type: application/json' -d '{orjson.dumps(body).decode()}'")
    return {"lang": "Shell", "label": "curl", "source": "\n".join(lines)}


def _required(model: type[BaseModel]) -> list[tuple[str, dict[str, Any]]]:
    schema = model.model_json_schema(by_alias=True)
    return [(name, schema["properties"][name]) for name in schema.get("required", ())]


def _example(rules: dict[str, Any]) -> Any:
    if "examples" in rules:
        return rules["examples"][0]
    return "maintenance" if rules.get("type") == "string" else max(60, int(rules.get("minimum", 0)))


def _operation(
    each: Operation[Any, Any], references: dict[Any, Any], services: Sequence[str], needs_token: bool
) -> dict[str, Any]:
    content = _json(references[each.answer])
    content.update({kind: {"schema": {"type": "string"}} for kind in each.also})
    refusals = {*_ANY, *each.refusals}
    parameters = []
    if each.has_service:
        refusals.add(404)
        parameters.append(
            {
                "name": each.names_by,
                "in": "path",
                "required": True,
                "description": f"Name of a {'service' if each.names_by == 'service' else 'upstream'}, in any case",
                "schema": {"type": "string", "minLength": 1, "examples": list(services[:1])},
            }
        )
    for name, pattern in _IDS.items():
        if f"{{{name}}}" in each.path:
            refusals.add(404)
            schema = {"type": "string", "pattern": pattern}
            parameters.append({"name": name, "in": "path", "required": True, "description": "Its id", "schema": schema})
    if "{endpoint}" in each.path:
        parameters.append(
            {
                "name": "endpoint",
                "in": "path",
                "required": True,
                "description": "host:port as listed, in brackets for IPv6",
                "schema": {"type": "string", "minLength": 3},
            }
        )
    # Any request may have a parameter that this operation does not know, which is a 400.
    refusals.add(400)
    parameters += _parameters(each.query)
    described = _described(each.name, each.summary, content, {})
    if each.has_body:
        refusals |= {413, 415}
        described["requestBody"] = {
            "required": each.body_required,
            "content": {"application/json": {"schema": references[each.body]}},
        }
    if each.needs_access:
        refusals |= {401, 403, 408, 413, 429}
        described["security"] = [{_TOKEN: []}] if needs_token else []
    elif each.private_query:
        # For some of its parameters alone: the empty requirement says that it may be asked without (OpenAPI 3.1,
        # section 4.8.10).
        refusals |= {401, 403, 429}
        described["security"] = [{}, {_TOKEN: []}] if needs_token else []
    if parameters:
        described["parameters"] = parameters
    described["responses"].update(_refusals(refusals))
    described["x-codeSamples"] = [_sample(each, services, needs_token=needs_token)]
    return described


def _described(name: str, summary: str, content: dict[str, Any], refusals: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "OK", "content": content}, **refusals},
    }


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _text() -> dict[str, Any]:
    return {kind: {"schema": {"type": "string"}} for kind in (TEXT, OPENMETRICS)}


def _refusals(statuses: Iterable[int]) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}}
    return {str(status): {"description": HTTPStatus(status).phrase, "content": problem} for status in sorted(statuses)}


def _parameters(query: type[BaseModel]) -> list[dict[str, Any]]:
    schema = query.model_json_schema(by_alias=True, ref_template=_REF)
    required = set(schema.get("required", ()))
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": _query_schema(rules).pop("description", ""),
            "schema": {key: value for key, value in _query_schema(rules).items() if key != "description"},
        }
        for name, rules in schema.get("properties", {}).items()
    ]


def _query_schema(rules: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter. Null is taken out: a query has no null, and the parameter is left out instead."""
    options = [each for each in rules.get("anyOf", ()) if each.get("type") != "null"]
    if not options:
        return dict(rules)
    one = options[0] if len(options) == 1 else {"anyOf": options}
    return {**one, **{key: value for key, value in rules.items() if key not in {"anyOf", "default"}}}
