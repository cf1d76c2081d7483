"""The effective configuration for people (`gateway routes`) and for programs (`--json`). Secrets are masked."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gateway.config import report_ways
from gateway.config.identity_model import ConsumerConfig, IdentityConfig, IssuerConfig, TierConfig
from gateway.config.loading import Loaded
from gateway.config.model import GatewayConfig, RedisConfig, RouteConfig, UpstreamConfig
from gateway.config.origins import Origin
from gateway.config.problems import MASK, number
from gateway.config.shares import caps_of, share
from gateway.syntax import hosts

_SECRETS = frozenset(
    {"url", "export_headers", "password", "sentinel_password", "token", "webhook_url", "webhook_secret", "sha256"}
    # Values of header fields and of settings of hooks, which may be keys.
    | {"set", "append", "settings"}
)


def summary(config: GatewayConfig) -> str:
    """One line: what listens where, in front of what."""
    counted = (
        _count(len(config.routes), "route"),
        _count(len(config.upstreams), "upstream"),
        _count(len(config.rate_limits.policies), "rate limit"),
    )
    return f"{', '.join(counted)}; {_listener(config)}; {_store(config.redis)}"


Gates = Mapping[str, Sequence[Mapping[str, object]]]
"""By route, in the order in which a request passes them: `gate` is the name, the rest are its settings."""


def as_json(loaded: Loaded, gates: Gates, workers: int) -> str:
    """The configuration, in `gates` the gates of each route, in `shares` what each worker has of the caps of the host,
    and in `origins` where each setting comes from, in the order of the settings."""
    origins = {each.setting: {"value": each.value, "source": each.source} for each in loaded.origins}
    shares = {name: _shares(cap, workers) for name, cap in caps_of(loaded.config).items()}
    return json.dumps(_plain(loaded.config) | {"gates": gates, "shares": shares, "origins": origins}, indent=2) + "\n"


def as_text(loaded: Loaded, gates: Gates, workers: int) -> str:
    """What `gateway routes` prints: the configuration in effect, a table for each subject. It contains no secrets."""
    config = loaded.config
    upstreams = config.upstreams.values()
    sections = (
        ("Routes", [_route(route, priorities=config.shedding.priorities) for route in config.routes]),
        ("Upstreams", [_upstream(upstream) for upstream in upstreams]),
        ("Retries", [_retry(upstream) for upstream in upstreams]),
        ("Circuit breakers", [_breaker(upstream) for upstream in upstreams]),
        ("Concurrency", [_concurrency(upstream) for upstream in upstreams]),
        ("Rate limits", [_rate_limit(config, name) for name in config.rate_limits.policies]),
        *report_ways.splits(config),
        *report_ways.mirrors(config),
        *report_ways.fallbacks(config),
        *_header_fields(config),
        *_rewrites(config),
        *_websockets(config),
        *_callers(config.identity),
        *_divided(config, workers),
        (
            "Gates, in the order in which a request passes them",
            [_gate(route, gate) for route, passed in gates.items() for gate in passed],
        ),
        (
            "Not from the defaults (the rest is; --json lists all)",
            [_origin(each) for each in loaded.origins if not each.is_default],
        ),
    )
    limit = config.shedding.limit
    waiting = _queue(limit.max_queue, limit.queue_timeout)
    lines = [
        f"Listener: {_listener(config)}",
        f"Store: {_store(config.redis)}",
        f"Load shedding: {limit.limit} in flight, queue {waiting}, then {config.shedding.status}",
        "",
    ]
    for title, rows in sections:
        lines += [title, *_table(rows), ""]
    return "\n".join(lines[:-1]) + "\n"


def _header_fields(config: GatewayConfig) -> Iterable[tuple[str, list[dict[str, str]]]]:
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


def _rewrites(config: GatewayConfig) -> Iterable[tuple[str, list[dict[str, str]]]]:
    """A table that is there only where paths are rewritten."""
    rows = [
        {"route": route.name, "path": path, "becomes": to} for route in config.routes for path, to in route.rewrites
    ]
    if rows:
        yield "Rewritten paths", rows


def _websockets(config: GatewayConfig) -> Iterable[tuple[str, list[dict[str, str]]]]:
    """A table that is there only where a route lets tunnels through."""
    rows = [_tunnels(route) for route in config.routes if route.websocket]
    if rows:
        yield "WebSocket tunnels", rows


def _callers(identity: IdentityConfig) -> Iterable[tuple[str, list[dict[str, str]]]]:
    """Tables that are there only where the file says something about callers."""
    if identity.tiers:
        yield "Tiers", [_tier(each) for each in identity.tiers.values()]
    if identity.tenants:
        yield "Tenants", [{"name": name, "tier": tier or "none"} for name, tier in identity.tenants.items()]
    if identity.consumers:
        yield "Consumers", [_consumer(each) for each in identity.consumers.values()]
    if identity.issuers:
        yield "Issuers", [_issuer(each) for each in identity.issuers.values()]


def _divided(config: GatewayConfig, workers: int) -> Iterable[tuple[str, list[dict[str, str]]]]:
    """What each worker has of the caps of the host; nothing to say where it has them alone."""
    if workers > 1:
        rows = [
            {"cap": name, "of the host": str(cap), "of each worker": _counted(_shares(cap, workers))}
            for name, cap in caps_of(config).items()
        ]
        yield f"Divided between {workers} workers", rows


def _shares(cap: int, workers: int) -> list[int]:
    return [share(cap, workers, slot) for slot in range(workers)]


def _counted(shares: Sequence[int]) -> str:
    """The first ones may have one more."""
    most, least = shares[0], shares[-1]
    more = shares.count(most)
    return str(most) if most == least else f"{most} (the first{f' {more}' * (more > 1)}), {least}"


def _tier(tier: TierConfig) -> dict[str, str]:
    return {
        "name": tier.name,
        "rate limit": tier.rate_limit or "none",
        "at once": str(tier.concurrency or "unlimited"),
        "in a day": str(tier.quota_per_day or "unlimited"),
        "priority": tier.priority or "the route's",
    }


def _consumer(consumer: ConsumerConfig) -> dict[str, str]:
    return {
        "name": consumer.name,
        "tenant": consumer.tenant or "none",
        "scopes": " ".join(sorted(consumer.scopes)) or "none",
        "rate limit": consumer.rate_limit or "none",
        "keys": " ".join(key.id for key in consumer.keys) or "none here",
    }


def _issuer(issuer: IssuerConfig) -> dict[str, str]:
    return {
        "name": issuer.name,
        "issuer": issuer.issuer,
        "audience": " ".join(issuer.audience) or "none",
        "required claims": " ".join(f"{claim}={'|'.join(sorted(values))}" for claim, values in issuer.required_claims)
        or "none",
        "algorithms": " ".join(issuer.algorithms),
        "keys": issuer.jwks_url or issuer.jwks_file or str(issuer.secret_file),
        "consumer": f"{issuer.consumer_prefix}{{{issuer.consumer}}}",
        "tenant": issuer.tenant or (f"{{{issuer.tenant_claim}}}" if issuer.tenant_claim else "none"),
        "scopes": f"{{{issuer.scopes}}}",
        "fields": " ".join(f"{name}={{{claim}}}" for name, claim in issuer.fields) or "none",
    }


def _gate(route: str, gate: Mapping[str, object]) -> dict[str, str]:
    settings = (f"{name}={number(value) if isinstance(value, float) else value}" for name, value in gate.items())
    return {"route": route, "gate": str(gate["gate"]), "settings": " ".join(list(settings)[1:]) or "-"}


def _route(route: RouteConfig, *, priorities: bool) -> dict[str, str]:
    return {
        "name": route.name,
        "host": route.host or "any",
        "prefix": route.prefix,
        "methods": ",".join(sorted(route.methods)) if route.methods is not None else "any",
        "upstream": ",".join(route.upstreams) if route.workflow is None else f"workflow {route.workflow.name}",
        "strip": _yes(route.strip_prefix),
        "client's host": _yes(route.preserve_host),
        "rate limit": route.rate_limit or "none",
        "priority": route.priority or ("normal" if priorities else "none"),
        "who": ",".join(route.authentication) or "anybody",
        "body bytes": str(route.max_body_bytes or "unlimited"),
        "dots": route.path_dots,
        "pages of": ",".join(route.cors.origins) or "the upstream's choice",
        "websocket": _yes(route.websocket),
    }


def _tunnels(route: RouteConfig) -> dict[str, str]:
    return {
        "route": route.name,
        "at most": str(route.max_tunnels),
        "of a client": number(route.tunnel_client_share),
        "idle": _s(route.tunnel_idle_timeout),
        "stalled": _s(route.tunnel_stall_timeout),
        "ping after": _s(route.tunnel_ping_interval) if route.tunnel_ping_interval else "never",
        "buffer": str(route.tunnel_buffer_bytes),
        "stops at": number(route.backpressure_threshold),
    }


def _upstream(upstream: UpstreamConfig) -> dict[str, str]:
    scheme = "http" if upstream.tls is None else "https" if upstream.tls.verify else "https, not verified"
    check = upstream.health_check
    return {
        "name": upstream.name,
        "scheme": scheme,
        "endpoints": " ".join(_endpoint(each.host, each.port, each.weight) for each in upstream.endpoints),
        "base path": upstream.base_path or "/",
        "host": upstream.authority,
        "balance": upstream.balance,
        "connect": _s(upstream.connect_timeout),
        "attempt": _s(upstream.attempt_timeout),
        "total": _s(upstream.total_timeout),
        "idle": _s(upstream.idle_timeout),
        "health check": f"{check.path} every {_s(check.interval)}" if check else "no",
    }


def _retry(upstream: UpstreamConfig) -> dict[str, str]:
    retry, budget = upstream.retry, upstream.budget
    return {
        "upstream": upstream.name,
        "attempts": str(retry.max_attempts),
        "delay": f"{_s(retry.base_delay)} to {_s(retry.max_delay)}",
        "strategy": retry.strategy,
        "statuses": ",".join(str(status) for status in sorted(retry.statuses)) or "none",
        "sent POSTs": _yes(retry.non_idempotent),
        "budget": f"{budget.ratio:.0%} + {number(budget.min_per_second)}/s",
    }


def _breaker(upstream: UpstreamConfig) -> dict[str, str]:
    breaker = upstream.breaker
    slow = breaker.slow_call_threshold
    return {
        "upstream": upstream.name,
        "failures": str(breaker.failure_threshold),
        "failure rate": f"{breaker.failure_rate_threshold:.0%} of {breaker.minimum_calls}+",
        "slow calls": f"{breaker.slow_call_rate_threshold:.0%} over {_s(slow)}" if slow is not None else "off",
        "window": f"{breaker.window_size} calls, {_s(breaker.window_seconds)}",
        "reset": _s(breaker.reset_timeout),
        "probes": str(breaker.half_open_max_probes),
        "successes": str(breaker.half_open_success_threshold),
    }


def _concurrency(upstream: UpstreamConfig) -> dict[str, str]:
    bulkhead, ejection, adaptive = upstream.bulkhead, upstream.ejection, upstream.adaptive
    return {
        "upstream": upstream.name,
        "bulkhead": str(bulkhead.limit),
        "adaptive": adaptive.words(bulkhead.limit) if adaptive else "no",
        "queue": _queue(bulkhead.max_queue, bulkhead.queue_timeout),
        "connections": f"{upstream.max_connections} each, idle {_s(upstream.keepalive_timeout)}",
        "ejection": f"after {ejection.consecutive_failures}, {_s(ejection.base_time)} to {_s(ejection.max_time)}, "
        f"at most {ejection.max_fraction:.0%}",
    }


def _origin(origin: Origin) -> dict[str, str]:
    source = origin.source.removesuffix(f" {origin.setting}")
    return {"setting": origin.setting, "value": origin.value, "from": source}


def _rate_limit(config: GatewayConfig, name: str) -> dict[str, str]:
    policy = config.rate_limits.policies[name]
    return {
        "name": name,
        "capacity": str(policy.capacity),
        "refill": f"{number(policy.refill_rate)}/s",
        "kept": _s(policy.max_ttl),
        "without redis": config.rate_limits.on_redis_failure,
    }


def _listener(config: GatewayConfig) -> str:
    server = config.server
    return f"{'https' if server.tls else 'http'} on {hosts.written(server.host or '*', server.port)}"


def _store(redis: RedisConfig | None) -> str:
    if redis is None:
        return "embedded store (no Redis)"
    where = " ".join(_endpoint(host, port) for host, port in redis.addresses)
    return f"Redis {redis.mode} at {where}{' with TLS' if redis.tls else ''}"


def _endpoint(host: str, port: int, weight: int = 1) -> str:
    address = hosts.written(host, port)
    return address if weight == 1 else f"{address}*{weight}"


def _count(amount: int, noun: str) -> str:
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def _queue(length: int, timeout: float) -> str:
    return f"{length} for {_s(timeout)}" if length else "none"


def _s(seconds: float) -> str:
    return f"{number(seconds)}s"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _table(rows: Sequence[Mapping[str, str]]) -> Iterable[str]:
    if not rows:
        return ["  none"]
    cells = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


def flat(config: GatewayConfig) -> Iterator[tuple[str, str, bool]]:
    """Each setting in effect: its path, its value as text, and whether that is a secret. For comparing, not for
    showing: secrets are not masked."""
    yield from _flat("", config, secret=False)


def _flat(path: str, value: Any, *, secret: bool) -> Iterator[tuple[str, str, bool]]:
    parts: Iterable[tuple[str, Any]]
    if dataclasses.is_dataclass(value):
        parts = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple) and any(map(dataclasses.is_dataclass, value)):
        # By name where there is one, so that a new route does not make all behind it look changed.
        parts = [(str(getattr(each, "name", at)), each) for at, each in enumerate(value)]
    else:
        numbers = isinstance(value, frozenset) and all(isinstance(each, int) for each in value)
        yield path, _ranges(value) if numbers and value else str(_plain(value)), secret
        return
    for name, inner in parts:
        hidden = secret or (name in _SECRETS and inner is not None)
        yield from _flat(f"{path}.{name}" if path else name, inner, secret=hidden)


def _ranges(numbers: Iterable[int]) -> str:
    """`429, 500-599`."""
    ranges: list[list[int]] = []
    for each in sorted(numbers):
        if ranges and each == ranges[-1][1] + 1:
            ranges[-1][1] = each
        else:
            ranges.append([each, each])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {
            field.name: MASK if field.name in _SECRETS and inner not in (None, ()) else _plain(inner)
            for field in dataclasses.fields(value)
            for inner in [getattr(value, field.name)]
        }
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
