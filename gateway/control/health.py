"""`/health` for people and dashboards, `/livez` and `/readyz` for orchestrators and load balancers.

    unhealthy   the gateway is stopping, or no upstream's circuit lets traffic through
    degraded    the store is lost, or the journal does not work, or any circuit is not closed, or an upstream has no
                endpoint left, or the in-flight cap is reached, or the keys of an issuer of tokens cannot be had, or the
                gateway is still starting, or a worker is missing or keeps dying, or a reload failed
    healthy     otherwise

`/health` answers 200 with the word in it, whatever the word is, because a restart of the gateway mends none of the
causes. If the check failed while an upstream is down, an orchestrator would restart the gateway, or a load balancer
would remove it, although it is the one component that still answers with a reason and a `Retry-After`. Traffic should
depend on `/readyz`, which is 503 while starting or draining. `/livez` is 200 as long as the event loop runs.

Each answer is built from memory without waiting for anything, so it may be polled every second.
"""

import time
from collections.abc import Callable

import orjson
from aiohttp import web

from gateway.control.models.health import HealthReport
from gateway.control.ports.gateway import PASSING, UNPLANNED, CircuitView, GatewayView, RedisView
from gateway.control.serving.allowance import Allowance
from gateway.control.serving.problem import RefusalError
from gateway.telemetry.log.render import rfc3339

# A worker that has died so often within five minutes keeps dying.
_KEEPS_DYING = 3

_ORDER = {"healthy": 0, "degraded": 1, "unhealthy": 2}


class Health:
    """The three answers. `health` may be asked without limit: see `Allowance`."""

    def __init__(self, view: GatewayView, clock: Callable[[], float] = time.time) -> None:
        self._view = view
        self._clock = clock
        self._allowance = Allowance(share=0.02, burst=0.02)
        self._last = b""

    def health(self) -> bytes:
        """The JSON body of `/health`. It is computed anew while the allowance of time permits, and else is the last
        one."""
        if not self._last or self._allowance.open:
            began = time.perf_counter()
            self._last = _line(HealthReport.model_validate(report(self._view, self._clock())).model_dump(mode="json"))
            self._allowance.spend(time.perf_counter() - began)
        return self._last

    def livez(self) -> bytes:
        """The JSON body of `/livez`, which is always the same."""
        return _ALIVE

    def readyz(self) -> bytes | None:
        """None while it is not ready."""
        return None if self._view.draining or self._view.starting else _READY

    def routes(self) -> list[web.RouteDef]:
        """`/health`, `/livez` and `/readyz` for aiohttp. `/readyz` is 503 while the gateway starts or stops; the others
        always are 200."""

        async def health(_: web.Request) -> web.Response:
            """`GET /health`."""
            return _json(self.health())

        async def livez(_: web.Request) -> web.Response:
            """`GET /livez`."""
            return _json(self.livez())

        async def readyz(_: web.Request) -> web.Response:
            """`GET /readyz`."""
            if self._view.draining:
                raise RefusalError(503, "The gateway is stopping.", reason="draining", retry_after=1)
            if self._view.starting:
                raise RefusalError(503, "The gateway is starting.", reason="starting", retry_after=1)
            return _json(_READY)

        return [web.get("/health", health), web.get("/livez", livez), web.get("/readyz", readyz)]


def report(view: GatewayView, now: float) -> dict[str, object]:
    """The body of `/health`. `reasons` are sentences for the person who is on call, in the order of the checks."""
    reasons: list[str] = []
    checks = {
        "gateway": _gateway(view, reasons),
        "redis": _redis(view, now, reasons),
        "embedded_store": _embedded_store(view, now, reasons),
        "journal": _journal(view, now, reasons),
        "circuits": _circuits(view, reasons),
        "endpoints": _endpoints(view, reasons),
        "capacity": _capacity(view, reasons),
        "certificate": _certificate(view, now, reasons),
        "issuers": _issuers(view, reasons),
        "workers": _workers(view, reasons),
    }
    worst = max((str(check["status"]) for check in checks.values()), key=lambda word: _ORDER.get(word, 0))
    return {
        "status": worst if worst in _ORDER else "healthy",
        "service": view.service,
        "version": view.version,
        "uptime_seconds": round(max(0.0, now - view.started_at), 1),
        "reasons": reasons,
        "checks": checks,
    }


def circuit_reason(circuit: CircuitView) -> str:
    """What it means that the circuit is not closed, and what to do about it."""
    why = f" ({circuit.cause})" if circuit.cause else ""
    if circuit.state == "forced_open":
        return (
            f"The circuit of {circuit.upstream} is held open by an operator{why} for another"
            f" {circuit.retry_after:.0f} s."
        )
    if circuit.state == "half_open":
        return f"The circuit of {circuit.upstream} is half-open{why}: probes decide whether it closes."
    return (
        f"The circuit of {circuit.upstream} is open{why}; next probe in {circuit.retry_after:.0f} s."
        " Check that upstream."
    )


def exhausted_reason(upstream: str) -> str:
    """Why an upstream is unhealthy that has no endpoint left, in one sentence."""
    return f"No endpoint of {upstream} is available: each is ejected, fails its check, or is taken out by an operator."


def json_response(body: object) -> web.Response:
    """A JSON answer with status 200."""
    return _json(_line(body))


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def _line(body: object) -> bytes:
    return orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)


_ALIVE = _line({"status": "alive"})
_READY = _line({"status": "ready"})


def _gateway(view: GatewayView, reasons: list[str]) -> dict[str, object]:
    if view.draining:
        reasons.append("The gateway is stopping and takes no new connections; send traffic to another replica.")
        return {"status": "unhealthy", "state": "draining"}
    if view.starting:
        reasons.append("The gateway is starting.")
        return {"status": "degraded", "state": "starting"}
    return {"status": "healthy", "state": "running"}


def _redis(view: GatewayView, now: float, reasons: list[str]) -> dict[str, object]:
    return _store(
        view.redis, now, reasons, "Redis has been unreachable", "replica's own until it returns. Check that it runs and"
        " that the network between lets it through.",
    )  # fmt: skip


def _embedded_store(view: GatewayView, now: float, reasons: list[str]) -> dict[str, object]:
    return _store(
        view.embedded_store, now, reasons, "The embedded store has been away", "worker's own until it is back. The"
        " supervisor that keeps it is busy, stopped or gone; look at its process.",
    )  # fmt: skip


def _store(store: RedisView | None, now: float, reasons: list[str], is_away: str, whose: str) -> dict[str, object]:
    """What is shared. `is_away` and `whose` are the words for an operator where it does not answer."""
    if store is None:
        return {"status": "disabled"}
    if not store.up:
        lost = max(0.0, now - store.since)
        why = f" ({store.last_error})" if store.last_error else ""
        reasons.append(f"{is_away} for {lost:.0f} s{why}: limits and circuits are this {whose}")
    return {
        "status": "healthy" if store.up else "degraded",
        "up": store.up,
        "since": rfc3339(store.since),
        "last_error": store.last_error,
        "replicas": store.replicas,
    }


def _journal(view: GatewayView, now: float, reasons: list[str]) -> dict[str, object]:
    journal = view.journal
    if journal is None:
        return {"status": "disabled"}
    if not journal.works:
        since = max(0.0, now - journal.since)
        reasons.append(
            f"The journal has not worked for {since:.0f} s ({journal.trouble}): routes that promise to survive a crash"
            " refuse requests until it does."
        )
    return {
        "status": "healthy" if journal.works else "degraded",
        "works": journal.works,
        "since": rfc3339(journal.since),
    }


def _circuits(view: GatewayView, reasons: list[str]) -> dict[str, object]:
    names: dict[str, list[str]] = {}
    total = 0
    for circuit in view.circuits:
        total += 1
        if circuit.state in PASSING:
            continue
        names.setdefault(circuit.state, []).append(circuit.upstream)
        reasons.append(circuit_reason(circuit))
    blocked = sum(map(len, names.values()))
    status = "healthy" if not blocked else ("unhealthy" if blocked == total else "degraded")
    return {"status": status, "total": total, **{state: sorted(names[state]) for state in sorted(names)}}


def _endpoints(view: GatewayView, reasons: list[str]) -> dict[str, object]:
    available: dict[str, int] = {}
    out: dict[str, list[str]] = {}
    total = 0
    for endpoint in view.endpoints:
        total += 1
        available[endpoint.upstream] = available.get(endpoint.upstream, 0) + endpoint.available
        if endpoint.out:
            out.setdefault(endpoint.out, []).append(f"{endpoint.upstream} {endpoint.endpoint}")
    empty = sorted(upstream for upstream, count in available.items() if not count)
    reasons += [exhausted_reason(upstream) for upstream in empty]
    return {
        "status": "degraded" if empty else "healthy",
        "total": total,
        "available": sum(available.values()),
        "exhausted": empty,
        **out,
    }


def _capacity(view: GatewayView, reasons: list[str]) -> dict[str, object]:
    in_flight, limit = view.in_flight, view.max_in_flight
    full = in_flight >= limit
    if full:
        reasons.append(
            f"{in_flight} of {limit} requests are in flight: further ones are shed. Scale out, or raise MAX_INFLIGHT."
        )
    return {"status": "degraded" if full else "healthy", "in_flight": in_flight, "max_in_flight": limit}


def _certificate(view: GatewayView, now: float, reasons: list[str]) -> dict[str, object]:
    certificate = view.certificate
    if certificate is None:
        return {"status": "disabled"}
    not_after, problem = certificate
    if problem is not None:
        reasons.append(f"A renewed certificate is not served: {problem}. The one loaded before stays.")
    expired = not_after is not None and not_after <= now
    if expired:
        reasons.append("The certificate of the listener has expired: renew it, the files are read again by themselves.")
    return {
        "status": "degraded" if expired or problem is not None else "healthy",
        "not_after": rfc3339(not_after) if not_after is not None else None,
        "problem": problem,
    }


def _issuers(view: GatewayView, reasons: list[str]) -> dict[str, object]:
    """Without what they are called in tokens: who may ask for the health of the gateway need not know it."""
    issuers = list(view.issuers)
    if not issuers:
        return {"status": "disabled"}
    failing = [each for each in issuers if each.problem is not None]
    for each in failing:
        stay = f"those of {each.age:.0f} s ago stay in use" if each.usable else "its tokens get 503"
        reasons.append(
            f"The keys of the issuer {each.name} cannot be had ({each.problem}): {stay}. Check that the issuer answers."
        )
    return {
        "status": "degraded" if failing else "healthy",
        "total": len(issuers),
        "failing": sorted(each.name for each in failing),
        "without_keys": sorted(each.name for each in issuers if not each.usable),
    }


def _workers(view: GatewayView, reasons: list[str]) -> dict[str, object]:
    """Without pids: who may ask for the health of the gateway need not know them."""
    host = view.host
    if host is None:
        return {"status": "disabled"}
    ready = sum(worker.state == "ready" for worker in host.workers)
    degraded = False
    if ready < host.wanted and not view.draining:
        degraded = True
        others = {state: sum(worker.state == state for worker in host.workers) for state in ("starting", "stalled")}
        also = "".join(f", {count} {state}" for state, count in others.items() if count)
        reasons.append(f"{ready} of {host.wanted} workers are ready{also}. The log says why one ended.")
    deaths = [slot for _, slot, cause in host.recent if cause in UNPLANNED]
    for slot in sorted(set(deaths)):
        if deaths.count(slot) >= _KEEPS_DYING:
            degraded = True
            reasons.append(
                f"Worker {slot} keeps dying: {deaths.count(slot)} times within five minutes. The log says how."
            )
    if host.reload is not None and not host.reload.successful:
        degraded = True
        reasons.append("The last reload failed, and the configuration before it stays. `gateway check` says why.")
    return {
        "status": "degraded" if degraded else "healthy",
        "wanted": host.wanted,
        "ready": ready,
        "restarts_of_late": {cause: sum(each == cause for _, _, each in host.recent) for cause in host.restarts},
        "last_reload_successful": None if host.reload is None else host.reload.successful,
    }
