"""The parts of the gateway that the API's operations read and command."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gateway.control.callers import CallersView
from gateway.control.explaining import Explainer
from gateway.control.history import CircuitHistory
from gateway.control.outbox import OutboxView
from gateway.control.promises import IdempotencyView
from gateway.control.scrape import Scrape
from gateway.control.view import CircuitCommands, CircuitView, EndpointCommands, GatewayView, ServiceCommands
from gateway.telemetry.alerts import Alerts, AlertSettings
from gateway.telemetry.figures import Figures


class ServiceStates(NamedTuple):
    """The circuits by upstream, the upstreams that have no endpoint left, and the thresholds for errors."""

    circuits: dict[str, CircuitView]
    exhausted: frozenset[str]
    thresholds: AlertSettings


@dataclass(frozen=True, slots=True)
class ControlFacts:
    """`breakers` has the settings of each upstream's circuit: attributes in the names of `models.CircuitSettings`."""

    view: GatewayView
    figures: Figures
    alerts: Alerts
    history: CircuitHistory
    commands: CircuitCommands
    endpoint_commands: EndpointCommands
    breakers: Mapping[str, object]
    explainer: Explainer
    scrape: Scrape
    service_commands: ServiceCommands | None = None
    """None: this process is the whole gateway, and has no supervisor."""
    on_cleanup: Callable[[], None] = lambda: None
    """Called when resolved alerts were forgotten here, so that the other workers forget them too."""
    callers: CallersView | None = None
    idempotency: IdempotencyView | None = None
    outbox: OutboxView | None = None
    clock: Callable[[], float] = time.time

    def states(self) -> ServiceStates:
        """All circuits and endpoints, looked at once."""
        usable: dict[str, bool] = {}
        for each in self.view.endpoints:
            usable[each.upstream] = usable.get(each.upstream, False) or each.available
        return ServiceStates(
            {circuit.upstream: circuit for circuit in self.view.circuits},
            frozenset(upstream for upstream, any_left in usable.items() if not any_left),
            self.alerts.settings,
        )

    def circuit(self, upstream: str) -> CircuitView | None:
        """The circuit of an upstream. None where no upstream has this name (the gateway itself has figures, but no
        circuit)."""
        return next((circuit for circuit in self.view.circuits if circuit.upstream == upstream), None)
