"""The gauges that are read off the gateway's view at each scrape.

`redis_up` has no series when no Redis is configured, so that an alert on `redis_up == 0` means a loss, and those of the
certificate have none without TLS. The two breaker
gauges say the same in two numberings because two sets of dashboards exist; a forced state counts as what it amounts to.
"""

from collections.abc import Iterator

from gateway.control.view import GatewayView, plain_state
from gateway.telemetry.cells import Labels
from gateway.telemetry.metrics import Metrics

CIRCUIT_BREAKER_STATE = {"closed": 1, "open": 2, "half_open": 3}
BREAKER_STATE = {"closed": 0, "open": 1, "half_open": 2}

Series = Iterator[tuple[Labels, float]]


def register(metrics: Metrics, view: GatewayView) -> None:
    """Add the gauges of `view` to `metrics`, once."""

    def circuits(numbers: dict[str, int]) -> Series:
        return (((circuit.upstream,), numbers[plain_state(circuit.state)]) for circuit in view.circuits)

    def redis() -> Series:
        state = view.redis
        if state is not None:
            yield (), int(state.up)

    def certificate() -> Series:
        served = view.certificate
        if served is not None and served.not_after is not None:
            yield (), served.not_after

    def certificate_stale() -> Series:
        served = view.certificate
        if served is not None:
            yield (), int(served.problem is not None)

    def replicas() -> Series:
        state = view.redis
        yield (), state.replicas if state is not None else 1

    def connections() -> Series:
        yield ("client",), view.connections
        yield ("upstream",), view.upstream_connections

    def endpoints_in_flight() -> Series:
        return (((each.upstream, each.endpoint), each.in_flight) for each in view.endpoints)

    def endpoints_available() -> Series:
        return (((each.upstream, each.endpoint), int(each.available)) for each in view.endpoints)

    metrics.gauge("http_requests_in_flight", "Requests in flight.", (), lambda: (((), view.in_flight),))
    metrics.gauge("gateway_max_in_flight", "Requests allowed in flight.", (), lambda: (((), view.max_in_flight),))
    metrics.gauge("gateway_draining", "1 while the gateway is stopping.", (), lambda: (((), int(view.draining)),))
    metrics.gauge("gateway_connections", "Open connections, idle ones included.", ("side",), connections)
    metrics.gauge(
        "websocket_connections_active",
        "Open WebSocket tunnels.",
        ("route",),
        lambda: (((route,), count) for route, count in view.tunnels),
    )
    metrics.gauge(
        "circuit_breaker_state",
        "1 closed, 2 open, 3 half-open.",
        ("upstream",),
        lambda: circuits(CIRCUIT_BREAKER_STATE),
    )
    metrics.gauge("breaker_state", "0 closed, 1 open, 2 half-open.", ("downstream",), lambda: circuits(BREAKER_STATE))
    metrics.gauge("redis_up", "1 while Redis answers.", (), redis)
    metrics.gauge(
        "gateway_tls_certificate_expiry_timestamp_seconds",
        "When the certificate of the listener expires, in seconds since the epoch.",
        (),
        certificate,
    )
    metrics.gauge(
        "gateway_tls_certificate_reload_failed",
        "1 while the files of the certificate cannot be used and an earlier one is served.",
        (),
        certificate_stale,
    )
    metrics.gauge("gateway_replicas", "Live replicas last seen, this one included.", (), replicas)
    metrics.gauge(
        "gateway_endpoint_in_flight",
        "Attempts in flight at one endpoint.",
        ("upstream", "endpoint"),
        endpoints_in_flight,
    )
    metrics.gauge(
        "gateway_endpoint_available",
        "1 while an endpoint is healthy and not ejected.",
        ("upstream", "endpoint"),
        endpoints_available,
    )
