"""What the control plane sees of all workers: this one's figures of now, and the others' as they were last told.

An endpoint is as the worker sees it that thinks worst of it: each worker checks and ejects by itself.
"""

from collections.abc import Iterable, Iterator

from gateway.control.ports.gateway import (
    CertificateView,
    CircuitView,
    EndpointView,
    GatewayView,
    HostView,
    IssuerView,
    RedisView,
    RouteView,
)
from gateway.control.ports.journal import JournalView
from gateway.worker.host import Host

ENDPOINT = "{} {}"
"""The key of an endpoint in what workers say of themselves: upstream and address."""


class WholeView:
    """A `GatewayView` made of `own`, which is this process's, and of what `host` was told."""

    def __init__(self, own: GatewayView, host: Host) -> None:
        self._own = own
        self._host = host
        self.service = own.service
        self.version = own.version

    @property
    def started_at(self) -> float:
        """When the service began, however often its workers were replaced since."""
        return self._own.started_at if self._host.since is None else self._host.since

    @property
    def starting(self) -> bool:
        """Whether no worker listens yet."""
        return self._own.starting and not self._host.others_ready

    @property
    def draining(self) -> bool:
        """Whether the gateway stops. That a worker is being replaced is nobody's business."""
        return self._host.is_stopping or (self._own.draining and not self._host.others_ready)

    @property
    def in_flight(self) -> int:
        """Requests in flight."""
        return self._own.in_flight + int(self._host.sum("in_flight"))

    @property
    def max_in_flight(self) -> int:
        """The cap on requests in flight: the shares of the workers that take new ones."""
        others = sum(each.get("max_in_flight") or 0 for each in self._host.others if each["state"] == "ready")
        leaving = self._own.draining or self._host.is_replaced
        own = 0 if leaving and others else self._own.max_in_flight
        return own + others

    @property
    def connections(self) -> int:
        """Client connections."""
        return self._own.connections + int(self._host.sum("connections"))

    @property
    def upstream_connections(self) -> int:
        """Connections to upstreams."""
        return self._own.upstream_connections + int(self._host.sum("upstream_connections"))

    @property
    def host(self) -> HostView | None:
        """The workers."""
        return self._host.view()

    @property
    def redis(self) -> RedisView | None:
        """This worker's link. Each has its own, to the same store."""
        return self._own.redis

    @property
    def embedded_store(self) -> RedisView | None:
        """This worker's link to the supervisor's store."""
        return self._own.embedded_store

    @property
    def journal(self) -> JournalView | None:
        """The journal, as this worker finds it. All have the same."""
        return self._own.journal

    @property
    def replicas(self) -> int:
        """The live replicas of the store, as this worker last saw them."""
        return self._own.replicas

    @property
    def certificate(self) -> CertificateView | None:
        """The certificate that this worker serves. All read the same files."""
        return self._own.certificate

    @property
    def issuers(self) -> Iterable[IssuerView]:
        """The issuers of tokens, as this worker has their keys. Each fetches them for itself."""
        return self._own.issuers

    @property
    def circuits(self) -> Iterator[CircuitView]:
        """The circuits as this worker acts on them, with the counts of all."""
        others = [each["circuits"] for each in self._host.others if each.get("circuits")]
        for circuit in self._own.circuits:
            counts = [each[circuit.upstream] for each in others if circuit.upstream in each]
            if counts:
                calls, failed, slow = (sum(column) for column in zip(*counts, strict=True))
                yield circuit._replace(
                    calls=circuit.calls + calls,
                    failed_calls=circuit.failed_calls + failed,
                    slow_calls=circuit.slow_calls + slow,
                )
            else:
                yield circuit

    @property
    def endpoints(self) -> Iterator[EndpointView]:
        """The endpoints, as the worker sees each that thinks worst of it."""
        others = [each["endpoints"] for each in self._host.others if each.get("endpoints")]
        for endpoint in self._own.endpoints:
            key = ENDPOINT.format(endpoint.upstream, endpoint.endpoint)
            seen = [each[key] for each in others if key in each]
            yield endpoint._replace(
                in_flight=endpoint.in_flight + sum(each[0] for each in seen),
                healthy=endpoint.healthy and all(each[1] for each in seen),
                ejected=endpoint.ejected or any(each[2] for each in seen),
            )

    @property
    def routes(self) -> Iterable[RouteView]:
        """The routes. All workers have the same."""
        return self._own.routes

    @property
    def tunnels(self) -> Iterator[tuple[str, int]]:
        """Open tunnels by route."""
        others = [each["tunnels"] for each in self._host.others if each.get("tunnels")]
        return ((route, count + sum(each.get(route, 0) for each in others)) for route, count in self._own.tunnels)


def told_of(own: GatewayView) -> dict[str, object]:
    """What a worker says of itself, for the views of the others. What is as usual is left out, to keep it short."""
    return {
        "connections": own.connections,
        "in_flight": own.in_flight,
        "max_in_flight": own.max_in_flight,
        "upstream_connections": own.upstream_connections,
        "tunnels": {route: count for route, count in own.tunnels if count},
        "circuits": {
            each.upstream: [each.calls, each.failed_calls, each.slow_calls] for each in own.circuits if each.calls
        },
        "endpoints": {
            ENDPOINT.format(each.upstream, each.endpoint): [each.in_flight, each.healthy, each.ejected]
            for each in own.endpoints
            if each.in_flight or each.ejected or not each.healthy
        },
    }
