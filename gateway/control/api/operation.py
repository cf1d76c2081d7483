"""One operation of the API: declared once, served and documented from the same declaration.

The models of an operation are what its query and body are checked with, what its answer is made of, and what the
OpenAPI document says. An error names the parameter, its value and what is allowed. The order of the checks: access, the
service's name, the query, the body.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from gateway.control.access import Access, Actor, peer_of
from gateway.control.models.shapes import Answer, Input, Nothing
from gateway.control.services import Services
from gateway.control.serving.problem import REQUEST_ID, RefusalError
from gateway.telemetry.log.render import bare

_SHOWN = 64


Q = TypeVar("Q", bound=Input)
B = TypeVar("B", bound=Input)


class Call(NamedTuple, Generic[Q, B]):
    """One request, understood. `service` is the configured name of the service or upstream, empty where the path has
    none; `actor` None where anybody may ask."""

    request: web.Request
    service: str
    query: Q
    body: B
    actor: Actor | None

    @property
    def request_id(self) -> str:
        """The id of this call to the control plane, as its answer says it in `X-Request-ID`."""
        return self.request[REQUEST_ID]


Run = Callable[[Call[Q, B]], Awaitable[Answer | web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Operation(Generic[Q, B]):
    """`changes` says that it changes state and needs access; with `private` it needs access too, because of what it
    tells. `private_query` are the parameters with which it tells such things, so that only they need access. `also` are
    content types it may answer with besides JSON, `refusals` statuses of its own besides those that follow from the
    declaration."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    name: str
    summary: str
    answer: type[Answer]
    run: Run[Q, B]
    query: type[Q]
    body: type[B]
    body_required: bool = False
    changes: bool = False
    private: bool = False
    private_query: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    refusals: tuple[int, ...] = ()

    @property
    def needs_access(self) -> bool:
        """Whether it is for operators alone."""
        return self.changes or self.private

    @property
    def has_service(self) -> bool:
        """Whether the path names a service."""
        return self.names_by != ""

    @property
    def names_by(self) -> str:
        """The parameter of the path that names a service."""
        return next((name for name in ("service", "upstream") if f"{{{name}}}" in self.path), "")

    @property
    def has_body(self) -> bool:
        """Whether the operation takes a JSON body."""
        return bool(self.body.model_fields)


def get(
    path: str, name: str, summary: str, answer: type[Answer], run: Run[Nothing, Nothing]
) -> Operation[Nothing, Nothing]:
    """An operation that takes nothing and changes nothing."""
    return Operation("GET", path, name, summary, answer, run, Nothing, Nothing)


def routes(operations: Iterable[Operation[Any, Any]], access: Access, services: Services) -> list[web.RouteDef]:
    """The operations as routes for aiohttp. Each checks access, path, query and body before its function is called, and
    answers in JSON."""
    adders = {"GET": web.get, "POST": web.post, "PUT": web.put, "DELETE": web.delete}
    return [adders[each.method](_pattern(each.path), _serve(each, access, services)) for each in operations]


def _pattern(path: str) -> str:
    """The path for aiohttp. The id of a message is told from a word in its place, so that each path has its own
    methods."""
    return path.replace("{message}", "{message:msg_[^/]+}")


def _serve(
    operation: Operation[Q, B], access: Access, services: Services
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        actor = None
        needed = operation.needs_access or access.guards_reading
        if needed or any(name in request.query for name in operation.private_query):
            peer, request_id, target = peer_of(request.remote), request[REQUEST_ID], request.raw_path
            actor = access.admit(peer, request.headers, request_id, version=request.version, target=target)
        service = services.named(request.match_info[operation.names_by]) if operation.has_service else ""
        query = parsed_query(operation.query, request)
        body = await _parsed_body(operation, request)
        answer = await operation.run(Call(request, service, query, body, actor))
        if isinstance(answer, Answer):
            return web.Response(
                body=answer.model_dump_json(by_alias=True).encode() + b"\n", content_type="application/json"
            )
        return answer

    return serve


def parsed_query(model: type[Q], request: web.Request) -> Q:
    """The query of the request, checked. Raises `RefusalError` (400) that names the parameter that is wrong, unknown or
    given more than once."""
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in given:
            raise RefusalError(400, f"{_shown(name)} is given more than once.", members={"parameter": name})
        given[name] = value
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _refused(model, error, "parameter", given) from None


async def _parsed_body(operation: Operation[Any, B], request: web.Request) -> B:
    raw = await request.read()
    if not operation.has_body:
        # Some clients cannot send an empty body and send an empty object.
        if raw.strip() not in {b"", b"{}"}:
            raise RefusalError(400, "This takes no body.")
        return operation.body()
    if not raw and not operation.body_required:
        return operation.body()
    if request.content_type != "application/json":
        raise RefusalError(415, "The body must be JSON, with Content-Type: application/json.")
    try:
        given = orjson.loads(raw)
        # Parsers do not agree about which of two counts. This one is only asked about that.
        with suppress(ValueError, RecursionError):
            json.loads(raw, object_pairs_hook=_unique)
        return operation.body.model_validate(given, strict=True)
    except orjson.JSONDecodeError:
        raise RefusalError(400, "The body is not JSON.") from None
    except ValidationError as error:
        raise _refused(operation.body, error, "member", {}) from None


def _unique(pairs: list[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise RefusalError(400, f"{_shown(name)} is given more than once.", members={"member": name})
        seen.add(name)


def _refused(model: type[BaseModel], error: ValidationError, kind: str, given: Mapping[str, object]) -> RefusalError:
    first = error.errors(include_url=False, include_context=False)[0]
    schema = model.model_json_schema(by_alias=True)
    properties = schema.get("properties", {})
    if not first["loc"]:
        return RefusalError(400, f"The body must be an object with {_listed(properties)}.")
    name = ".".join(str(part) for part in first["loc"])
    members = {kind: name}
    properties, rules = _where(schema, first["loc"])
    if first["type"] == "extra_forbidden":
        known = f"there is {_listed(properties)}" if properties else "there is none here"
        return RefusalError(400, f"Unknown {kind} {_shown(name)}: {known}.", members=members)
    wanted = allowed(rules)
    members["allowed"] = wanted
    if first["type"] == "missing":
        return RefusalError(400, f"The {kind} {name} is missing: {wanted}.", members=members)
    return RefusalError(
        400, f"{name} is {_shown(given.get(name, first['input']))}, but must be {wanted}.", members=members
    )


def _where(schema: dict[str, Any], path: Sequence[int | str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The properties of the object that a member is in, and the schema of the member."""
    properties: dict[str, Any] = schema.get("properties", {})
    rules: dict[str, Any] = {}
    for part in path:
        properties = _resolved(schema, rules).get("properties", properties)
        rules = properties.get(str(part), {})
    return properties, rules


def _resolved(schema: dict[str, Any], rules: dict[str, Any]) -> dict[str, Any]:
    """The schema that `rules` refers to, itself or as its first option."""
    options = [each for each in rules.get("anyOf", ()) if each.get("type") != "null"]
    reference = (options[0] if options else rules).get("$ref")
    found: dict[str, Any] = rules if reference is None else schema["$defs"][reference.rpartition("/")[2]]
    return found


def allowed(schema: dict[str, Any]) -> str:
    """What a property accepts, in words, from its JSON Schema."""
    if "enum" in schema:
        return " or ".join(str(each) for each in schema["enum"])
    options = [each for each in schema.get("anyOf", []) if each.get("type") != "null"]
    if options:
        return allowed({**options[0], **{key: value for key, value in schema.items() if key.startswith("x-")}})
    kind = {"integer": "an integer", "number": "a number", "string": "text"}.get(schema.get("type", ""), "a value")
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    if lowest is not None and highest is not None:
        return f"{kind} from {lowest:g} to {highest:g}"
    shortest, longest = schema.get("minLength"), schema.get("maxLength")
    if longest is not None:
        kind = f"{kind} of {shortest or 0} to {longest} characters"
    if "x-without" in schema:
        kind = f"{kind} without {schema['x-without']}"
    rule = schema.get("x-allowed")
    return f"{kind}: {rule}" if rule else kind


def _listed(properties: Iterable[str]) -> str:
    return ", ".join(properties)


def _shown(value: object) -> str:
    # Not orjson, which has no integers beyond 64 bits.
    text = bare(value) if isinstance(value, str) else json.dumps(value, default=str)
    text = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return f'"{text}"' if isinstance(value, str) else text
