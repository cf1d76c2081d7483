"""What one of several workers may use of what is written for the whole host.

A cap of n over w workers is n // w for each, and one more for the first n % w of them, so that the sum is n. A worker
has at least 1 of each cap that is not 0: where n < w the sum is w. What is a rate, a time or a share is the same for
every worker. Rate limits and circuits are not divided, because the workers share them exactly.
"""

from dataclasses import replace
from types import MappingProxyType

from gateway.config.model import GatewayConfig
from gateway.config.problems import Notice
from gateway.config.sections.identity.model import TierConfig
from gateway.config.sections.routes.model import RouteConfig
from gateway.config.sections.shedding.model import SheddingConfig
from gateway.config.sections.upstreams.model import UpstreamConfig
from gateway.policy.adaptive import AdaptiveSettings
from gateway.policy.limit import LimitSettings


def share(cap: int, workers: int, slot: int) -> int:
    """The part of `cap` that the worker in `slot` (from 0) has."""
    if cap == 0:
        return 0
    return max(1, cap // workers + (slot < cap % workers))


def shares_of(cap: int, workers: int) -> list[int]:
    """The parts of all workers, in the order of their slots."""
    return [share(cap, workers, slot) for slot in range(workers)]


def share_of(config: GatewayConfig, workers: int, slot: int) -> GatewayConfig:
    """The configuration for the worker in `slot`."""
    if workers == 1:
        return config

    def limit(settings: LimitSettings) -> LimitSettings:
        return replace(
            settings,
            limit=share(settings.limit, workers, slot),
            max_queue=share(settings.max_queue, workers, slot),
        )

    def adaptive(each: AdaptiveSettings | None) -> AdaptiveSettings | None:
        if each is None:
            return None
        return replace(each, min=share(each.min, workers, slot), initial=share(each.initial, workers, slot))

    def upstream(each: UpstreamConfig) -> UpstreamConfig:
        return replace(
            each,
            bulkhead=limit(each.bulkhead),
            adaptive=adaptive(each.adaptive),
            max_connections=share(each.max_connections, workers, slot),
            budget=replace(each.budget, min_per_second=each.budget.min_per_second / workers),
        )

    def route(each: RouteConfig) -> RouteConfig:
        fallback = each.fallback
        if fallback is not None:
            fallback = replace(fallback, stale_max_bytes=share(fallback.stale_max_bytes, workers, slot))
        mirror = each.mirror
        if mirror is not None:
            mirror = replace(mirror, max_in_flight=share(mirror.max_in_flight, workers, slot))
        return replace(each, max_tunnels=share(each.max_tunnels, workers, slot), fallback=fallback, mirror=mirror)

    def tier(each: TierConfig) -> TierConfig:
        most = each.concurrency
        if most is None:
            return each
        return replace(each, concurrency=share(most, workers, slot), host_concurrency=max(most, workers))

    identity = config.identity
    tiers = MappingProxyType({name: tier(each) for name, each in identity.tiers.items()})
    shedding: SheddingConfig = replace(config.shedding, limit=limit(config.shedding.limit))
    return replace(
        config,
        server=replace(config.server, max_connections=share(config.server.max_connections, workers, slot)),
        shedding=shedding,
        upstreams=MappingProxyType({name: upstream(each) for name, each in config.upstreams.items()}),
        routes=tuple(route(each) for each in config.routes),
        identity=replace(identity, tiers=tiers),
    )


def caps_of(config: GatewayConfig) -> dict[str, int]:
    """What is written for the host and divided between its workers, as it is called in the configuration. Without the
    queues, which are divided like the caps that they belong to."""
    caps = {
        "MAX_CONNECTIONS": config.server.max_connections,
        "MAX_INFLIGHT": config.shedding.limit.limit,
    }
    for name, each in config.upstreams.items():
        caps[f"the bulkhead of upstream {name}"] = each.bulkhead.limit
        caps[f"the connections of upstream {name}"] = each.max_connections
    for route in config.routes:
        if route.websocket:
            caps[f"the tunnels of route {route.name}"] = route.max_tunnels
        if route.fallback is not None and route.fallback.stale_if_error:
            caps[f"the bytes of last good answers of route {route.name}"] = route.fallback.stale_max_bytes
        if route.mirror is not None:
            caps[f"the copies of route {route.name}"] = route.mirror.max_in_flight
    for tier in config.identity.tiers.values():
        caps[f"the concurrency of tier {tier.name}"] = tier.concurrency or 0
    return {name: cap for name, cap in caps.items() if cap > 0}


def rounded_up(config: GatewayConfig, workers: int) -> list[Notice]:
    """A notice where caps are smaller than the number of workers: over all workers each of them is as large as that."""
    small = ", ".join(f"{name} ({cap})" for name, cap in caps_of(config).items() if cap < workers)
    text = f"smaller than the number of workers ({workers}), and each has at least 1: {small}"
    return [Notice("WORKERS", text)] if small else []
