"""`/api/resilience/routes`: which request goes where, and through which gates."""

from typing import Annotated, Any

from pydantic import Field

from gateway.control.api.operation import Call, Operation, get
from gateway.control.models.shapes import Answer, Nothing
from gateway.control.parts import ControlledGateway
from gateway.control.ports.gateway import FallbackView, MirrorView, RouteView, SplitView


class RouteGate(Answer):
    """One policy that a request of the route meets."""

    gate: str
    per_attempt: Annotated[bool, Field(description="It is met again before each attempt")]
    settings: Annotated[
        dict[str, Any], Field(description="In effect now; caps are the part of the worker that answers")
    ]


class RouteFallback(Answer):
    """What a client gets where the upstream does not answer."""

    upstreams: Annotated[list[str], Field(description="Asked one after the other, each once")]
    on: Annotated[list[str], Field(description="What it is used on: words, and statuses")]
    stale_if_error: Annotated[
        float, Field(ge=0, description="Seconds for which a good answer is given again; 0: never")
    ]
    response: Annotated[int | None, Field(description="Status of the fixed response; null: there is none")]


class RouteSplit(Answer):
    """How requests are shared among several upstreams."""

    weights: Annotated[dict[str, int], Field(description="By upstream, in the order of the configuration")]
    sticky: Annotated[
        str, Field(description="What a client stays with its upstream by: none, client, or the name of a header field")
    ]


class RouteMirror(Answer):
    """Copies of requests, whose answers nobody gets."""

    upstream: Annotated[str, Field(description="The shadow")]
    percent: Annotated[float, Field(ge=0, le=100, description="The part of the requests that is copied")]
    methods: Annotated[list[str] | None, Field(description="null: all")]


class Route(Answer):
    """What a request must match, what it meets, and where it goes."""

    route: str
    host: Annotated[str | None, Field(description="null: any")]
    prefix: str
    methods: Annotated[list[str] | None, Field(description="null: all")]
    upstream: Annotated[str, Field(description="With a split the first one")]
    websocket: bool
    gates: Annotated[list[RouteGate], Field(description="In the order in which a request passes them")]
    endpoints: list[str]
    fallback: Annotated[RouteFallback | None, Field(description="null: a refusal")]
    split: Annotated[RouteSplit | None, Field(description="null: all requests go to `upstream`")]
    mirror: Annotated[RouteMirror | None, Field(description="null: nothing is copied")]


class Routes(Answer):
    """Every route, in the order of the configuration."""

    count: int
    worker: Annotated[int | None, Field(description="Which worker answers; null: there is one")]
    routes: list[Route]


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operation that lists the routes."""

    async def routes(_: Call[Nothing, Nothing]) -> Routes:
        """Every route with its gates."""
        endpoints: dict[str, list[str]] = {}
        for each in gateway.view.endpoints:
            endpoints.setdefault(each.upstream, []).append(each.endpoint)
        found = [
            _route(each, [at for name in _upstreams(each) for at in endpoints.get(name, [])])
            for each in gateway.view.routes
        ]
        host = gateway.view.host
        return Routes(count=len(found), worker=None if host is None else host.worker, routes=found)

    return [get("/api/resilience/routes", "listRoutes", "Which request goes where, and through what", Routes, routes)]


def _route(each: RouteView, endpoints: list[str]) -> Route:
    return Route(
        route=each.name,
        host=each.host or None,
        prefix=each.prefix,
        methods=None if each.methods is None else list(each.methods),
        upstream=each.upstream,
        websocket=each.websocket,
        gates=[
            RouteGate(gate=gate.name, per_attempt=gate.per_attempt, settings=dict(gate.settings))
            for gate in each.describe()
        ],
        endpoints=endpoints,
        fallback=None if each.fallback is None else _fallback(each.fallback),
        split=None if each.split is None else _split(each.split),
        mirror=None if each.mirror is None else _mirror(each.mirror),
    )


def _upstreams(each: RouteView) -> list[str]:
    """Where its requests go in the first place."""
    return [each.upstream] if each.split is None else list(each.split.weights)


def _split(each: SplitView) -> RouteSplit:
    return RouteSplit(weights=dict(each.weights), sticky=each.sticky)


def _mirror(each: MirrorView) -> RouteMirror:
    methods = None if each.methods is None else list(each.methods)
    return RouteMirror(upstream=each.upstream, percent=each.percent, methods=methods)


def _fallback(each: FallbackView) -> RouteFallback:
    return RouteFallback(
        upstreams=list(each.upstreams),
        on=list(each.on),
        stale_if_error=each.stale_if_error,
        response=each.response,
    )
