"""One snapshot of the gateway, from what was counted and from the view of the control plane."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from gateway.control.history import Transition
from gateway.control.live.counters import ATTEMPT_SECONDS, ROUTE_SECONDS, Window
from gateway.control.models.live import (
    Live,
    LiveAdaptive,
    LiveCircuit,
    LiveEndpoint,
    LiveFault,
    LiveGateway,
    LiveGroup,
    LiveHedges,
    LiveLimit,
    LiveOutbox,
    LivePart,
    LiveRedis,
    LiveRoute,
    LiveService,
    LiveTransition,
    LiveWorker,
    LiveWorkflows,
)
from gateway.control.models.words import CIRCUIT_WORDS
from gateway.control.parts import ControlledGateway, ServiceStates
from gateway.control.ports.gateway import CircuitView, EndpointView, RouteView, WorkerView, plain_state
from gateway.control.service_health import HealthJudgement, judged, overall
from gateway.telemetry.log.render import rfc3339
from gateway.telemetry.services.rates import Rate, Scope

HOUR: Final = 3600.0
_SHED: Final = ("overloaded", "bulkhead_full")
_PERCENTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_NO_ROUTE: Final = "none"


def snapshot(gateway: ControlledGateway, window: Window, rates: Mapping[str, Rate]) -> Live:
    """Everything at this moment. `rates` are what the services are judged by."""
    states = gateway.states()
    services = {name: judged(states, rate) for name, rate in rates.items()}
    routes = tuple(gateway.view.routes)
    return Live(
        time=rfc3339(gateway.clock()),
        window_seconds=round(window.seconds, 3),
        gateway=_gateway(gateway, window, overall(gateway, states, services), routes, next(iter(rates.values())).scope),
        services=_services(gateway, window, states, services, routes),
        routes={
            each.name: LiveRoute(
                service=each.upstream,
                requests=_short(window.observed_rate(ROUTE_SECONDS, (each.name,))),
                failed=_short(window.rate("http_requests_5xx_total", each.name)),
                too_many=_short(window.rate("http_requests_429_total", each.name)),
                fallbacks=_rates(window, "fallback_requests_total", each.name),
                hedges=_hedges(window, each.name),
                split=_parts(window, each),
                **_latency(window, ROUTE_SECONDS, (each.name,)),
            )
            for each in routes
        },
        limits={
            name: LiveLimit(**{
                decision: _short(window.rate("rate_limit_decisions_total", name, decision))
                for decision in ("allowed", "limited", "exempt")
            })
            for name in window.firsts("rate_limit_decisions_total")
        },
        faults=_faults(gateway),
        outbox=None if gateway.outbox is None else _outbox(window),
        workflows=None if gateway.sagas is None else _workflows(window),
    )  # fmt: skip


def encoded(live: Live) -> dict[str, Any]:
    """The snapshot as it is sent: what does not apply is left out."""
    return live.model_dump(by_alias=True, exclude_none=True)


def _gateway(
    gateway: ControlledGateway, window: Window, judgement: HealthJudgement, routes: Iterable[RouteView], scope: Scope
) -> LiveGateway:
    view = gateway.view
    names = [*(each.name for each in routes), _NO_ROUTE]
    host = view.host
    return LiveGateway(
        service=view.service,
        version=view.version,
        status=judgement.status,
        reasons=judgement.reasons,
        since=rfc3339(view.started_at),
        requests=_short(window.observed_rate(ROUTE_SECONDS, names)),
        failed=_short(sum(window.rate("http_requests_5xx_total", name) for name in names)),
        too_many=_short(sum(window.rate("http_requests_429_total", name) for name in names)),
        shed=_short(window.rate("load_shed_total")),
        in_flight=view.in_flight,
        limit=view.max_in_flight,
        connections=view.connections,
        upstream_connections=view.upstream_connections,
        active_alerts=len(gateway.alerts.active()),
        store=_store(gateway),
        workers={} if host is None else {f"{each.slot}-{each.pid}": _worker(each) for each in host.workers},
        workers_wanted=1 if host is None else host.wanted,
        scope=scope,
        **_latency(window, ROUTE_SECONDS, names),
    )


def _services(
    gateway: ControlledGateway,
    window: Window,
    states: ServiceStates,
    judgements: Mapping[str, HealthJudgement],
    routes: Iterable[RouteView],
) -> dict[str, LiveService]:
    endpoints: dict[str, dict[str, LiveEndpoint]] = {name: {} for name in states.circuits}
    for each in gateway.view.endpoints:
        endpoints.setdefault(each.upstream, {})[each.endpoint] = _endpoint(each, gateway.clock())
    asked = _asked(window, routes)
    return {
        name: _service(gateway, window, judgements[name], circuit, asked.get(name, _Asked(0.0, 0.0)), endpoints[name])
        for name, circuit in states.circuits.items()
    }


class _Asked(NamedTuple):
    """What clients asked of a service: requests a second, and how many of these ended in a 5xx."""

    requests: float
    failed: float


def _asked(window: Window, routes: Iterable[RouteView]) -> dict[str, _Asked]:
    """By service. A route that splits its requests is counted where they went. What was refused before there was a
    choice is the first one's, as everywhere."""
    found: dict[str, _Asked] = {}

    def add(name: str, requests: float, failed: float) -> None:
        before = found.get(name, _Asked(0.0, 0.0))
        found[name] = _Asked(before.requests + requests, before.failed + failed)

    for route in routes:
        requests = window.observed_rate(ROUTE_SECONDS, (route.name,))
        failed = window.rate("http_requests_5xx_total", route.name)
        for name in route.split.weights if route.split is not None else ():
            if name != route.upstream:
                part = window.part(route.name, name)
                add(name, *part)
                requests, failed = requests - part[0], failed - part[1]
        add(route.upstream, max(0.0, requests), max(0.0, failed))
    return found


def _parts(window: Window, route: RouteView) -> dict[str, LivePart] | None:
    if route.split is None:
        return None
    parts = {name: window.part(route.name, name) for name in route.split.weights}
    return {name: LivePart(requests=_short(part[0]), failed=_short(part[1])) for name, part in parts.items()}


def _hedges(window: Window, route: str) -> LiveHedges | None:
    # The series of a route with `hedge` are there from the start.
    if route not in window.firsts("hedges_total"):
        return None
    after = window.states("hedge_after_seconds", route).values()
    return LiveHedges(
        after=_seconds(max(after)) if after else None,
        made=_rates(window, "hedges_total", route),
        not_made=_rates(window, "hedges_not_made_total", route),
    )


def _service(
    gateway: ControlledGateway,
    window: Window,
    judgement: HealthJudgement,
    circuit: CircuitView,
    asked: _Asked,
    endpoints: dict[str, LiveEndpoint],
) -> LiveService:
    name = circuit.upstream
    requests, failed = asked
    refused = _rates(window, "gateway_service_refusals_total", name)
    return LiveService(
        status=judgement.status,
        reasons=judgement.reasons,
        requests=_short(requests),
        failed=_short(failed),
        error_rate=round(min(1.0, failed / requests), 4) if requests > 0 else 0.0,
        attempts=_short(window.observed_rate(ATTEMPT_SECONDS, (name,))),
        failed_attempts=_short(window.rate("downstream_errors_total", name)),
        retries=_short(window.rate("retry_attempts_total", name)),
        limited=refused.get("rate_limited", 0.0),
        shed=_short(sum(refused.get(reason, 0.0) for reason in _SHED)),
        refused=refused,
        in_flight=window.gauge("gateway_upstream_in_flight", name),
        queued=window.gauge("gateway_upstream_queued", name),
        limit=window.gauge("gateway_upstream_limit", name),
        adaptive=_adaptive(gateway, window, name),
        refused_priorities=_rates(window, "priority_rejections_total", name),
        circuit=_circuit(gateway, circuit),
        endpoints=endpoints,
        **_latency(window, ATTEMPT_SECONDS, (name,)),
    )


def _adaptive(gateway: ControlledGateway, window: Window, name: str) -> LiveAdaptive | None:
    enforced = gateway.adaptive.get(name)
    if enforced is None:
        return None
    usual = window.states("adaptive_limit_baseline_seconds", name)
    return LiveAdaptive(
        mode="enforce" if enforced else "observe",
        limit=window.gauge("adaptive_limit", name),
        most=window.gauge("adaptive_limit_ceiling", name),
        groups={
            group: LiveGroup(recent=_seconds(recent), usual=_seconds(usual.get(group, 0.0)))
            for group, recent in window.states("adaptive_limit_recent_seconds", name).items()
        },
    )


def _faults(gateway: ControlledGateway) -> dict[str, LiveFault]:
    view = gateway.faults
    return {} if view is None else {
        each.id: LiveFault(
            upstream=each.upstream,
            route=each.route or None,
            endpoint=each.endpoint or None,
            client_header=each.header or None,
            client_percent=each.clients if each.header else None,
            percent=each.percent,
            does=each.does,
            reason=each.reason,
            by=each.by,
            source=each.source,
            until=_second(gateway.clock() + each.left),
        )
        for each in view.faults
    }  # fmt: skip


def _outbox(window: Window) -> LiveOutbox:
    pending, dead, oldest = (window.gauge(f"outbox_{each}") for each in ("pending", "dead", "oldest_seconds"))
    return LiveOutbox(pending=pending, dead=dead, oldest_seconds=oldest)


def _workflows(window: Window) -> LiveWorkflows:
    runs = {
        name: {state: round(count) for state, count in window.states("saga_runs", name).items() if count}
        for name in window.state_firsts("saga_runs")
    }
    return LiveWorkflows(
        open=sum(sum(each.values()) for each in runs.values()),
        stuck=sum(each.get("stuck", 0) for each in runs.values()),
        oldest_seconds=window.gauge("saga_oldest_pending_seconds"),
        runs=runs,
    )


def _rates(window: Window, name: str, first: str) -> dict[str, float]:
    """By the second label; those that there are none of are left out."""
    return {second: _short(rate) for second, rate in window.rates(name, first).items()}


def _circuit(gateway: ControlledGateway, circuit: CircuitView) -> LiveCircuit:
    now = gateway.clock()
    plain = plain_state(circuit.state)
    forced = plain != circuit.state
    last = gateway.history.last(circuit.upstream)
    since = last.at if last is not None else circuit.opened_at
    # An instant, and not how long it is to it: that would be another number every second.
    probe = gateway.clock() + circuit.retry_after
    recent = [each for each in reversed(gateway.history.of(circuit.upstream)) if each.at >= now - HOUR]
    return LiveCircuit(
        state=CIRCUIT_WORDS[plain],
        forced=forced,
        cause=circuit.cause,
        failures=circuit.failures,
        calls=circuit.calls,
        failed_calls=circuit.failed_calls,
        since=None if since is None else rfc3339(since),
        next_probe_time=_second(probe) if plain == "open" and not forced else None,
        forced_until=_second(now + circuit.forced_for) if forced else None,
        transitions=[_transition(each) for each in recent],
    )


def _transition(each: Transition) -> LiveTransition:
    return LiveTransition(
        time=rfc3339(each.at),
        from_state=CIRCUIT_WORDS[plain_state(each.from_state)],
        to_state=CIRCUIT_WORDS[plain_state(each.to_state)],
        forced=each.to_state.startswith("forced_"),
        cause=each.cause,
    )


def _endpoint(each: EndpointView, now: float) -> LiveEndpoint:
    return LiveEndpoint(
        state=each.out or "enabled",
        available=each.available,
        healthy=each.healthy,
        ejected=each.ejected,
        in_flight=each.in_flight,
        until=_second(now + each.out_for) if each.out else None,
        reason=each.out_reason or None,
    )


def _store(gateway: ControlledGateway) -> LiveRedis | None:
    view = gateway.view
    store = view.redis or view.embedded_store
    if store is None:
        return None
    return LiveRedis(
        kind="redis" if view.redis is not None else "embedded",
        up=store.up,
        since=rfc3339(store.since),
        replicas=store.replicas,
        error=store.last_error if not store.up else None,
    )


def _worker(each: WorkerView) -> LiveWorker:
    return LiveWorker(
        state=each.state,
        requests=max(0.0, each.requests_per_second),
        in_flight=each.in_flight,
        connections=each.connections,
        event_loop_lag=max(0.0, round(each.loop_lag, 4)),
        resident_bytes=each.rss,
    )


def _latency(window: Window, name: str, labels: Iterable[str]) -> dict[str, float | None]:
    found = window.quantiles(name, labels, tuple(_PERCENTILES.values()))
    named = zip(_PERCENTILES, found, strict=True)
    return {each: None if value is None else float(f"{value:.3g}") for each, value in named}


def _short(rate: float) -> float:
    """Three digits are enough, and fewer changes make shorter patches."""
    return float(f"{rate:.3g}") if rate < 1000 else round(rate)


def _seconds(value: float) -> float:
    return float(f"{value:.3g}")


def _second(when: float) -> str:
    """An instant that is reckoned anew each time, to the second: its milliseconds mean nothing."""
    return rfc3339(float(round(when)))
