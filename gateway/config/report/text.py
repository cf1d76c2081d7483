"""The effective configuration for people, as `gateway routes` prints it. Secrets are masked."""

from collections.abc import Iterable, Mapping, Sequence

from gateway.config.building.origins import Origin
from gateway.config.loading import Loaded
from gateway.config.model import GatewayConfig
from gateway.config.problems import number
from gateway.config.report.callers import callers
from gateway.config.report.cells import Gates, Tables, endpoint_cell, queue, seconds
from gateway.config.report.routes import (
    fallbacks,
    header_fields,
    hedges,
    mirrors,
    rewrites,
    route_row,
    splits,
    websockets,
)
from gateway.config.report.upstreams import breaker_row, concurrency_row, retry_row, upstream_row
from gateway.config.sections.redis.model import RedisConfig
from gateway.config.worker_shares import caps_of, shares_of
from gateway.syntax import hosts


def summary(config: GatewayConfig) -> str:
    """One line: what listens where, in front of what."""
    counted = (
        _count(len(config.routes), "route"),
        _count(len(config.upstreams), "upstream"),
        _count(len(config.rate_limits.policies), "rate limit"),
    )
    return f"{', '.join(counted)}; {_listener(config)}; {_store(config.redis)}"


def as_text(loaded: Loaded, gates: Gates, workers: int) -> str:
    """What `gateway routes` prints: the configuration in effect, a table for each subject. It contains no secrets."""
    config = loaded.config
    upstreams = config.upstreams.values()
    sections = (
        ("Routes", [route_row(route, priorities=config.shedding.priorities) for route in config.routes]),
        ("Upstreams", [upstream_row(upstream) for upstream in upstreams]),
        ("Retries", [retry_row(upstream) for upstream in upstreams]),
        ("Circuit breakers", [breaker_row(upstream) for upstream in upstreams]),
        ("Concurrency", [concurrency_row(upstream) for upstream in upstreams]),
        ("Rate limits", [_rate_limit(config, name) for name in config.rate_limits.policies]),
        *splits(config),
        *mirrors(config),
        *hedges(config),
        *fallbacks(config),
        *header_fields(config),
        *rewrites(config),
        *websockets(config),
        *callers(config.identity),
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
    waiting = queue(limit.max_queue, limit.queue_timeout)
    lines = [
        f"Listener: {_listener(config)}",
        f"Store: {_store(config.redis)}",
        f"Load shedding: {limit.limit} in flight, queue {waiting}, then {config.shedding.status}",
        "",
    ]
    for title, rows in sections:
        lines += [title, *_table(rows), ""]
    return "\n".join(lines[:-1]) + "\n"


def _divided(config: GatewayConfig, workers: int) -> Tables:
    """What each worker has of the caps of the host; nothing to say where it has them alone."""
    if workers > 1:
        rows = [
            {"cap": name, "of the host": str(cap), "of each worker": _counted(shares_of(cap, workers))}
            for name, cap in caps_of(config).items()
        ]
        yield f"Divided between {workers} workers", rows


def _counted(shares: Sequence[int]) -> str:
    """The first ones may have one more."""
    most, least = shares[0], shares[-1]
    more = shares.count(most)
    return str(most) if most == least else f"{most} (the first{f' {more}' * (more > 1)}), {least}"


def _gate(route: str, gate: Mapping[str, object]) -> dict[str, str]:
    settings = (f"{name}={number(value) if isinstance(value, float) else value}" for name, value in gate.items())
    return {"route": route, "gate": str(gate["gate"]), "settings": " ".join(list(settings)[1:]) or "-"}


def _origin(origin: Origin) -> dict[str, str]:
    source = origin.source.removesuffix(f" {origin.setting}")
    return {"setting": origin.setting, "value": origin.value, "from": source}


def _rate_limit(config: GatewayConfig, name: str) -> dict[str, str]:
    policy = config.rate_limits.policies[name]
    return {
        "name": name,
        "capacity": str(policy.capacity),
        "refill": f"{number(policy.refill_rate)}/s",
        "kept": seconds(policy.max_ttl),
        "without redis": config.rate_limits.on_redis_failure,
    }


def _listener(config: GatewayConfig) -> str:
    server = config.server
    return f"{'https' if server.tls else 'http'} on {hosts.written(server.host or '*', server.port)}"


def _store(redis: RedisConfig | None) -> str:
    if redis is None:
        return "embedded store (no Redis)"
    where = " ".join(endpoint_cell(host, port) for host, port in redis.addresses)
    return f"Redis {redis.mode} at {where}{' with TLS' if redis.tls else ''}"


def _count(amount: int, noun: str) -> str:
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def _table(rows: Sequence[Mapping[str, str]]) -> Iterable[str]:
    if not rows:
        return ["  none"]
    cells = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
