"""From the parts of a gateway to its control plane, which sees them through narrow interfaces."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from gateway.assembly.alerts import Alerting
from gateway.assembly.faults import Faults
from gateway.assembly.fleet import Fleet
from gateway.assembly.idempotency import Idempotency
from gateway.assembly.identity import Identity
from gateway.assembly.outbox import Outbox
from gateway.assembly.sagas import Sagas
from gateway.assembly.telemetry import Telemetry
from gateway.config.model import GatewayConfig
from gateway.control import api, console, root_page
from gateway.control.access import Access
from gateway.control.app import ControlPlane
from gateway.control.live.broadcast import Broadcast
from gateway.control.parts import ControlledGateway, SettingView, nothing_past
from gateway.control.paths import is_control_path, is_control_path_or_root, is_health_path
from gateway.control.ports.callers import CallersView
from gateway.control.scrape import Scrape
from gateway.proxy.requests.identity import Identification
from gateway.proxy.routes.explain import Explain, nobody
from gateway.proxy.routes.topology import Topology
from gateway.proxy.runtime import Runtime
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.snapshot import Parts
from gateway.telemetry.services.figures import Figures
from gateway.views.process import FleetCommands, FleetEndpointCommands, LiveView
from gateway.worker.commands import SupervisorCommands
from gateway.worker.one_service import OneService
from gateway.worker.supervisor import Supervisor
from gateway.worker.whole_busy import WholeBusy
from gateway.worker.whole_callers import WholeCallers
from gateway.worker.whole_view import WholeView


def build_explain(
    topology: Topology,
    runtime: Runtime,
    identification: Identification,
    control_path: Callable[[bytes], bool],
    identity: Identity | None,
) -> Explain:
    """What asks the gates of `topology` what would become of a request."""
    return Explain(
        lambda: topology,
        is_control_path=control_path,
        stopping=lambda: runtime.stopping,
        clock=time.monotonic,
        is_exempt=identification.is_exempt,
        caller_of=nobody if identity is None else identity.caller_of,
    )


def build_control(
    config: GatewayConfig,
    telemetry: Telemetry,
    fleet: Fleet,
    own: LiveView,
    figures: Figures,
    alerting: Alerting,
    explain: Explain,
    one_service: OneService | None,
    supervisor: Supervisor | None,
    identity: Identity | None,
    idempotency: Idempotency | None,
    outbox: Outbox | None,
    sagas: Sagas | None,
    faults: Faults | None,
    settings: Sequence[SettingView] = (),
) -> ControlPlane:
    """The control plane, which sees and commands `own`, or with `one_service` all workers. `settings` is what it shows
    of the configuration."""
    view = own if one_service is None else WholeView(own, one_service.host)
    scrape = Scrape(telemetry.metrics, gather=one_service.parts if one_service is not None else None)
    gateway = ControlledGateway(
        view=view,
        figures=figures,
        alerts=alerting.alerts,
        history=telemetry.history,
        commands=FleetCommands(fleet.circuits),
        endpoint_commands=FleetEndpointCommands(fleet.out),
        breakers={name: upstream.breaker for name, upstream in config.upstreams.items()},
        explainer=explain,
        scrape=scrape,
        service_commands=SupervisorCommands(supervisor) if supervisor is not None else None,
        on_cleanup=one_service.cleanup_alerts if one_service is not None else lambda: None,
        callers=_callers(identity, one_service),
        idempotency=None if idempotency is None else idempotency.view,
        outbox=None if outbox is None else outbox.view,
        busy=WholeBusy(telemetry.busiest, None if one_service is None else one_service.host),
        settings=settings,
        past=one_service.past if one_service is not None else nothing_past,
        sagas=None if sagas is None else sagas.view,
        faults=None if faults is None else faults.view,
        adaptive={name: each.adaptive.enforce for name, each in config.upstreams.items() if each.adaptive is not None},
    )
    access = _access(config)
    broadcast = Broadcast(gateway, one_service.parts if one_service is not None else partial(_alone, telemetry.metrics))
    prefixes = [route.prefix for route in config.routes if route.host is None]
    more = [
        *api.routes(gateway, access, broadcast),
        *console.routes(config.service, access, config.console.dashboards_url),
        *root_page.routes(config.service, prefixes),
    ]
    return ControlPlane(
        *(view, telemetry.metrics),
        own=own,
        scrape=scrape,
        more=more,
        is_operator=access.is_operator,
        end_streams=broadcast.end,
    )


def _access(config: GatewayConfig) -> Access:
    return Access(
        config.admin.token,
        time.monotonic,
        production=config.environment.lower() == "production",
        guards_reading=config.console.auth == "token",
    )


async def _alone(metrics: Metrics) -> Parts:
    """The figures of a gateway that is this process."""
    own = metrics.snapshot()
    return Parts(own, [(0, own)], {})


def _callers(identity: Identity | None, one_service: OneService | None) -> CallersView | None:
    """What the control plane sees of tenants: of all workers, where there may be several."""
    if identity is None or one_service is None:
        return None if identity is None else identity.view
    one_service.callers = identity.view
    return WholeCallers(identity.view, one_service.host)


def control_paths(config: GatewayConfig) -> Callable[[bytes], bool]:
    """Which paths of the listener's port belong to the control plane."""
    if config.admin.port is not None:
        return is_health_path
    # Where a route takes `/`, for whichever host, it is the route's.
    root_is_ours = all(route.prefix != "/" for route in config.routes)
    return is_control_path_or_root if root_is_ours else is_control_path
