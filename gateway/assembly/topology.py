"""The topology of a configuration: its upstreams, and its routes with their gates and filters."""

import asyncio
import random
import time

from gateway.assembly.fleet import Fleet
from gateway.assembly.hooks import count_hooks
from gateway.assembly.idempotency import Idempotency
from gateway.assembly.identity import Identity
from gateway.assembly.validation import Validation
from gateway.config.model import GatewayConfig
from gateway.config.sections.shedding.model import SheddingConfig
from gateway.idempotency.claims import Claims
from gateway.policy.limit import ConcurrencyLimit
from gateway.policy.priority import BY_PRIORITY, WHOLE
from gateway.proxy.destinations import fallback, hedging, mirror, split
from gateway.proxy.gates import load_gauges
from gateway.proxy.gates.in_flight import InFlightGate
from gateway.proxy.recorder import Recorder
from gateway.proxy.requests.priority_header import PriorityHeader
from gateway.proxy.routes.kinds import (
    fallback_of,
    filters_of,
    gates_of,
    mirror_of,
    own_chains,
    query_key_of,
    withheld_of,
)
from gateway.proxy.routes.parts import CallerParts, OutboxParts, Parts, SagaParts
from gateway.proxy.routes.topology import NoRoute, Route, Topology
from gateway.proxy.upstreams import gauges as upstream_gauges
from gateway.proxy.upstreams.upstream import Upstream
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.wire.client.resolver import Resolver


def build_topology(
    config: GatewayConfig,
    fleet: Fleet,
    resolver: Resolver,
    in_flight: InFlightGate,
    recorder: Recorder,
    metrics: Metrics,
    rng: random.Random,
    loop: asyncio.AbstractEventLoop,
    callers: CallerParts | None = None,
    claims: Claims | None = None,
    validation: Validation | None = None,
    outbox: OutboxParts | None = None,
    sagas: SagaParts | None = None,
) -> Topology:
    """One generation of routes and upstreams. `callers` is for routes with authentication, `claims` for those with
    idempotency keys, `validation` for those that validate, `outbox` for those that deliver,
    `sagas` for those with a workflow."""
    upstreams = _upstreams(config, fleet, resolver, rng, loop)
    validating = None if validation is None else validation.parts
    parts = Parts(
        *(config, upstreams, in_flight, fleet.limiter, recorder, rng, loop, callers, claims, validating, outbox, sagas)
    )
    header = config.shedding.priority_header
    lowering = None if header is None else PriorityHeader(header)
    routes = []
    for route in config.routes:
        gates, per_attempt = gates_of(route, parts)
        filters = filters_of(route, parts, gates)
        cells, withheld = metrics.route(route.name), withheld_of(route, parts)
        routes.append(
            Route(
                *(route, upstreams[route.upstream], gates, per_attempt, filters, cells, withheld),
                *(fallback_of(route, gates, per_attempt, parts), lowering, mirror_of(route, parts)),
                query_key_of(route, parts),
                priorities=config.shedding.priorities,
            )
        )
    if validation is not None:
        validation.count(routes)
    # Of a request without a route nothing is known: where one route keeps its refusals private, so does this.
    public_refusals = all(route.cors.public_refusals for route in config.routes)
    metrics.counter(
        "upstream_connections_closed_total",
        "Connections to upstreams that were closed while no request used them.",
        ("upstream", "cause"),
        lambda: (
            ((name, cause.value), count)
            for name, upstream in upstreams.items()
            for cause, count in upstream.connections_closed()
        ),
    )
    upstream_gauges.register(metrics, upstreams.values())
    load_gauges.register(metrics, upstreams, parts.bulkheads, in_flight, priorities=config.shedding.priorities)
    no_route = NoRoute(metrics.route(""), public_refusals=public_refusals)
    return Topology(routes, upstreams, no_route, own_chains(parts))


def count_decisions(
    topology: Topology, metrics: Metrics, idempotency: Idempotency | None, identity: Identity | None
) -> None:
    """Show what the gates, splits, mirrors and fallbacks of the routes have decided."""
    splits = [(route.name, route.split) for route in topology.routes if route.split is not None]
    if splits:
        split.register(metrics, splits)
    mirrors = [(route.name, route.mirror) for route in topology.routes if route.mirror is not None]
    if mirrors:
        mirror.register(metrics, mirrors)
    hedging.register(metrics, [each for route in topology.routes for each in route.hedges])
    count_hooks(topology.routes, metrics)
    fallback.register(metrics, [(route.name, route.fallback) for route in topology.routes if route.fallback])
    if idempotency is not None:
        idempotency.count(topology.routes, metrics)
    if identity is not None:
        identity.count(topology.routes)


def _upstreams(
    config: GatewayConfig, fleet: Fleet, resolver: Resolver, rng: random.Random, loop: asyncio.AbstractEventLoop
) -> dict[str, Upstream]:
    percents = percents_of(config.shedding)
    return {
        name: Upstream(
            *(each, fleet.circuits[name], ConcurrencyLimit(each.bulkhead, percents), loop, resolver),
            *(time.monotonic, rng),
        )
        for name, each in config.upstreams.items()
    }


def percents_of(shedding: SheddingConfig) -> tuple[int, ...]:
    """What each class of requests may hold of a limit."""
    return BY_PRIORITY if shedding.priorities else WHOLE
