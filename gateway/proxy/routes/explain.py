"""What would become of a request now, without sending it and without spending anything: no token, no slot, no probe.

The same router, limits, circuits and limiter as of real requests are asked, so the answer is theirs. It is true at the
moment of asking and a promise of nothing: another request may take what is left.

Not looked at: the body, header fields other than the host, and whether the request is well-formed.
"""

from collections.abc import Callable, Iterable
from typing import Any

from gateway.identity.tenants import Caller
from gateway.policy.retry import IDEMPOTENT_METHODS
from gateway.proxy.destinations.explain_fallback import explain_fallback
from gateway.proxy.gate import Question, Step, step
from gateway.proxy.requests.dots import has_dot_segment
from gateway.proxy.routes.kinds import GATES
from gateway.proxy.routes.topology import Route, Topology
from gateway.proxy.upstreams.upstream import Endpoint, Upstream
from gateway.syntax import hosts
from gateway.telemetry.log.render import counted


def nobody(_consumer: str, _tenant: str, _scope: str) -> Caller | None:
    """Where no route asks who sends a request."""
    return None


class Explain:
    """`topology` gives the present one. `stopping` says whether new requests are refused, `is_control_path` what never
    comes to a route, `is_exempt` which clients have no rate limits. `caller_of` gives the caller with the name of a
    consumer and of a tenant, and with scopes, None where all are empty or nobody is ever known."""

    def __init__(
        self,
        topology: Callable[[], Topology],
        *,
        is_control_path: Callable[[bytes], bool],
        stopping: Callable[[], bool],
        clock: Callable[[], float],
        is_exempt: Callable[[str], bool],
        caller_of: Callable[[str, str, str], Caller | None] = nobody,
    ) -> None:
        self._topology = topology
        self._is_control_path = is_control_path
        self._stopping = stopping
        self._clock = clock
        self._is_exempt = is_exempt
        self._caller_of = caller_of

    async def explain(
        self, method: str, host: str, path: str, client: str, consumer: str = "", tenant: str = "", scope: str = ""
    ) -> dict[str, Any]:
        """`host` as `gateway.syntax.hosts.host` spells it, `path` as in the request line, `client` an address.
        `consumer` and `tenant` are whose credential the request would have, and `scope` its scopes; empty: not said.

        The answer has `client`, `outcome` (control_plane, refused, waits, forwarded, or answered: with the fixed
        response of a fallback, or once the request is in the journal), `refusal` (the first refusing step, or None),
        `route`, `forwarded`, `candidates`, `steps` in the order of the policies, and `endpoints`.
        """
        key = hosts.client_key(client)
        answer: dict[str, Any] = {"client": key, "refusal": None, "route": None, "forwarded": None}
        answer |= {"steps": [], "endpoints": []}
        bare = path.partition("?")[0].encode()
        if self._is_control_path(bare):
            return answer | {"outcome": "control_plane", "candidates": []}
        topology = self._topology()
        route = topology.router.match(host.encode(), path.encode())
        answer["candidates"] = [_candidate(each, route, host.encode(), bare, method) for each in topology.routes]
        if route is None:
            refusal = step("route", "refuse", "No route matches this host and path.", status=404, reason="not_found")
            return answer | {"outcome": "refused", "refusal": refusal}
        answer["route"] = route.name
        caller = self._caller_of(consumer, tenant, scope)
        account = None if caller is None else caller.account
        priority = route.priority if account is None else max(route.priority, account.priority)
        question = Question(key, self._is_exempt(client), method, self._clock(), caller, priority)
        answer["steps"] = steps = await self._steps(route, path, question)
        split = route.split
        chosen = 0 if split is None else split.explained(question)
        upstream = route.upstream if split is None else split.upstreams[chosen]
        waits = any(step["decision"] == "wait" for step in steps)
        against: Step | None = next((step for step in steps if step["decision"] == "refuse"), None)
        outcome = "refused" if against is not None else "waits" if waits else "forwarded"
        if _is_kept(route):
            # Its upstreams are asked later, each at its time.
            outcome = "answered" if outcome == "forwarded" else outcome
        if route.workflow is not None:
            return answer | {"outcome": outcome, "refusal": against}
        if route.fallback is not None:
            hops = route.fallback.hops if split is None else split.hops[chosen]
            instead = await explain_fallback(route.fallback, hops, against, question)
            steps.append(instead.step)
            against = instead.refusal or against
            if instead.hop is not None:
                upstream, against, outcome = instead.hop.upstream, None, "waits" if instead.waits else "forwarded"
            elif instead.answered:
                against, outcome = None, "answered"
        answer["forwarded"] = {
            "upstream": upstream.name,
            "path": route.forward_path(path.encode(), upstream).decode("latin-1"),
            "host": host if route.preserve_host else upstream.authority.decode(),
        }
        answer["endpoints"] = _told(upstream.endpoints, self._clock())
        return answer | {"outcome": outcome, "refusal": against}

    async def _steps(self, route: Route, path: str, question: Question) -> list[Step]:
        method, split = question.method, route.split
        upstream = route.upstream if split is None else split.upstreams[split.explained(question)]
        steps = []
        if route.config.path_dots == "refuse" and has_dot_segment(path.encode()):
            detail = "The path has a dot segment or a NUL byte, and the route takes none."
            steps.append(step("path", "refuse", detail, 400, "bad_request"))
        if route.methods is not None and method not in route.methods:
            steps.append(step("method", "refuse", f"The route takes {route.allow}.", 405, "method_not_allowed"))
        if self._stopping():
            steps.append(step("draining", "refuse", "The gateway is stopping.", 503, "draining", 1.0))
        gates = {gate.name: gate for gate in route.chain.gates}
        for kind in GATES:
            gate = gates.get(kind.name)
            steps.append(step(kind.name, "none", kind.absent) if gate is None else await gate.explain(question))
        if _is_kept(route):
            return steps
        now = self._clock()
        steps += [_endpoints(upstream, now), _retry(upstream, method, now)]
        mirror = route.mirror
        if mirror is not None:
            methods = mirror.config.methods
            only = "" if methods is None or method in methods else ", but not with this method"
            detail = f"A copy of {mirror.config.percent:g} % goes to {mirror.upstream.name}{only}."
            steps.append(step("mirror", "none", detail))
        faults = upstream.faults
        if faults is not None and faults.met:
            does = "; ".join(f"{each.does} (fault {each.id}, {each.percent:g} %)" for each in faults.met)
            steps.append(step("fault", "allow", f"An operator has some of its attempts meet a fault: {does}."))
        return steps


def _is_kept(route: Route) -> bool:
    """Whether its requests are kept in the journal and answered by the gateway itself."""
    return route.deliver is not None or route.workflow is not None


def _told(endpoints: Iterable[Endpoint], now: float) -> list[dict[str, Any]]:
    return [
        {
            "endpoint": endpoint.label,
            "healthy": endpoint.healthy,
            "ejected": endpoint.ejected(now),
            "out": endpoint.out or None,
            "in_flight": endpoint.in_flight,
            "weight": endpoint.weight,
        }
        for endpoint in endpoints
    ]


_ALL_OUT = "An operator has taken out every one."


def _endpoints(upstream: Upstream, now: float) -> Step:
    left = [endpoint for endpoint in upstream.endpoints if not endpoint.out]
    usable = sum(endpoint.available(now) for endpoint in left)
    total = len(upstream.endpoints)
    detail = f"{usable} of {total} endpoints are available."
    if not left:
        figures = {"available": 0, "total": total}
        return step("endpoints", "refuse", f"{detail} {_ALL_OUT}", 503, "endpoints_out", 5.0, figures)
    if not usable:
        # The balancer then takes them all for available: a guess is better than a certain refusal.
        detail += " One of them is tried all the same."
    return step("endpoints", "allow", detail, figures={"available": usable, "total": total})


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
        return step("retry", "none", "The upstream is tried once.", figures=figures)
    if method not in IDEMPOTENT_METHODS and not retry.non_idempotent:
        detail = f"{method} is tried once it was sent, unless the request has an Idempotency-Key."
        return step("retry", "none", detail, figures=figures)
    statuses = ", ".join(str(status) for status in sorted(retry.statuses))
    detail = (
        f"Up to {retry.max_attempts} attempts within {upstream.total_timeout:g} s, after {statuses} or no answer;"
        f" the budget has room for {counted(left, 'retry', 'retries')} now."
    )
    return step("retry", "allow", detail, figures=figures)


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
