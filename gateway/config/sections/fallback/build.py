"""From what a route says about its fallback to what it means, and what is wrong with it."""

from collections.abc import Sequence

from gateway.config.building.route_parts import part_of_route
from gateway.config.building.sources import Sources
from gateway.config.problems import shown
from gateway.config.reading.yaml_tree import Location
from gateway.config.sections.fallback.model import FallbackConfig, FixedResponse
from gateway.config.sections.fallback.settings import Fallback, FallbackResponse
from gateway.config.sections.routes.settings import FileRoute

# A 204 has no body, and a 304 none but that of an answer that the client has already (RFC 9110 section 15.4.5).
_BODYLESS = (204, 205, 304)


def fallback_of(sources: Sources, route: FileRoute, index: int, upstreams: Sequence[str]) -> FallbackConfig | None:
    """The fallback of the route at `index` of the file, None without one. `upstreams` are the names that it may refer
    to. What is wrong with it is reported."""
    location = part_of_route(sources, route, index, "fallback", "nobody waits for an answer")
    if location is None:
        return None
    wanted = route.fallback
    if not wanted.upstream and wanted.response.status is None and not wanted.stale_if_error:
        sources.refuse(location, "nothing", "an upstream, a response or stale_if_error")
    # On a route with split it may be one of those, which the requests of the others go on to.
    seen = {route.upstream}
    for place, name in enumerate(wanted.upstream):
        # One name may be written without a list.
        at: Location = (*location, "upstream", place)
        if not sources.tree.holds(at):
            at = (*location, "upstream")
        if name not in upstreams:
            sources.refuse_name(at, name, upstreams)
        elif name in seen:
            sources.refuse(at, shown(name), "each upstream once, and not that of the route")
        seen.add(name)
    return FallbackConfig(
        upstreams=tuple(wanted.upstream),
        on=frozenset(each for each in wanted.on if isinstance(each, str)),
        statuses=frozenset(each for each in wanted.on if isinstance(each, int)),
        after=wanted.after,
        non_idempotent=wanted.non_idempotent,
        stale_if_error=wanted.stale_if_error,
        stale_max_bytes=wanted.stale_max_bytes,
        response=_response(sources, wanted, (*location, "response")),
    )


def _response(sources: Sources, wanted: Fallback, location: Location) -> FixedResponse | None:
    response = wanted.response
    if response.status is None:
        if response != FallbackResponse():
            sources.refuse(location, "no status", "with a status")
        return None
    if response.status in _BODYLESS and response.body:
        sources.refuse((*location, "body"), shown(response.body), f"no body with {response.status}")
    return FixedResponse(response.status, response.body, response.content_type)
