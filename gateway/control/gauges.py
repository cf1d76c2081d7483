"""The gauges that are read off the gateway's view at each scrape.

`redis_up` has no series when no Redis is configured, so that an alert on `redis_up == 0` means a loss. Those of the
certificate have none without TLS. The two breaker gauges say the same in two numberings because two sets of dashboards
exist; a forced state counts as the state that it amounts to.

Each says what the values of several workers amount to (`gateway.telemetry.metrics.snapshot`). Those that are `mine` are
read off the view of all workers, the others off the worker's own, and combined.
"""

from collections.abc import Callable, Iterator
from functools import partial

from gateway.control.ports.gateway import GatewayView, plain_state
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.cells import Combine, Labels

CIRCUIT_BREAKER_STATE = {"closed": 1, "open": 2, "half_open": 3}
BREAKER_STATE = {"closed": 0, "open": 1, "half_open": 2}

Series = Iterator[tuple[Labels, float]]


def _one(value: float) -> Series:
    yield (), value


def _circuits(numbers: dict[str, int], view: GatewayView) -> Series:
    return (((circuit.upstream,), numbers[plain_state(circuit.state)]) for circuit in view.circuits)


def _redis(view: GatewayView) -> Series:
    state = view.redis
    if state is not None:
        yield (), int(state.up)


def _certificate(view: GatewayView) -> Series:
    served = view.certificate
    if served is not None and served.not_after is not None:
        yield (), served.not_after


def _certificate_stale(view: GatewayView) -> Series:
    served = view.certificate
    if served is not None:
        yield (), int(served.problem is not None)


def _replicas(view: GatewayView) -> Series:
    yield (), view.replicas


def _connections(view: GatewayView) -> Series:
    yield ("client",), view.connections
    yield ("upstream",), view.upstream_connections


def _tunnels(view: GatewayView) -> Series:
    return (((route,), count) for route, count in view.tunnels)


def _endpoints_in_flight(view: GatewayView) -> Series:
    return (((each.upstream, each.endpoint), each.in_flight) for each in view.endpoints)


def _endpoints_available(view: GatewayView) -> Series:
    return (((each.upstream, each.endpoint), int(each.available)) for each in view.endpoints)


GAUGES: tuple[tuple[str, str, Labels, Callable[[GatewayView], Series], Combine], ...] = (
    ("http_requests_in_flight", "Requests in flight.", (), lambda view: _one(view.in_flight), "sum"),
    ("gateway_max_in_flight", "Requests allowed in flight.", (), lambda view: _one(view.max_in_flight), "mine"),
    ("gateway_draining", "1 while the gateway is stopping.", (), lambda view: _one(int(view.draining)), "mine"),
    ("gateway_connections", "Open connections, idle ones included.", ("side",), _connections, "sum"),
    ("websocket_connections_active", "Open WebSocket tunnels.", ("route",), _tunnels, "sum"),
    (
        "circuit_breaker_state",
        "1 closed, 2 open, 3 half-open.",
        ("upstream",),
        partial(_circuits, CIRCUIT_BREAKER_STATE),
        "max",
    ),
    ("breaker_state", "0 closed, 1 open, 2 half-open.", ("downstream",), partial(_circuits, BREAKER_STATE), "max"),
    ("redis_up", "1 while Redis answers.", (), _redis, "min"),
    (
        "gateway_tls_certificate_expiry_timestamp_seconds",
        "When the certificate of the listener expires, in seconds since the epoch.",
        (),
        _certificate,
        "min",
    ),
    (
        "gateway_tls_certificate_reload_failed",
        "1 while the files of the certificate cannot be used and an earlier one is served.",
        (),
        _certificate_stale,
        "max",
    ),
    (
        "gateway_replicas",
        "Live workers last seen: of all gateways on the same Redis, without Redis of this one.",
        (),
        _replicas,
        "max",
    ),
    (
        "gateway_endpoint_in_flight",
        "Attempts in flight at one endpoint.",
        ("upstream", "endpoint"),
        _endpoints_in_flight,
        "sum",
    ),
    (
        "gateway_endpoint_available",
        "1 while an endpoint is healthy and not ejected.",
        ("upstream", "endpoint"),
        _endpoints_available,
        "min",
    ),
)
"""Name, documentation, names of the labels, what reads the series, and how those of several workers become one."""


def register(metrics: Metrics, whole: GatewayView, own: GatewayView) -> None:
    """Add the gauges to `metrics`, once. `whole` is the view of all workers, `own` that of this one."""
    for name, documentation, label_names, read, combine in GAUGES:
        view = whole if combine == "mine" else own
        metrics.gauge(name, documentation, label_names, partial(read, view), combine)
