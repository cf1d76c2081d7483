"""Parts of a route that say where its requests go beside, or in place of, its upstream."""

from gateway.config.building.sources import Sources
from gateway.config.reading.yaml_tree import Location
from gateway.config.sections.routes.settings import FileRoute


def part_of_route(sources: Sources, route: FileRoute, index: int, key: str, why_not: str) -> Location | None:
    """The place of an optional part of the route at `index` of the file, None where the route has none. A part of a
    route that asks its upstream later is reported, and `why_not` says why it cannot have one."""
    location: Location = ("routes", index, key)
    if not sources.tree.holds(location):
        return None
    if route.asks_later:
        sources.refuse(location, "a mapping", f"nothing on a route with deliver or workflow: {why_not}")
    return location
