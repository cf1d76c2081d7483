"""The kinds of gates and filters, in the order in which a route has them. To add a kind, add a line here.

A kind makes its gate for one route, or says with None that the route has none. Gates that several routes share (the cap
on all in flight, the bulkhead and the circuit of an upstream) are made once and kept in `Parts`.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

from gateway.config.sections.routes.model import RouteConfig
from gateway.identity.withheld import Withheld, withheld
from gateway.policy.adaptive import DEFAULT_GROUP
from gateway.proxy.destinations.fallback import Fallback, Hop
from gateway.proxy.destinations.hedging import Hedging
from gateway.proxy.destinations.mirror import Mirror
from gateway.proxy.destinations.split import Split
from gateway.proxy.field_edits import edits_of
from gateway.proxy.filter import Filter
from gateway.proxy.filters.caller_limit_fields import CallerLimitFields
from gateway.proxy.filters.cors import Cors, PublicRefusals
from gateway.proxy.filters.debug import DebugFields
from gateway.proxy.filters.fallback_status import FallbackStatus
from gateway.proxy.filters.rate_limit_fields import RateLimitFields
from gateway.proxy.filters.redirects import Redirects
from gateway.proxy.filters.response_fields import ResponseFields
from gateway.proxy.filters.server_timing import ServerTiming
from gateway.proxy.gate import Chain, Gate
from gateway.proxy.gates.adaptive_limit import AdaptiveLimitGate
from gateway.proxy.gates.authentication import AuthenticationGate
from gateway.proxy.gates.caller_limits import CallerLimitsGate
from gateway.proxy.gates.deliver import DeliverGate
from gateway.proxy.gates.hedge import HedgeGate
from gateway.proxy.gates.hooks import HooksGate
from gateway.proxy.gates.idempotency import IdempotencyGate, ReplayGate
from gateway.proxy.gates.split import ChosenBulkhead, ChosenCircuit, ChosenLimit, SplitGate
from gateway.proxy.gates.validation import Sending, ValidationGate
from gateway.proxy.gates.workflow import WorkflowGate
from gateway.proxy.hooks.changes import RouteRules
from gateway.proxy.requests.query_key import QueryKey
from gateway.proxy.routes.parts import Parts
from gateway.proxy.routes.topology import stripped_prefix
from gateway.proxy.upstreams.upstream import Upstream
from gateway.syntax.path_template import PathRewrite


class GateKind(NamedTuple):
    """`absent` is what an explanation says of a route without such a gate. With `per_attempt` the gate is passed before
    each attempt; such kinds come last."""

    name: str
    make: Callable[[RouteConfig, Parts], Gate | None]
    absent: str
    per_attempt: bool = False


def _authentication(route: RouteConfig, parts: Parts) -> Gate | None:
    if parts.callers is None or not route.authentication:
        return None
    return AuthenticationGate(route.authentication, route.allow, parts.callers.authentication, route.issuers)


def _tenant(route: RouteConfig, parts: Parts) -> Gate | None:
    return parts.callers.tenant if parts.callers is not None and route.authentication else None


def _rate_limit(route: RouteConfig, parts: Parts) -> Gate | None:
    if route.authentication:
        policies = parts.config.rate_limits.policies
        return CallerLimitsGate(parts.limiter, policies, route.rate_limit, parts.recorder)
    return None if route.rate_limit is None else parts.rate_limits[route.rate_limit]


def _hooks(route: RouteConfig, parts: Parts) -> Gate | None:
    if not route.hooks:
        return None
    rules = RouteRules(route.prefix, _mapped_fields(parts), dots=route.path_dots == "pass")
    return HooksGate(route.name, route.hooks, parts.config.hooks, rules)


def _validation(route: RouteConfig, parts: Parts) -> Gate | None:
    if parts.validation is None or route.validation is None:
        return None
    rewrites = tuple([PathRewrite(path, to) for path, to in route.rewrites])
    edits = edits_of(route.request_headers), parts.upstreams[route.upstream].request_edits
    sending = Sending(stripped_prefix(route), rewrites, withheld_of(route, parts), *edits)
    return ValidationGate(route.name, sending, route.validation, parts.validation)


def _idempotency(route: RouteConfig, parts: Parts) -> Gate | None:
    config, claims = route.idempotency, parts.claims
    if config is None or claims is None:
        return None
    if not _goes_on(route):
        # What is kept of a request and its answer are one commit: where the outcome is unknown, nothing was kept.
        config = replace(config, on_unknown="retry")
    total_timeout = max(parts.upstreams[name].total_timeout for name in route.upstreams)
    by_host = route.preserve_host
    gate = IdempotencyGate(route.name, config, total_timeout, claims, parts.rng, parts.loop, by_host=by_host)
    parts.idempotency[route.name] = gate
    return gate


def _replay(route: RouteConfig, parts: Parts) -> Gate | None:
    gate = parts.idempotency.get(route.name)
    return None if gate is None else ReplayGate(gate.counts)


def _deliver(route: RouteConfig, parts: Parts) -> Gate | None:
    config, outbox = route.deliver, parts.outbox
    if config is None or outbox is None:
        return None
    header = parts.config.identity.api_key_header
    stripped, withheld = stripped_prefix(route), withheld_of(route, parts)
    return DeliverGate(
        route.name, config, *outbox, parts.claims, header, stripped, withheld, parts.rng, parts.recorder.origin
    )


def _workflow(route: RouteConfig, parts: Parts) -> Gate | None:
    workflow, sagas = route.workflow, parts.sagas
    return (
        None
        if workflow is None or sagas is None
        else WorkflowGate(workflow, *sagas, parts.claims, parts.rng, parts.recorder.origin)
    )


def _goes_on(route: RouteConfig) -> bool:
    """Whether its requests go to the upstream at once."""
    return route.deliver is None and route.workflow is None


def _split(route: RouteConfig, parts: Parts) -> Gate | None:
    if route.split is None:
        return None
    split = parts.splits[route.name] = Split(route.split, [parts.upstreams[name] for name in route.upstreams])
    return SplitGate(split)


def _bulkhead(route: RouteConfig, parts: Parts) -> Gate | None:
    split = parts.splits.get(route.name)
    if split is not None:
        return ChosenBulkhead(split, [parts.bulkheads[name] for name in route.upstreams])
    return parts.bulkheads[route.upstream] if _goes_on(route) else None


def _circuit(route: RouteConfig, parts: Parts) -> Gate | None:
    split = parts.splits.get(route.name)
    if split is not None:
        return ChosenCircuit(split, [parts.circuits[name] for name in route.upstreams])
    return parts.circuits[route.upstream] if _goes_on(route) else None


def _adaptive_limit(route: RouteConfig, parts: Parts) -> Gate | None:
    split = parts.splits.get(route.name)
    if split is not None:
        found = [adaptive_limit_of(name, parts, route.latency_group) for name in route.upstreams]
        return ChosenLimit(split, [each or Gate() for each in found]) if any(found) else None
    return adaptive_limit_of(route.upstream, parts, route.latency_group) if _goes_on(route) else None


def adaptive_limit_of(upstream: str, parts: Parts, latency_group: str = DEFAULT_GROUP) -> Gate | None:
    """The gate that finds the limit of an upstream, None where the limit does not change."""
    adaptive = parts.upstreams[upstream].adaptive
    if adaptive is None:
        return None
    found = parts.adaptive_limits.get((upstream, latency_group))
    if found is None:
        found = AdaptiveLimitGate(parts.bulkheads[upstream], adaptive, latency_group)
        parts.adaptive_limits[upstream, latency_group] = found
    return found


def _hedge(route: RouteConfig, parts: Parts) -> Gate | None:
    if route.hedge is None or not _goes_on(route):
        return None
    now = time.monotonic()
    hedges = tuple(
        [
            Hedging(
                *(route.name, route.hedge, parts.upstreams[name]),
                *(Chain(_gates_of_upstream(name, parts, route.latency_group), 1), parts.in_flight.limit, now),
            )
            for name in route.upstreams
        ]
    )
    return HedgeGate(hedges, parts.splits.get(route.name))


GATES: Final[tuple[GateKind, ...]] = (
    GateKind("client_share", lambda _route, parts: parts.client_share, "One client may have all that are in flight."),
    GateKind("in_flight", lambda _route, parts: parts.in_flight, "There is no cap on requests in flight."),
    GateKind("authentication", _authentication, "Anybody may ask."),
    GateKind("rate_limit", _rate_limit, "The route has no rate limit."),
    GateKind("tenant", _tenant, "Nobody's tenant is known."),
    GateKind("hooks", _hooks, "No hook is asked."),
    # Behind what costs nothing, so that only whoever may ask has the gateway hold a body.
    GateKind("validation", _validation, "Whatever is asked passes."),
    GateKind("idempotency", _idempotency, "Idempotency-Key means nothing here."),
    GateKind("replay", _replay, "No answer is kept."),
    GateKind("deliver", _deliver, "It goes to the upstream at once."),
    GateKind("workflow", _workflow, "It starts no run of a workflow."),
    GateKind("split", _split, "Its requests are not shared among upstreams."),
    GateKind("bulkhead", _bulkhead, "It is asked when something is sent."),
    GateKind("circuit", _circuit, "It is asked when something is sent.", per_attempt=True),
    GateKind("adaptive_limit", _adaptive_limit, "The limit of the bulkhead does not change.", per_attempt=True),
    # The last: an attempt that is a hedge enters those before it alone.
    GateKind("hedge", _hedge, "It is never sent twice at the same time.", per_attempt=True),
)


def _rate_limit_fields(route: RouteConfig, parts: Parts) -> Filter | None:
    limits = parts.config.rate_limits
    if route.authentication:
        return CallerLimitFields(legacy=limits.legacy_headers)
    if route.rate_limit is None:
        return None
    return RateLimitFields(limits.policies[route.rate_limit], legacy=limits.legacy_headers)


def _cors(route: RouteConfig, _parts: Parts) -> Filter | None:
    if route.cors.origins:
        return Cors(route.cors, route.methods)
    return PublicRefusals() if route.cors.public_refusals else None


def _redirects(route: RouteConfig, parts: Parts) -> Filter | None:
    return _redirects_of(parts.upstreams[route.upstream], route) if route.rewrite_redirects else None


def _redirects_of(upstream: Upstream, route: RouteConfig) -> Redirects:
    return Redirects(upstream.authorities, upstream.scheme, upstream.base_path, stripped_prefix(route))


def _response_fields(route: RouteConfig, _parts: Parts) -> Filter | None:
    return None if route.response_headers is None else ResponseFields(route.response_headers)


def _fallback_status(route: RouteConfig, parts: Parts) -> Filter | None:
    fallback = route.fallback
    return FallbackStatus(parts.config.server.via_name) if fallback is not None and fallback.upstreams else None


FILTERS: Final[tuple[Callable[[RouteConfig, Parts], Filter | None], ...]] = (
    *(_rate_limit_fields, _cors, _redirects),
    *(_response_fields, _fallback_status),
)


def gates_of(route: RouteConfig, parts: Parts) -> tuple[tuple[Gate, ...], int]:
    """The gates of a route, and the index of the first that is passed before each attempt."""
    once = [gate for kind in GATES if not kind.per_attempt and (gate := kind.make(route, parts)) is not None]
    each = [gate for kind in GATES if kind.per_attempt and (gate := kind.make(route, parts)) is not None]
    return (*once, *each), len(once)


def own_chains(parts: Parts) -> dict[str, Chain]:
    """The gates of each upstream, by its name, for requests of the gateway's own: no client sends them, so only what
    protects the upstream is asked."""
    return {name: Chain(_gates_of_upstream(name, parts), 1) for name in parts.upstreams}


def _gates_of_upstream(name: str, parts: Parts, latency_group: str = DEFAULT_GROUP) -> tuple[Gate, ...]:
    """What protects an upstream: the first is passed once, the others before each attempt."""
    adaptive = adaptive_limit_of(name, parts, latency_group)
    return parts.bulkheads[name], parts.circuits[name], *(() if adaptive is None else (adaptive,))


def fallback_of(route: RouteConfig, gates: tuple[Gate, ...], per_attempt: int, parts: Parts) -> Fallback | None:
    """Whom to ask when the upstream of a route does not answer. `gates` are those of the route, and those from
    `per_attempt` on are passed before each attempt."""
    config = route.fallback
    if config is None:
        return None
    # The bulkhead is the last that is passed once, and the first of the gates of an upstream.
    shared = gates[: per_attempt - 1]
    if [each.name for each in gates[len(shared) :]][:2] != ["bulkhead", "circuit"]:
        raise RuntimeError("the gates of its upstream are not the last ones of a route")
    hops = tuple(
        Hop(parts.upstreams[name], Chain((*shared, *_gates_of_upstream(name, parts)), len(shared) + 1))
        for name in config.upstreams
    )
    return Fallback(config, hops, len(shared), parts.config.server.via_name)


def mirror_of(route: RouteConfig, parts: Parts) -> Mirror | None:
    """What copies requests of a route to a shadow, None where nothing does."""
    config = route.mirror
    if config is None:
        return None
    chain = Chain(_gates_of_upstream(config.upstream, parts), 1)
    return Mirror(route.name, config, parts.upstreams[config.upstream], chain)


def withheld_of(route: RouteConfig, parts: Parts) -> Withheld | None:
    """What keeps fields of clients from the upstream of a route, None where all go on."""
    identity, mapped = parts.config.identity, _mapped_fields(parts)
    in_query = identity.api_key_query is not None
    return withheld(
        identity.api_key_header, route.authentication, mapped, forward_token=route.forward_token, in_query=in_query
    )


def query_key_of(route: RouteConfig, parts: Parts) -> QueryKey | None:
    """What takes keys out of the query of a route's requests, None where none counts there."""
    return parts.callers.query_key if parts.callers is not None and route.authentication else None


def _mapped_fields(parts: Parts) -> list[str]:
    """The fields that are made from claims of tokens."""
    return sorted({name for issuer in parts.config.identity.issuers.values() for name, _ in issuer.fields})


def filters_of(route: RouteConfig, parts: Parts, gates: tuple[Gate, ...]) -> tuple[Filter, ...]:
    """The filters of a route with these gates."""
    filters = [each for make in FILTERS if (each := make(route, parts)) is not None]
    if route.rewrite_redirects:
        # The one above is of the first upstream.
        others = dict.fromkeys([*route.upstreams, *(route.fallback.upstreams if route.fallback is not None else ())])
        filters += [_redirects_of(parts.upstreams[name], route) for name in others if name != route.upstream]
    if parts.config.server.server_timing:
        filters.append(ServerTiming())
    if parts.debug is not None:
        filters.append(DebugFields(parts.debug, tuple([gate.name for gate in gates])))
    return tuple(filters)
