"""Upstreams and their endpoints at run time.

Everything that can be computed once (authority, base path, header serialisers) is, so that a request only reads.
"""

import asyncio
import random
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import assert_never

from gateway.config.sections.upstreams.model import EndpointConfig, UpstreamConfig, UpstreamTls
from gateway.fleet.circuits import Circuit
from gateway.fleet.endpoints import Out
from gateway.policy.adaptive import AdaptiveLimit
from gateway.policy.balancer import Balancer, LeastInFlight, RoundRobin
from gateway.policy.budget import RetryBudget
from gateway.policy.ejection import Ejection
from gateway.policy.limit import ConcurrencyLimit
from gateway.policy.outcome import IGNORED, Outcome
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.field_edits import edits_of
from gateway.proxy.upstreams.faults import UpstreamFaults
from gateway.syntax import hosts
from gateway.wire.client.lifetime import Closed, Lifetime
from gateway.wire.client.pool import EndpointPool
from gateway.wire.client.resolver import Resolver


class Endpoint:
    """One address of an upstream: its connections, its load, its health."""

    __slots__ = ("_ejection", "_index", "_standing", "available", "in_flight", "label", "out", "pool", "weight")

    def __init__(self, index: int, weight: int, pool: EndpointPool, ejection: Ejection) -> None:
        self.weight = weight
        self.pool = pool
        self.label = pool.label
        self.out = ""
        """`drained` or `disabled` while an operator has taken it out; then the balancer does not know it."""
        self.in_flight = 0
        self._index = index
        self._ejection = ejection
        self._standing = ejection.health[index]
        self.available = self._standing.available

    def __repr__(self) -> str:
        return f"<Endpoint {self.label} in_flight={self.in_flight} {self._standing}>"

    @property
    def host(self) -> str:
        """A name or an address."""
        return self.pool.host

    @property
    def port(self) -> int:
        """The port to connect to."""
        return self.pool.port

    @property
    def checked(self) -> bool:
        """Whether the active checks ask it; what is disabled may be switched off."""
        return self.out != "disabled"

    @property
    def healthy(self) -> bool:
        """The opinion of the active checks; true without any."""
        return self._standing.healthy

    def set_healthy(self, healthy: bool) -> None:
        """Take over the verdict of the active checks."""
        self._standing.healthy = healthy

    def ejected(self, now: float) -> bool:
        """Whether the endpoint is left out at `now` because of its own failures."""
        return self._standing.ejected(now)

    def answered_since(self, instant: float) -> bool:
        """Whether an attempt that ended after `instant` was a success."""
        return self._standing.last_success > instant

    def ended(self, outcome: Outcome, now: float) -> None:
        """One attempt that had picked this endpoint is over."""
        self.in_flight -= 1
        if outcome is not IGNORED:
            self._ejection.record(self._index, outcome, now)


class Upstream:
    """A named service and the protections around it."""

    def __init__(
        self,
        config: UpstreamConfig,
        circuit: Circuit,
        bulkhead: ConcurrencyLimit,
        loop: asyncio.AbstractEventLoop,
        resolver: Resolver,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self.name = config.name
        self.config = config
        self.circuit = circuit
        self.bulkhead = bulkhead
        adaptive = config.adaptive
        self.adaptive = None if adaptive is None else AdaptiveLimit(adaptive, bulkhead.limit, clock())
        self.budget = RetryBudget(config.budget, clock)
        self.retry = config.retry
        self.failure_statuses = config.failure_statuses
        self.attempt_timeout = config.attempt_timeout
        self.total_timeout = config.total_timeout
        self.idle_timeout = config.idle_timeout
        self.authority = config.authority.encode()
        self.base_path = config.base_path.encode()
        self.request_edits = edits_of(config.request_headers)
        """None: it gets the fields of requests as they come."""
        self.scheme = "https" if config.tls is not None else "http"
        self.authorities = (
            config.authority,
            *(hosts.written(each.host, each.port) for each in config.endpoints),
        )
        """Its own, as a URL of it may have them."""
        ejection = Ejection(config.ejection, len(config.endpoints))
        self.tls = tls_context(config.tls) if config.tls is not None else None
        self.endpoints = tuple(
            Endpoint(index, endpoint.weight, self._pool(endpoint, loop, resolver, rng), ejection)
            for index, endpoint in enumerate(config.endpoints)
        )
        self._rng = rng
        self.balancer = self._balanced(self.endpoints)
        """Picks the endpoint for an attempt, of those that are not taken out."""
        self.all_out = Refusal(503, "endpoints_out", f"an operator has taken out every endpoint of {config.name}", 5)
        """What it means to a client that no endpoint is left."""
        self.faults: UpstreamFaults | None = None
        """What an operator has its attempts meet; None, as nearly always: nothing."""

    def __repr__(self) -> str:
        return f"<Upstream {self.name} {self.circuit.state.value} in_flight={self.bulkhead.in_flight}>"

    def take_out(self, out: Mapping[str, Out]) -> None:
        """From now on the endpoints in `out`, and only these, get no new requests. What is under way goes on."""
        for endpoint in self.endpoints:
            stands = out.get(endpoint.label)
            endpoint.out = stands.mode if stands is not None else ""
        self.balancer = self._balanced([endpoint for endpoint in self.endpoints if not endpoint.out])

    def _balanced(self, endpoints: Sequence[Endpoint]) -> Balancer[Endpoint]:
        balance = self.config.balance
        if balance == "least_in_flight":
            return LeastInFlight(endpoints, self._rng)
        if balance == "round_robin":
            return RoundRobin(endpoints)
        assert_never(balance)

    def _pool(
        self,
        endpoint: EndpointConfig,
        loop: asyncio.AbstractEventLoop,
        resolver: Resolver,
        rng: random.Random,
    ) -> EndpointPool:
        config = self.config
        resolver.expect(endpoint.host, endpoint.port, config.dns_ttl, config.dns_stale)
        return EndpointPool(
            loop,
            resolver,
            endpoint.host,
            endpoint.port,
            tls=self.tls,
            server_name=config.tls.server_name if config.tls is not None else None,
            max_connections=config.max_connections,
            lifetime=Lifetime(config.keepalive_timeout, config.max_connection_age, config.max_requests_per_connection),
            rng=rng,
            connect_timeout=config.connect_timeout,
        )

    @property
    def certificate_files(self) -> tuple[str, ...]:
        """The files that `read_certificates_again` reads."""
        tls = self.config.tls
        if tls is None:
            return ()
        return tuple(name for name in (tls.ca_file, tls.cert_file, tls.key_file) if name is not None)

    def read_certificates_again(self) -> None:
        """Read the CA file and the client certificate anew, for connections from now on. What a CA file held before is
        trusted until a reload. Raises OSError when a file cannot be read or used."""
        tls = self.config.tls
        if tls is None or self.tls is None:
            return
        if tls.cert_file is not None:
            # A pair that does not match would be half loaded, so a context that nobody uses tries it first.
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(tls.cert_file, tls.key_file)
            self.tls.load_cert_chain(tls.cert_file, tls.key_file)
        if tls.ca_file is not None:
            self.tls.load_verify_locations(tls.ca_file)

    @property
    def connections(self) -> int:
        """Connections that are open, to all endpoints, idle ones included."""
        return sum(endpoint.pool.open for endpoint in self.endpoints)

    def connections_closed(self) -> Iterator[tuple[Closed, int]]:
        """How many connections were closed while no request used them, by cause."""
        for cause in Closed:
            yield cause, sum(endpoint.pool.closed[cause] for endpoint in self.endpoints)

    def close(self) -> None:
        """Close the idle connections; busy ones close when they come back."""
        for endpoint in self.endpoints:
            endpoint.pool.close()


def tls_context(tls: UpstreamTls) -> ssl.SSLContext:
    """TLS as a client. Without `verify` neither the chain nor the name is checked."""
    context = ssl.create_default_context(cafile=tls.ca_file)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
