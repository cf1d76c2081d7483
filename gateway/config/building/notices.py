"""Notices: the gateway can start with it, but it is probably not what was meant. Examples are a file that says nothing,
and an entry that nobody uses."""

from collections.abc import Iterable, Iterator, Mapping

from gateway.config.building.variables import Variables
from gateway.config.problems import Notice
from gateway.config.reading.yaml_tree import Tree
from gateway.config.sections.routes.model import RouteConfig
from gateway.saga.workflow import Workflow

_ALWAYS_THERE = "default"


def nothing_said(variables: Variables, tree: Tree) -> Iterator[Notice]:
    """No setting at all, and a file without any."""
    if variables.env_file_absent and not variables.given:
        yield Notice(variables.env_file, "not there, and the environment sets nothing: every setting has its default")
    if tree.file and not any((tree.root or {}).values()):
        yield Notice(tree.source(()), "sets nothing: no upstreams, no rate limits, no routes")


def literal_stars(tree: Tree, routes: Iterable[tuple[int, str]]) -> Iterator[Notice]:
    """The prefixes that look like patterns, by the index of their route. There are no patterns in prefixes."""
    for index, prefix in routes:
        if "*" in prefix:
            text = "the * is an ordinary character; a prefix takes all that is below it anyway"
            yield Notice(tree.source(("routes", index, "prefix")), text)


def unused(
    tree: Tree,
    routes: Iterable[RouteConfig],
    workflows: Mapping[str, Workflow],
    *,
    limited: bool,
    limits: Iterable[str | None] = (),
) -> Iterator[Notice]:
    """Entries of the file that no route leads to; `limits` are the rate limits that others than routes use. The
    upstream and the rate limit `default` do not count, because they are there in any case. With `limited` False no
    route has a rate limit, whatever it says."""
    routes = list(routes)
    of_steps = (name for each in workflows.values() for name in each.upstreams)
    used: dict[str, set[str | None]] = {
        "upstreams": {*of_steps, *(name for route in routes for name in _upstreams(route))},
        "rate_limits": {route.rate_limit for route in routes} | set(limits),
        "workflows": {route.workflow.name for route in routes if route.workflow is not None},
    }
    for part, names in used.items():
        if part == "rate_limits" and not limited:
            continue
        entries = tree.root.get(part) if isinstance(tree.root, dict) else None
        for name in entries if isinstance(entries, dict) else ():
            if name not in names and name != _ALWAYS_THERE:
                yield Notice(tree.source((part, name)), "no route uses it")


def _upstreams(route: RouteConfig) -> tuple[str, ...]:
    fallback = () if route.fallback is None else route.fallback.upstreams
    return (*route.upstreams, *fallback, *(() if route.mirror is None else (route.mirror.upstream,)))
