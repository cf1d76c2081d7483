"""`/status/breakers`: every circuit, keyed by upstream.

`state` is closed, open or half_open and `value` its number as in the gauge `breaker_state` (0, 1, 2); `forced` says
that an operator holds it there. `retry_after` is the time in seconds to the next probe or to the end of a state
forced open (0 when closed), `since` when it opened (RFC 3339, null when closed).
"""

from aiohttp import web

from gateway.control.gauges import BREAKER_STATE
from gateway.control.health import json_response
from gateway.control.ports.gateway import CircuitView, GatewayView, plain_state
from gateway.telemetry.log.render import rfc3339


def routes(view: GatewayView) -> list[web.RouteDef]:
    """`/status/breakers` for aiohttp: the state of every circuit, by upstream."""

    async def breakers(_: web.Request) -> web.Response:
        """`GET /status/breakers`."""
        return json_response({circuit.upstream: breaker(circuit) for circuit in view.circuits})

    return [web.get("/status/breakers", breakers)]


def breaker(circuit: CircuitView) -> dict[str, object]:
    """One circuit in the shape of `/status/breakers`. `retry_after` is in seconds, `since` an RFC 3339 time or None."""
    state = plain_state(circuit.state)
    return {
        "state": state,
        "value": BREAKER_STATE[state],
        "forced": state != circuit.state,
        "failures": circuit.failures,
        "retry_after": round(max(0.0, circuit.retry_after), 3),
        "since": None if circuit.opened_at is None else rfc3339(circuit.opened_at),
        "cause": circuit.cause,
        "generation": circuit.generation,
    }
