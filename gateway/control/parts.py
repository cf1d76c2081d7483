"""The parts of the gateway that the API's operations read and command."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from gateway.control.history import CircuitHistory
from gateway.control.ports.callers import CallersView
from gateway.control.ports.clients import BusyView
from gateway.control.ports.explain import Explainer
from gateway.control.ports.faults import FaultsView
from gateway.control.ports.gateway import CircuitCommands, CircuitView, EndpointCommands, GatewayView, ServiceCommands
from gateway.control.ports.journal import IdempotencyView
from gateway.control.ports.outbox import OutboxView
from gateway.control.ports.sagas import SagasView
from gateway.control.scrape import Scrape
from gateway.telemetry.alerts.alerts import Alerts
from gateway.telemetry.alerts.rules import AlertSettings
from gateway.telemetry.services.figures import Figures


class ServiceStates(NamedTuple):
    """The circuits by upstream, the upstreams that have no endpoint left, and the thresholds for errors."""

    circuits: dict[str, CircuitView]
    exhausted: frozenset[str]
    thresholds: AlertSettings


Step = tuple[float, Mapping[str, tuple[int, int]]]
"""One step of the last hour: when it ended, and by route how many requests there were and how many of them failed.
Routes that split their requests have a count for each upstream besides (`gateway.supervisor.hour`)."""


async def nothing_past() -> Sequence[Step]:
    """Where nobody has counted."""
    return ()


class SettingView(Protocol):
    """One setting in effect, fit to be shown: its name, its value, and where that comes from."""

    @property
    def setting(self) -> str:
        """A variable, or a place in the file."""
        ...

    @property
    def value(self) -> str:
        """As it was written. Secrets are masked."""
        ...

    @property
    def source(self) -> str:
        """The default, the environment, or a line of a file."""
        ...

    @property
    def is_default(self) -> bool:
        """Whether nobody set it."""
        ...


@dataclass(frozen=True, slots=True)
class ControlledGateway:
    """The gateway as the control plane sees and commands it. `breakers` has the settings of each upstream's circuit:
    attributes in the names of `models.circuits.CircuitSettings`."""

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
    busy: BusyView | None = None
    settings: Sequence[SettingView] = ()
    past: Callable[[], Awaitable[Sequence[Step]]] = nothing_past
    """The last hour, oldest first."""
    sagas: SagasView | None = None
    faults: FaultsView | None = None
    adaptive: Mapping[str, bool] = field(default_factory=dict)
    """The upstreams that have an adaptive limit, and whether it is in force."""
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
