"""The figures of the services, and forgetting them.

`/api/resilience/metrics` is also a scrape target: it answers in the Prometheus text when `Accept` prefers that to JSON.
"""

from typing import Annotated, Any

from aiohttp import web
from pydantic import BeforeValidator, Field

from gateway.control.api import audit
from gateway.control.api.circuits import word
from gateway.control.api.operation import Call, Operation
from gateway.control.models.figures import ErrorRate, ErrorsByCategory, Metrics, Reset, ServiceMetrics
from gateway.control.models.shapes import Input, Nothing
from gateway.control.parts import ControlledGateway, ServiceStates
from gateway.control.service_health import judged
from gateway.telemetry.log.render import rfc3339
from gateway.telemetry.metrics.accept import media_ranges
from gateway.telemetry.metrics.exposition import OPENMETRICS, TEXT
from gateway.telemetry.services.cells import HORIZON
from gateway.telemetry.services.rates import DEFAULT_WINDOW, Rate

PATH = "/api/resilience/metrics"


def whole(value: object) -> object:
    """Digits as a number. Without this, pydantic would also accept `1_0` and ` 5.0`."""
    if isinstance(value, str):
        if value.isascii() and value.removeprefix("-").isdigit():
            return int(value[:20])
        raise ValueError("not an integer")
    return value


_LONGEST, _USUAL = int(HORIZON // 60), int(DEFAULT_WINDOW // 60)

WHOLE = BeforeValidator(whole)


class Window(Input):
    """The time that figures are asked for."""

    window_minutes: Annotated[int, Field(ge=1, le=_LONGEST, description="The last so many minutes"), WHOLE] = _USUAL


def rate_members(rate: Rate) -> dict[str, Any]:
    """The members of `gateway.control.models.figures.ErrorRate`."""
    return {
        "service": rate.service,
        "window_minutes": round(rate.window / 60),
        "error_rate": round(min(1.0, rate.error_rate), 6),
        "errors_per_minute": round(rate.errors_per_minute, 3),
        "requests": rate.requests,
        "failed_requests": rate.failed_requests,
        "errors": rate.errors,
        "refused": rate.refused,
        "errors_by_category": ErrorsByCategory(**rate.by_category),
        "last_error_time": None if rate.last_error_time is None else rfc3339(rate.last_error_time),
        "scope": rate.scope,
    }


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operations on figures: to see those of all services or of one, and to reset one."""

    def service_metrics(rate: Rate, states: ServiceStates) -> ServiceMetrics:
        circuit = states.circuits.get(rate.service)
        return ServiceMetrics(
            **rate_members(rate),
            status=judged(states, rate).status,
            circuit_state=None if circuit is None else word(circuit.state),
        )

    async def every(call: Call[Window, Nothing]) -> Metrics | web.StreamResponse:
        """The figures of all services, or the Prometheus text for a scraper."""
        accept = ", ".join(call.request.headers.getall("Accept", []))
        if prefers_text(accept):
            return await gateway.scrape.respond(accept)
        minutes = call.query.window_minutes
        rates = await gateway.figures.rates(minutes * 60.0)
        states = gateway.states()
        return Metrics(window_minutes=minutes, services=[service_metrics(rate, states) for rate in rates.values()])

    async def one(call: Call[Window, Nothing]) -> ServiceMetrics:
        """The figures of one service."""
        rate = await gateway.figures.rate(call.service, call.query.window_minutes * 60.0)
        return service_metrics(rate, gateway.states())

    async def error_rate(call: Call[Window, Nothing]) -> ErrorRate:
        """The figures of one service over a window."""
        rate = await gateway.figures.rate(call.service, call.query.window_minutes * 60.0)
        return ErrorRate(**rate_members(rate))

    async def reset(call: Call[Nothing, Nothing]) -> Reset:
        """Forget the figures of a service and close its circuit."""
        return await _reset(gateway, call)

    return [
        Operation(
            "GET", PATH, "getMetrics", "The figures of every service", Metrics, every, Window, Nothing,
            also=(TEXT, OPENMETRICS),
        ),
        Operation(
            "GET", f"{PATH}/{{service}}", "getServiceMetrics", "The figures of one service",
            ServiceMetrics, one, Window, Nothing,
        ),
        Operation(
            "GET", f"{PATH}/{{service}}/error-rate", "getErrorRate", "How often one service failed within a window",
            ErrorRate, error_rate, Window, Nothing,
        ),
        Operation(
            "POST", f"{PATH}/{{service}}/reset", "resetMetrics",
            "Forget the figures of a service and close its circuit in the whole fleet",
            Reset, reset, Nothing, Nothing, changes=True,
        ),
    ]  # fmt: skip


async def _reset(gateway: ControlledGateway, call: Call[Nothing, Nothing]) -> Reset:
    circuit = gateway.circuit(call.service)
    before = await gateway.figures.rate(call.service)
    done = await gateway.figures.reset(call.service)
    after = gateway.circuit(call.service)
    audit.record(
        "reset",
        call,
        before={
            "circuit": circuit.state if circuit else None,
            "requests": before.requests,
            "errors": before.errors,
        },
        after={"circuit": after.state if after else None, "requests": 0, "errors": 0},
        scope=done.figures,
    )
    return Reset(
        service=call.service,
        figures=done.figures,
        circuit=done.circuit if circuit else None,
        circuit_state=None if after is None else word(after.state),
    )


def prefers_text(accept: str) -> bool:
    """Whether an `Accept` value (RFC 9110 section 12.5.1) puts a format of Prometheus before JSON. Wildcards are for
    JSON: a person or a script."""
    text = json = 0.0
    for media, quality in media_ranges(accept):
        if media in {"application/openmetrics-text", "text/plain"}:
            text = max(text, quality)
        elif media == "application/json":
            json = max(json, quality)
    return text > json
