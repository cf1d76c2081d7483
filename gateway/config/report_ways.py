"""The part of `gateway.config.report` about where requests go beside the one upstream of their route. Each
table is there only where a route has something to show in it."""

from collections.abc import Iterable

from gateway.config.fallback_model import FallbackConfig
from gateway.config.mirror_model import MirrorConfig
from gateway.config.model import GatewayConfig
from gateway.config.problems import number
from gateway.config.split_model import SplitConfig

Tables = Iterable[tuple[str, list[dict[str, str]]]]


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
        "first has": _s(fallback.after) if fallback.after is not None else "an equal part",
        "sent POSTs": "yes" if fallback.non_idempotent else "no",
        "last good": _s(fallback.stale_if_error) if fallback.stale_if_error else "no",
        "response": "none" if response is None else f"{response.status} {response.content_type}",
    }


def _s(seconds: float) -> str:
    return f"{number(seconds)}s"
