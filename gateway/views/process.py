"""What the control plane sees of the running gateway, and what it may order (gateway.control.ports.gateway).

Read off the objects that know, at the moment of asking; nothing is kept here but the stage of the process's life.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Literal, Protocol

from gateway.config.sections.fallback.model import FallbackConfig
from gateway.config.sections.mirror.model import MirrorConfig
from gateway.control.ports.gateway import (
    CertificateView,
    CircuitView,
    EndpointView,
    FallbackView,
    GateView,
    HostView,
    IssuerView,
    MirrorView,
    RedisView,
    RouteView,
    SplitView,
)
from gateway.control.ports.journal import JournalView
from gateway.fleet.circuits import Circuits
from gateway.fleet.endpoints import EndpointsOut, Mode
from gateway.fleet.faults import FleetFaults
from gateway.fleet.link import Link
from gateway.identity.tokens import Tokens
from gateway.journal.port import JournalState
from gateway.policy.breaker import CircuitState
from gateway.policy.limit import ConcurrencyLimit
from gateway.proxy.gate import Chain
from gateway.proxy.routes.topology import Route, Topology
from gateway.proxy.runtime import Runtime
from gateway.telemetry.alerts.rules import AlertFacts, CircuitFact, FaultFact
from gateway.telemetry.services.rates import Rate
from gateway.wire.server.certificate import Certificate
from gateway.wire.server.registry import Server

# For so long Redis may be away before that is an alert: the first connection takes its time too.
_REDIS_PATIENCE = 1.0


class HasConnections(Protocol):
    """What counts its own connections."""

    @property
    def connections(self) -> int:
        """Connections that are open."""
        ...


class LiveView:
    """`redis` says whether the link is to a Redis. `watch` must be called before anything else is asked."""

    _in_flight: ConcurrencyLimit
    _server: Server
    _control: HasConnections
    _runtime: Runtime
    _topology: Topology

    def __init__(
        self, service: str, version: str, circuits: Circuits, link: Link, out: EndpointsOut, *, redis: bool
    ) -> None:
        self.service = service
        self.version = version
        self.started_at = time.time()
        self.starting = True
        self.draining = False
        self.host: HostView | None = None
        """What is known of other workers is not in here: see `gateway.worker.whole_view`."""
        self.listener_certificate: Certificate | None = None
        self.tokens: Tokens | None = None
        """None where no route takes tokens."""
        self.journal_state: JournalState | None = None
        self.faults: FleetFaults | None = None
        """None where none may be set."""
        self._circuits = circuits
        self._link = link
        self._has_redis = redis
        self._out = out
        self._routes: tuple[RouteView, ...] = ()

    def watch(
        self,
        in_flight: ConcurrencyLimit,
        server: Server,
        control: HasConnections,
        runtime: Runtime,
        topology: Topology,
    ) -> None:
        """The rest of what is looked at; some of it is made from this view."""
        self._in_flight = in_flight
        self._server = server
        self._control = control
        self._runtime = runtime
        self._topology = topology

    @property
    def in_flight(self) -> int:
        """Requests in flight."""
        return self._in_flight.in_flight

    @property
    def max_in_flight(self) -> int:
        """The cap on requests in flight."""
        return self._in_flight.limit

    @property
    def connections(self) -> int:
        """Client connections: those of requests, handshakes, the control plane and tunnels."""
        places = self._server.places
        return len(places.connections) + len(places.handshakes) + self._control.connections + len(self._runtime.tunnels)

    @property
    def upstream_connections(self) -> int:
        """Connections to upstreams, tunnels included."""
        return sum(upstream.connections for upstream in self._topology.upstreams.values()) + len(self._runtime.tunnels)

    @property
    def redis(self) -> RedisView | None:
        """The link to Redis, None if no Redis is configured."""
        return self._store() if self._has_redis else None

    @property
    def embedded_store(self) -> RedisView | None:
        """The link to the embedded store, None if a Redis is configured."""
        return None if self._has_redis else self._store()

    def _store(self) -> RedisView:
        link = self._link
        return RedisView(link.up, time.time() - (time.monotonic() - link.since), link.last_error, link.replicas)

    @property
    def journal(self) -> JournalView | None:
        """The journal, None where no route needs one."""
        state = self.journal_state
        return None if state is None else JournalView(state.works, state.text, state.since)

    @property
    def replicas(self) -> int:
        """The live replicas of the store, as they were last seen: without Redis, the workers of this host."""
        return self._link.replicas

    @property
    def certificate(self) -> CertificateView | None:
        """The certificate of the listener, None without TLS."""
        certificate = self.listener_certificate
        return CertificateView(certificate.not_after, certificate.problem) if certificate is not None else None

    @property
    def issuers(self) -> Iterator[IssuerView]:
        """The issuers of tokens."""
        now = time.monotonic()
        for name, issuer in () if self.tokens is None else self.tokens.issuers.items():
            config, keys = issuer.config, issuer.keys
            usable = keys.usable(now)
            yield IssuerView(
                name,
                config.issuer,
                config.algorithms,
                () if usable is None else tuple(f"{key.kid or 'no kid'}: {key.described}" for key in usable.keys),
                usable is not None,
                None if keys.keys is None else keys.age(now),
                None if config.jwks_url is None else keys.retry_after(now),
                keys.problem,
            )

    @property
    def circuits(self) -> Iterator[CircuitView]:
        """The circuit of each upstream."""
        now = time.monotonic()
        for circuit in self._circuits.values():
            seen = circuit.counts(now)
            yield CircuitView(
                circuit.upstream,
                circuit.state.value,
                circuit.failures,
                circuit.generation,
                circuit.retry_after(now),
                circuit.cause,
                None if circuit.opened_at is None else time.time() - (now - circuit.opened_at),
                seen.calls,
                seen.failures,
                seen.slow_calls,
                circuit.forced_for(now),
            )

    @property
    def endpoints(self) -> Iterator[EndpointView]:
        """Every endpoint of every upstream."""
        now = time.monotonic()
        for upstream in self._topology.upstreams.values():
            out = self._out.of(upstream.name)
            for endpoint in upstream.endpoints:
                seen = upstream.name, endpoint.label, endpoint.healthy, endpoint.ejected(now), endpoint.in_flight
                stands = out.get(endpoint.label)
                if stands is None:
                    yield EndpointView(*seen)
                else:
                    yield EndpointView(*seen, stands.mode, max(0.0, stands.until - now), stands.reason)

    @property
    def routes(self) -> tuple[RouteView, ...]:
        """Every route."""
        if not self._routes:
            self._routes = tuple(_route(each) for each in self._topology.routes)
        return self._routes

    @property
    def tunnels(self) -> Iterator[tuple[str, int]]:
        """Each WebSocket route with the number of its open tunnels."""
        return ((route.name, route.tunnels.count) for route in self._topology.routes if route.config.websocket)


def _route(route: Route) -> RouteView:
    config = route.config
    fallback = config.fallback
    return RouteView(
        route.name,
        config.host or "",
        config.prefix,
        None if config.methods is None else tuple(sorted(config.methods)),
        config.upstream,
        config.websocket,
        partial(_gates, route.chain),
        None if fallback is None else _fallback(fallback),
        None if config.split is None else SplitView(dict(config.split.to), config.split.field or config.split.sticky),
        None if config.mirror is None else _mirror(config.mirror),
    )


def _fallback(config: FallbackConfig) -> FallbackView:
    response = config.response
    status = None if response is None else response.status
    return FallbackView(config.upstreams, config.conditions, config.stale_if_error, status)


def _mirror(config: MirrorConfig) -> MirrorView:
    methods = None if config.methods is None else tuple(sorted(config.methods))
    return MirrorView(config.upstream, config.percent, methods)


def _gates(chain: Chain) -> tuple[GateView, ...]:
    return tuple(GateView(gate.name, at >= chain.per_attempt, gate.describe()) for at, gate in enumerate(chain.gates))


class FleetCommands:
    """Orders about circuits; True when they hold everywhere."""

    def __init__(self, circuits: Circuits) -> None:
        self._circuits = circuits

    async def force(
        self, upstream: str, state: Literal["forced_open", "forced_closed"], duration: float, cause: str
    ) -> bool:
        """See `gateway.control.ports.gateway.CircuitCommands.force`."""
        return await self._circuits.force(upstream, CircuitState(state), duration, cause)

    async def release(self, upstream: str) -> bool:
        """See `gateway.control.ports.gateway.CircuitCommands.release`."""
        return await self._circuits.release(upstream)


class FleetEndpointCommands:
    """Orders about endpoints; True when they hold everywhere."""

    def __init__(self, out: EndpointsOut) -> None:
        self._out = out

    async def take_out(self, upstream: str, endpoint: str, mode: Mode, duration: float, reason: str) -> bool:
        """Take an endpoint out for `duration` seconds. Returns whether that holds in the whole fleet."""
        return await self._out.take_out(upstream, endpoint, mode, duration, reason)

    async def bring_back(self, upstream: str, endpoint: str) -> bool:
        """Let an endpoint take requests again. Returns whether that holds in the whole fleet."""
        return await self._out.bring_back(upstream, endpoint)


def alert_facts(view: LiveView, rates: Mapping[str, Rate], exhausted: Mapping[str, int], shed: int) -> AlertFacts:
    """What the alert rules judge. `exhausted` and `shed` are counts of all workers."""
    redis = view.redis
    return AlertFacts(
        rates=tuple(rates.values()),
        circuits=circuit_facts(view.circuits),
        redis_up=None if redis is None else redis.up or time.time() - redis.since < _REDIS_PATIENCE,
        redis_error=None if redis is None else redis.last_error,
        exhausted=exhausted,
        shed=shed,
        faults=() if view.faults is None else fault_facts(view.faults),
    )


def fault_facts(faults: FleetFaults) -> tuple[FaultFact, ...]:
    """What the alert rules judge of the faults on demand."""
    now = time.monotonic()
    return tuple(
        FaultFact(fault.upstream, f"{fault.does} for {fault.percent:g} % of them", fault.reason, max(0.0, end - now))
        for fault, _, end in faults.active
    )


def circuit_facts(circuits: Iterable[CircuitView]) -> tuple[CircuitFact, ...]:
    """What the alert rules judge of the circuits."""
    return tuple(CircuitFact(each.upstream, each.state, each.cause, each.retry_after) for each in circuits)
