"""What `gateway routes` says about routes. Most tables are there only where a route has something to show in them."""

from collections.abc import Iterable

from gateway.config.model import GatewayConfig
from gateway.config.problems import number
from gateway.config.report.cells import Tables, seconds, yes
from gateway.config.sections.fallback.model import FallbackConfig
from gateway.config.sections.mirror.model import MirrorConfig
from gateway.config.sections.routes.model import RouteConfig
from gateway.config.sections.split.model import SplitConfig


def route_row(route: RouteConfig, *, priorities: bool) -> dict[str, str]:
    """The row of a route. With `priorities` it has one, whether it says so or not."""
    return {
        "name": route.name,
        "host": route.host or "any",
        "prefix": route.prefix,
        "methods": ",".join(sorted(route.methods)) if route.methods is not None else "any",
        "upstream": ",".join(route.upstreams) if route.workflow is None else f"workflow {route.workflow.name}",
        "strip": yes(route.strip_prefix),
        "client's host": yes(route.preserve_host),
        "rate limit": route.rate_limit or "none",
        "priority": route.priority or ("normal" if priorities else "none"),
        "who": ",".join(route.authentication) or "anybody",
        "body bytes": str(route.max_body_bytes or "unlimited"),
        "dots": route.path_dots,
        "pages of": ",".join(route.cors.origins) or "the upstream's choice",
        "websocket": yes(route.websocket),
    }


def websockets(config: GatewayConfig) -> Tables:
    """A table that is there only where a route lets tunnels through."""
    rows = [_tunnels(route) for route in config.routes if route.websocket]
    if rows:
        yield "WebSocket tunnels", rows


def _tunnels(route: RouteConfig) -> dict[str, str]:
    return {
        "route": route.name,
        "at most": str(route.max_tunnels),
        "of a client": number(route.tunnel_client_share),
        "idle": seconds(route.tunnel_idle_timeout),
        "stalled": seconds(route.tunnel_stall_timeout),
        "ping after": seconds(route.tunnel_ping_interval) if route.tunnel_ping_interval else "never",
        "buffer": str(route.tunnel_buffer_bytes),
        "stops at": number(route.backpressure_threshold),
    }


def header_fields(config: GatewayConfig) -> Tables:
    """A table that is there only where fields are changed. It has their names alone."""
    changes = [
        *((f"to upstream {each.name}", each.request_headers) for each in config.upstreams.values()),
        *((f"requests of {each.name}", each.request_headers) for each in config.routes),
        *((f"answers of {each.name}", each.response_headers) for each in config.routes),
    ]
    rows = [
        {
            "where": where,
            "set": " ".join(name for name, _ in each.set) or "-",
            "append": " ".join(name for name, _ in each.append) or "-",
            "remove": " ".join(each.remove) or "-",
        }
        for where, each in changes
        if each is not None
    ]
    if rows:
        yield "Header fields", rows


def rewrites(config: GatewayConfig) -> Tables:
    """A table that is there only where paths are rewritten."""
    rows = [
        {"route": route.name, "path": path, "becomes": to} for route in config.routes for path, to in route.rewrites
    ]
    if rows:
        yield "Rewritten paths", rows


def splits(config: GatewayConfig) -> Tables:
    """Upstreams that share the requests of a route."""
    rows = [row for route in config.routes if route.split is not None for row in _split(route.name, route.split)]
    if rows:
        yield "Splits", rows


def mirrors(config: GatewayConfig) -> Tables:
    """Shadows that get copies of requests."""
    rows = [_mirror(route.name, route.mirror) for route in config.routes if route.mirror is not None]
    if rows:
        yield "Mirrors", rows


def fallbacks(config: GatewayConfig) -> Tables:
    """What is asked in place of an upstream that does not answer."""
    rows = [_fallback(route.name, route.fallback) for route in config.routes if route.fallback is not None]
    if rows:
        yield "Fallbacks", rows


def hedges(config: GatewayConfig) -> Tables:
    """When a request is sent a second time."""
    rows = [row for route in config.routes for row in _hedge(route)]
    if rows:
        yield "Hedges", rows


def _split(route: str, split: SplitConfig) -> Iterable[dict[str, str]]:
    whole = sum(weight for _, weight in split.to)
    by = split.sticky if split.field is None else split.field
    for name, weight in split.to:
        share = f"{100 * weight / whole:.4g} %"
        yield {"route": route, "upstream": name, "weight": str(weight), "share": share, "sticky": by}


def _mirror(route: str, mirror: MirrorConfig) -> dict[str, str]:
    return {
        "route": route,
        "shadow": mirror.upstream,
        "percent": number(mirror.percent),
        "methods": ",".join(sorted(mirror.methods)) if mirror.methods is not None else "those of the route",
        "at once": str(mirror.max_in_flight),
        "body bytes": str(mirror.max_body_bytes),
        "answer bytes": str(mirror.max_answer_bytes),
    }


def _fallback(route: str, fallback: FallbackConfig) -> dict[str, str]:
    response = fallback.response
    return {
        "route": route,
        "then": " ".join(fallback.upstreams) or "-",
        "on": ",".join(fallback.conditions),
        "first has": seconds(fallback.after) if fallback.after is not None else "an equal part",
        "sent POSTs": "yes" if fallback.non_idempotent else "no",
        "last good": seconds(fallback.stale_if_error) if fallback.stale_if_error else "no",
        "response": "none" if response is None else f"{response.status} {response.content_type}",
    }


def _hedge(route: RouteConfig) -> Iterable[dict[str, str]]:
    hedge = route.hedge
    if hedge is not None:
        fixed = hedge.after is not None
        yield {
            "route": route.name,
            "after": hedge.words,
            "at least": "-" if fixed else seconds(hedge.min_after),
            "from answers": "-" if fixed else str(hedge.min_observations),
        }
