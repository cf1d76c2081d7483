"""From what a route says about its split to what it means, and what is wrong with it."""

from collections.abc import Sequence

from gateway.config.building.route_parts import part_of_route
from gateway.config.building.sources import Sources
from gateway.config.problems import shown
from gateway.config.reading.yaml_tree import Location
from gateway.config.sections.routes.settings import FileRoute
from gateway.config.sections.split.model import SplitConfig


def split_of(sources: Sources, route: FileRoute, index: int, upstreams: Sequence[str]) -> SplitConfig | None:
    """The split of the route at `index` of the file, None without one. `upstreams` are the names that it may refer to.
    What is wrong with it is reported."""
    location = part_of_route(sources, route, index, "split", "its upstream is asked later")
    if location is None:
        return None
    wanted = route.split
    if route.upstream is not None:
        allowed = "nothing on a route with split, which names its upstreams in split.to"
        sources.refuse(("routes", index, "upstream"), shown(route.upstream), allowed)
    if not wanted.to:
        sources.refuse((*location, "to"), "no upstream", "at least one {upstream, weight}")
    elif not any(each.weight for each in wanted.to):
        sources.refuse((*location, "to"), "every weight is 0", "at least one weight above 0")
    seen: set[str] = set()
    for place, each in enumerate(wanted.to):
        at: Location = (*location, "to", place, "upstream")
        if each.upstream not in upstreams:
            sources.refuse_name(at, each.upstream, upstreams)
        elif each.upstream in seen:
            sources.refuse(at, shown(each.upstream), "each upstream once")
        seen.add(each.upstream)
    if (wanted.sticky == "field") != (wanted.field is not None):
        if wanted.field is None:
            sources.refuse((*location, "sticky"), shown(wanted.sticky), "none or client, or field with split.field")
        else:
            sources.refuse((*location, "field"), shown(wanted.field), "nothing, unless split.sticky is field")
    return SplitConfig(tuple((each.upstream, each.weight) for each in wanted.to), wanted.sticky, wanted.field)
