"""The routes of the configuration, and what they refer to."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.config.building.sources import Sources
from gateway.config.file import File
from gateway.config.problems import MISSING, shown
from gateway.config.sections.cors.build import cors_config
from gateway.config.sections.deliver.build import deliver_config, delivered_methods
from gateway.config.sections.fallback.build import fallback_of
from gateway.config.sections.headers.build import check_headers_of_delivered, field_changes
from gateway.config.sections.hedge.build import hedge_of
from gateway.config.sections.hooks.build import hooks_of
from gateway.config.sections.idempotency.build import idempotency_of
from gateway.config.sections.identity.build import allowed_on
from gateway.config.sections.mirror.build import check_shadows, mirror_of
from gateway.config.sections.rewrite.build import rewrites_of
from gateway.config.sections.routes.model import RouteConfig
from gateway.config.sections.routes.settings import FileRoute
from gateway.config.sections.split.build import split_of
from gateway.config.sections.split.model import SplitConfig
from gateway.config.sections.upstreams.build import DEFAULT
from gateway.config.sections.validation.build import validation_of
from gateway.config.sections.workflows.build import workflow_methods
from gateway.config.settings import Settings
from gateway.saga.workflow import Workflow

PROXY_PREFIX = "/proxy/"

FileRoutes = list[tuple[int, FileRoute]]
"""The valid routes of the file, each with its place in the file's list."""


def file_routes(sources: Sources, file: File) -> FileRoutes:
    """The routes of the file that are valid; what is wrong with the others is reported."""
    # WEBSOCKET_ENABLED is about /proxy/ alone: a route of the file opens tunnels only if it says so.
    defaults = sources.settings.routes.model_dump(exclude={"websocket"})
    return list(sources.entries(FileRoute, enumerate(file.routes), "routes", defaults))


def routes_of(
    sources: Sources,
    settings: Settings,
    of_file: FileRoutes,
    workflows: Mapping[str, Workflow],
    known: Mapping[str, list[str]],
    *,
    own_route: bool,
) -> list[RouteConfig]:
    """The routes of the file and, with `own_route`, `/proxy/` unless the file defines it.

    `known` are the names that a route may refer to, by the key that refers to them; anything else is reported.
    `workflows` are those that are valid.
    """
    for index, route in of_file:
        _check_references(sources, index, route, known)
    _check_duplicates(sources, of_file)
    routes = [_file_route(sources, index, route, known["upstream"], workflows) for index, route in of_file]
    taken = any(route.name == "proxy" or (route.prefix == PROXY_PREFIX and route.host is None) for route in routes)
    if own_route and not taken:
        routes.append(_proxy_route(sources, settings))
    places = {index: route for (index, _), route in zip(of_file, routes, strict=False)}
    check_shadows(sources, places, routes[len(places) :], workflows.values())
    return routes


def _file_route(
    sources: Sources, index: int, route: FileRoute, upstreams: Sequence[str], workflows: Mapping[str, Workflow]
) -> RouteConfig:
    methods = frozenset(route.methods) if route.methods is not None else None
    place = sources.place("routes", location=("routes", index))
    workflow = None if route.workflow is None else workflows.get(route.workflow)
    if route.deliver.enabled:
        methods = delivered_methods(methods, place)
        check_headers_of_delivered(sources, index, preserve_host=route.preserve_host)
    elif route.workflow is not None:
        methods = workflow_methods(methods, place)
        check_headers_of_delivered(sources, index, preserve_host=route.preserve_host)
    split = split_of(sources, route, index, upstreams)
    return RouteConfig(
        name=route.name,
        prefix=route.prefix,
        upstream=_upstream(sources, index, route, workflow, split),
        host=route.host,
        methods=methods,
        strip_prefix=route.strip_prefix,
        preserve_host=route.preserve_host,
        priority=route.priority,
        latency_group=route.latency_group,
        rate_limit=route.rate_limit if sources.settings.rate_limit.enabled else None,
        websocket=route.websocket,
        max_tunnels=route.max_tunnels,
        tunnel_idle_timeout=route.tunnel_idle_timeout,
        tunnel_client_share=route.tunnel_client_share,
        tunnel_stall_timeout=route.tunnel_stall_timeout,
        tunnel_ping_interval=route.tunnel_ping_interval,
        tunnel_buffer_bytes=route.tunnel_buffer_bytes,
        backpressure_threshold=route.backpressure_threshold,
        max_body_bytes=route.max_body_bytes or None,
        path_dots=route.path_dots,
        rewrite_redirects=route.rewrite_redirects,
        authentication=tuple(route.authentication),
        allow=allowed_on(route, sources.place("routes", location=("routes", index))),
        issuers=tuple(route.issuers),
        forward_token=route.forward_token,
        cors=cors_config(sources, route.cors, ("routes", index, "cors")),
        idempotency=idempotency_of(sources, route.idempotency, ("routes", index), route.authentication),
        validation=validation_of(sources, route, index),
        deliver=deliver_config(
            route.deliver, sources.place("routes", "deliver", location=("routes", index, "deliver"))
        ),
        split=split,
        mirror=mirror_of(sources, route, index, upstreams),
        fallback=fallback_of(sources, route, index, upstreams),
        rewrites=rewrites_of(sources, route.rewrite, index, later=route.asks_later),
        request_headers=field_changes(sources, route.request_headers, ("routes", index, "request_headers"), "request"),
        response_headers=field_changes(
            sources, route.response_headers, ("routes", index, "response_headers"), "answer"
        ),
        workflow=workflow,
        hooks=hooks_of(sources, route, index),
        hedge=hedge_of(sources, route.hedge, ("routes", index, "hedge"), asks_later=route.asks_later),
    )


def _upstream(
    sources: Sources, index: int, route: FileRoute, workflow: Workflow | None, split: SplitConfig | None
) -> str:
    """Where the requests of a route go: its upstream, the first of its split, or its workflow."""
    location = ("routes", index)
    if split is not None:
        return next(iter(split.upstreams), DEFAULT)
    if route.workflow is None:
        if route.upstream is None:
            allowed = "the name of an upstream, or workflow: the name of one, or split: several upstreams"
            sources.refuse((*location, "upstream"), MISSING, allowed)
        return route.upstream or DEFAULT
    for key, given in (("upstream", route.upstream), ("deliver", "a mapping" if route.deliver.enabled else None)):
        if given is not None:
            allowed = "nothing on a route with workflow"
            sources.refuse((*location, key), shown(given), allowed)
    return DEFAULT if workflow is None else workflow.steps[0].request.upstream


def _proxy_route(sources: Sources, settings: Settings) -> RouteConfig:
    return RouteConfig(
        name="proxy",
        prefix=PROXY_PREFIX,
        upstream=DEFAULT,
        strip_prefix=True,
        rate_limit=DEFAULT if settings.rate_limit.enabled else None,
        websocket=settings.routes.websocket,
        max_tunnels=settings.routes.max_tunnels,
        tunnel_idle_timeout=settings.routes.tunnel_idle_timeout,
        tunnel_client_share=settings.routes.tunnel_client_share,
        tunnel_stall_timeout=settings.routes.tunnel_stall_timeout,
        tunnel_ping_interval=settings.routes.tunnel_ping_interval,
        tunnel_buffer_bytes=settings.routes.tunnel_buffer_bytes,
        backpressure_threshold=settings.routes.backpressure_threshold,
        max_body_bytes=settings.routes.max_body_bytes or None,
        path_dots=settings.routes.path_dots,
        rewrite_redirects=settings.routes.rewrite_redirects,
        authentication=tuple(settings.routes.authentication),
        cors=cors_config(sources, settings.routes.cors, ()),
        idempotency=idempotency_of(sources, settings.routes.idempotency, None, settings.routes.authentication),
        priority=settings.routes.priority,
        hedge=hedge_of(sources, settings.routes.hedge),
    )


def _check_references(sources: Sources, index: int, route: FileRoute, names: Mapping[str, list[str]]) -> None:
    for key, known in names.items():
        value = getattr(route, key)
        if value is not None and value not in known:
            sources.refuse_name(("routes", index, key), value, known)


def _check_duplicates(sources: Sources, routes: FileRoutes) -> None:
    kinds: tuple[tuple[str, str, Callable[[FileRoute], Any]], ...] = (
        ("name", "a name of its own", lambda route: route.name),
        ("prefix", "a host and prefix of its own", lambda route: (route.host, route.prefix)),
    )
    for key, wanted, identity in kinds:
        seen: dict[Any, int] = {}
        for index, route in routes:
            first = seen.setdefault(identity(route), index)
            if first != index:
                value = shown(getattr(route, key))
                sources.refuse(("routes", index, key), value, f"{wanted}; routes[{first}] has the same")
