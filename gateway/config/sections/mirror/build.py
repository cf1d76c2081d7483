"""From what a route says about its mirror to what it means, and what is wrong with it."""

from collections.abc import Iterable, Mapping, Sequence

from gateway.config.building.route_parts import part_of_route
from gateway.config.building.sources import Sources
from gateway.config.problems import MISSING, shown
from gateway.config.sections.mirror.model import MirrorConfig
from gateway.config.sections.routes.model import RouteConfig
from gateway.config.sections.routes.settings import FileRoute
from gateway.saga.workflow import Workflow


def mirror_of(sources: Sources, route: FileRoute, index: int, upstreams: Sequence[str]) -> MirrorConfig | None:
    """The mirror of the route at `index` of the file, None without one. `upstreams` are the names that it may refer to.
    What is wrong with it is reported."""
    location = part_of_route(sources, route, index, "mirror", "its upstream is asked later")
    if location is None:
        return None
    wanted = route.mirror
    name = wanted.upstream
    if name is None:
        sources.refuse((*location, "upstream"), MISSING, "the name of an upstream")
        return None
    if name not in upstreams:
        sources.refuse_name((*location, "upstream"), name, upstreams)
    taken = None if route.methods is None else set(route.methods)
    for place, method in enumerate(wanted.methods or ()):
        if taken is not None and method not in taken:
            allowed = f"methods that the route takes: {', '.join(sorted(taken))}"
            sources.refuse((*location, "methods", place), shown(method), allowed)
    return MirrorConfig(
        upstream=name,
        percent=wanted.percent,
        methods=None if wanted.methods is None else frozenset(wanted.methods),
        max_in_flight=wanted.max_in_flight,
        max_body_bytes=wanted.max_body_bytes,
        max_answer_bytes=wanted.max_answer_bytes,
    )


def check_shadows(
    sources: Sources, routes: Mapping[int, RouteConfig], others: Iterable[RouteConfig], workflows: Iterable[Workflow]
) -> None:
    """Report mirrors whose upstream answers clients, too: what copies do to its circuit and its bulkhead, clients would
    feel. `routes` are those of the file by their place in it, `others` the rest."""
    users: dict[str, str] = {}
    for route in (*routes.values(), *others):
        fallback = () if route.fallback is None else route.fallback.upstreams
        for name in (*route.upstreams, *fallback):
            users.setdefault(name, f"route {route.name}")
    for workflow in workflows:
        for name in workflow.upstreams:
            users.setdefault(name, f"workflow {workflow.name}")
    for index, route in routes.items():
        mirror = route.mirror
        if mirror is not None and mirror.upstream in users:
            allowed = f"an upstream that only mirrors use; {users[mirror.upstream]} uses this one"
            sources.refuse(("routes", index, "mirror", "upstream"), shown(mirror.upstream), allowed)
