"""What would become of a request now, without sending it and without spending anything: no token, no slot, no probe.

The same router, limits, circuits and limiter as of real requests are asked, so the answer is theirs. It is true at the
moment of asking and a promise of nothing: another request may take what is left.

Not looked at: the body, header fields other than the host, and whether the request is well-formed.
"""

from collections.abc import Callable, Sequence
from typing import Any

from gateway import names
from gateway.config.model import SheddingConfig
from gateway.fleet.alone import REFUSED_UNSEEN
from gateway.fleet.limiter import Limiter
from gateway.policy.breaker import CircuitState
from gateway.policy.limit import ConcurrencyLimit
from gateway.policy.retry import IDEMPOTENT_METHODS
from gateway.proxy.dots import has_dot_segment
from gateway.proxy.router import Router
from gateway.proxy.upstreams import Route, Upstream
from gateway.telemetry.render import counted

Step = dict[str, Any]
"""`policy`, `decision` (allow, wait, refuse or none), `detail` in words, `status`, `retry_after`, `figures`."""


class Explain:
    """`stopping` says whether new requests are refused, `is_control_path` what never comes to a route."""

    def __init__(
        self,
        routes: Sequence[Route],
        in_flight: ConcurrencyLimit,
        shedding: SheddingConfig,
        limiter: Limiter,
        *,
        is_control_path: Callable[[bytes], bool],
        stopping: Callable[[], bool],
        clock: Callable[[], float],
        is_exempt: Callable[[str], bool] = lambda _client: False,
    ) -> None:
        self._routes = routes
        self._router = Router(routes)
        self._in_flight = in_flight
        self._shedding = shedding
        self._limiter = limiter
        self._is_control_path = is_control_path
        self._stopping = stopping
        self._clock = clock
        self._is_exempt = is_exempt

    async def explain(self, method: str, host: str, path: str, client: str) -> dict[str, Any]:
        """`host` as `gateway.names.host` spells it, `path` as in the request line, `client` an address.

        The answer has `client`, `outcome` (control_plane, refused, waits or forwarded), `refusal` (the first refusing
        step, or None), `route`, `forwarded`, `candidates`, `steps` in the order of the policies, and `endpoints`.
        """
        key = names.client_key(client)
        answer: dict[str, Any] = {"client": key, "refusal": None, "route": None, "forwarded": None}
        answer |= {"steps": [], "endpoints": []}
        bare = path.partition("?")[0].encode()
        if self._is_control_path(bare):
            return answer | {"outcome": "control_plane", "candidates": []}
        route = self._router.match(host.encode(), path.encode())
        answer["candidates"] = [_candidate(each, route, host.encode(), bare, method) for each in self._routes]
        if route is None:
            refusal = _step("route", "refuse", "No route matches this host and path.", status=404, reason="not_found")
            return answer | {"outcome": "refused", "refusal": refusal}
        answer["route"] = route.name
        answer["forwarded"] = {
            "upstream": route.upstream.name,
            "path": route.forward_path(path.encode()).decode("latin-1"),
            "host": host if route.preserve_host else route.upstream.authority.decode(),
        }
        answer["steps"] = steps = await self._steps(route, method, path, key, exempt=self._is_exempt(client))
        now = self._clock()
        answer["endpoints"] = [
            {
                "endpoint": endpoint.label,
                "healthy": endpoint.healthy,
                "ejected": endpoint.ejected(now),
                "out": endpoint.out or None,
                "in_flight": endpoint.in_flight,
                "weight": endpoint.weight,
            }
            for endpoint in route.upstream.endpoints
        ]
        decisions = [step["decision"] for step in steps]
        answer["refusal"] = next((step for step in steps if step["decision"] == "refuse"), None)
        answer["outcome"] = (
            "refused" if answer["refusal"] is not None else "waits" if "wait" in decisions else "forwarded"
        )
        return answer

    async def _steps(self, route: Route, method: str, path: str, client: str, *, exempt: bool) -> list[Step]:
        upstream = route.upstream
        steps = []
        if route.config.path_dots == "refuse" and has_dot_segment(path.encode()):
            detail = "The path has a dot segment or a NUL byte, and the route takes none."
            steps.append(_step("path", "refuse", detail, 400, "bad_request"))
        if route.methods is not None and method not in route.methods:
            steps.append(_step("method", "refuse", f"The route takes {route.allow}.", 405, "method_not_allowed"))
        if self._stopping():
            steps.append(_step("draining", "refuse", "The gateway is stopping.", 503, "draining", 1.0))
        shedding = self._shedding
        steps.append(
            _limit("in_flight", self._in_flight, shedding.status, "overloaded", shedding.retry_after, "the gateway")
        )
        if exempt and route.policy is not None:
            detail = f"{client} is exempt from rate limits (RATE_LIMIT_EXEMPT)."
            steps.append(_step("rate_limit", "exempt", detail, figures={"name": route.policy.name}))
        else:
            steps.append(await self._rate_limit(route, client))
        steps.append(_limit("bulkhead", upstream.bulkhead, 503, "bulkhead_full", 1.0, f"upstream {upstream.name}"))
        now = self._clock()
        steps += [_circuit(upstream, now), _endpoints(upstream, now), _retry(upstream, method, now)]
        return steps

    async def _rate_limit(self, route: Route, client: str) -> Step:
        policy = route.policy
        if policy is None:
            return _step("rate_limit", "none", "The route has no rate limit.")
        decision = await self._limiter.peek(policy, client)
        figures = {
            "name": policy.name,
            "capacity": policy.capacity,
            "refill_rate": policy.refill_rate,
            "remaining": round(decision.remaining, 3),
            "reset_after": round(decision.reset_after, 3),
        }
        if decision.allowed:
            left = f"{decision.remaining:.0f} of {policy.capacity} tokens would be left"
            return _step("rate_limit", "allow", f"{left} to {client}.", figures=figures)
        detail = f"{client} has used up its {policy.capacity} tokens; {policy.refill_rate:g} come back a second."
        if decision is REFUSED_UNSEEN:
            detail = f"The limit of {client} cannot be checked now, and requests are refused until it can be."
        return _step("rate_limit", "refuse", detail, 429, "rate_limited", decision.retry_after, figures)


def _step(
    policy: str,
    decision: str,
    detail: str,
    status: int | None = None,
    reason: str | None = None,
    retry_after: float | None = None,
    figures: dict[str, Any] | None = None,
) -> Step:
    return {
        "policy": policy,
        "decision": decision,
        "detail": detail,
        "status": status,
        "reason": reason,
        "retry_after": None if retry_after is None else round(retry_after, 3),
        "figures": figures or {},
    }


def _limit(policy: str, limit: ConcurrencyLimit, status: int, reason: str, retry_after: float, whose: str) -> Step:
    figures = {
        "in_flight": limit.in_flight,
        "limit": limit.limit,
        "queued": limit.queued,
        "max_queue": limit.settings.max_queue,
        "queue_timeout": limit.settings.queue_timeout,
    }
    load = f"{limit.in_flight} of {limit.limit} requests are in flight for {whose}"
    if limit.in_flight < limit.limit:
        return _step(policy, "allow", f"{load}.", figures=figures)
    if limit.queued < limit.settings.max_queue and limit.settings.queue_timeout > 0.0:
        detail = (
            f"{load}; it would wait up to {limit.settings.queue_timeout:g} s behind {counted(limit.queued, 'other')}."
        )
        return _step(policy, "wait", detail, figures=figures)
    return _step(policy, "refuse", f"{load}.", status, reason, retry_after, figures)


def _circuit(upstream: Upstream, now: float) -> Step:
    circuit = upstream.circuit
    state = circuit.state
    retry_after = circuit.retry_after(now)
    figures = {"state": state.value, "failures": circuit.failures, "cause": circuit.cause}
    if state is CircuitState.CLOSED:
        return _step("circuit", "allow", "The circuit is closed.", figures=figures)
    if state is CircuitState.FORCED_CLOSED:
        return _step("circuit", "allow", "An operator holds the circuit closed.", figures=figures)
    if state is CircuitState.HALF_OPEN and not retry_after:
        detail = "The circuit is half-open: it would be a probe, which decides whether the circuit closes."
        return _step("circuit", "allow", detail, figures=figures)
    why = f" ({circuit.cause})" if circuit.cause else ""
    what = {
        CircuitState.HALF_OPEN: "half-open and all probes are out",
        CircuitState.FORCED_OPEN: "held open by an operator",
    }.get(state, "open")
    return _step("circuit", "refuse", f"The circuit is {what}{why}.", 503, "circuit_open", retry_after, figures)


_ALL_OUT = "An operator has taken out every one."


def _endpoints(upstream: Upstream, now: float) -> Step:
    left = [endpoint for endpoint in upstream.endpoints if not endpoint.out]
    usable = sum(endpoint.available(now) for endpoint in left)
    total = len(upstream.endpoints)
    detail = f"{usable} of {total} endpoints are available."
    if not left:
        figures = {"available": 0, "total": total}
        return _step("endpoints", "refuse", f"{detail} {_ALL_OUT}", 503, "endpoints_out", 5.0, figures)
    if not usable:
        # The balancer then takes them all for available: a guess is better than a certain refusal.
        detail += " One of them is tried all the same."
    return _step("endpoints", "allow", detail, figures={"available": usable, "total": total})


def _retry(upstream: Upstream, method: str, now: float) -> Step:
    retry = upstream.retry
    left = upstream.budget.left(now)
    figures = {
        "max_attempts": retry.max_attempts,
        "budget_left": left,
        "attempt_timeout": upstream.attempt_timeout,
        "total_timeout": upstream.total_timeout,
    }
    if retry.max_attempts == 1:
        return _step("retry", "none", "The upstream is tried once.", figures=figures)
    if method not in IDEMPOTENT_METHODS:
        detail = f"{method} is tried once it was sent, unless the request has an Idempotency-Key."
        return _step("retry", "none", detail, figures=figures)
    statuses = ", ".join(str(status) for status in sorted(retry.statuses))
    detail = (
        f"Up to {retry.max_attempts} attempts within {upstream.total_timeout:g} s, after {statuses} or no answer;"
        f" the budget has room for {counted(left, 'retry', 'retries')} now."
    )
    return _step("retry", "allow", detail, figures=figures)


def _candidate(route: Route, chosen: Route | None, host: bytes, path: bytes, method: str) -> dict[str, Any]:
    taken = route is chosen
    if taken:
        why = "The longest prefix that matches" + (", of this host." if route.host else ".")
        if route.methods is not None and method not in route.methods:
            why += f" It takes {route.allow} alone, and no other route is tried."
    elif route.host and route.host != host:
        why = f"It is for the host {route.host.decode()}."
    elif not _covers(route.prefix, path):
        why = f"The path is not below {route.prefix.decode()}."
    elif chosen is not None and chosen.host and not route.host:
        why = f"{chosen.name} is for this very host, which goes before."
    else:
        why = f"{chosen.name if chosen else 'Another route'} has a longer prefix."
    return {
        "route": route.name,
        "host": route.host.decode() or None,
        "prefix": route.prefix.decode(),
        "methods": sorted(route.methods) if route.methods is not None else None,
        "matches": taken,
        "why": why,
    }


def _covers(prefix: bytes, path: bytes) -> bool:
    """As the router does: whole segments."""
    return path == prefix or path.startswith(prefix if prefix.endswith(b"/") else prefix + b"/")
