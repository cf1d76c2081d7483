"""From what is said about hedges to what it means, and what is wrong with it."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest

from gateway.config.building.sources import Sources
from gateway.config.problems import Notice, number, shown
from gateway.config.reading.yaml_tree import Location
from gateway.config.sections.hedge.settings import OFF, QUANTILES, Hedge, fixed
from gateway.config.sections.routes.model import RouteConfig
from gateway.config.sections.upstreams.model import UpstreamConfig
from gateway.policy.hedge import HedgeSettings


def hedge_of(
    sources: Sources, section: Hedge, location: Location = (), *, asks_later: bool = False
) -> HedgeSettings | None:
    """The domain type of a route, None without hedges. `location` is that of the section in the file. What is wrong is
    reported."""
    if section.after == OFF:
        return None
    if asks_later:
        if sources.tree.holds((*location, "after")):
            allowed = "nothing on a route with deliver or workflow: its upstream is asked later"
            sources.refuse((*location, "after"), shown(section.after), allowed)
        return None
    return HedgeSettings(
        after=None if section.after in QUANTILES else fixed(section.after),
        quantile=QUANTILES.get(section.after, 0.95),
        min_after=section.min_after,
        min_observations=section.min_observations,
    )


def late_hedges(
    sources: Sources, routes: Iterable[RouteConfig], places: Iterable[int], upstreams: Mapping[str, UpstreamConfig]
) -> Iterator[Notice]:
    """Hedges that would come when the attempt before has ended already. The first routes are those of the file, whose
    `places` these are in it."""
    for route, index in zip_longest(routes, places):
        hedge = route.hedge
        if hedge is None or hedge.after is None:
            continue
        known = [upstreams[name].attempt_timeout for name in route.upstreams if name in upstreams]
        if known and hedge.after >= max(known):
            location: Location = () if index is None else ("routes", index, "hedge")
            place = sources.place("routes", "hedge", location=location)
            yield Notice(place.source(("after",)), f"it never comes: an attempt ends after {number(max(known))} s")
