"""`/api/resilience/health`: what `/health` says, with the error rates and the alerts. Always 200, as `/health` is."""

from typing import Any

from gateway.control.api.circuits import word
from gateway.control.api.operation import Call, Operation, get
from gateway.control.models.service_health import ResilienceHealth, ServiceHealth
from gateway.control.models.shapes import Nothing
from gateway.control.parts import ControlledGateway
from gateway.control.service_health import judged, overall
from gateway.telemetry.log.render import rfc3339
from gateway.telemetry.services.rates import DEFAULT_WINDOW


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operation that judges each service and the whole."""

    async def health(_: Call[Nothing, Nothing]) -> ResilienceHealth:
        """The judgement of each service and of the whole."""
        rates = await gateway.figures.rates(DEFAULT_WINDOW)
        states = gateway.states()
        services = {name: judged(states, rate) for name, rate in rates.items()}
        whole = overall(gateway, states, services)
        words = {name: word(circuit.state) for name, circuit in states.circuits.items()}
        return ResilienceHealth(
            status=whole.status,
            time=rfc3339(gateway.clock()),
            reasons=whole.reasons,
            window_minutes=round(DEFAULT_WINDOW / 60),
            services=[
                ServiceHealth(
                    service=name,
                    status=services[name].status,
                    circuit_state=words.get(name),
                    error_rate=round(min(1.0, rate.error_rate), 6),
                    errors_per_minute=round(rate.errors_per_minute, 3),
                    last_error_time=None if rate.last_error_time is None else rfc3339(rate.last_error_time),
                    reasons=services[name].reasons,
                )
                for name, rate in rates.items()
            ],
            active_alerts=len(gateway.alerts.active()),
            scope=next(iter(rates.values())).scope,
        )

    return [
        get(
            "/api/resilience/health",
            "getHealth",
            "Whether all is well, and what to do if not",
            ResilienceHealth,
            health,
        )
    ]
