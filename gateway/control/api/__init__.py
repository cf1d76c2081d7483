"""The resilience API: its operations, made of what they tell and command."""

from functools import partial

from aiohttp import web

from gateway.control.access import Access
from gateway.control.api import (
    alerts,
    callers,
    chaos,
    circuits,
    clients,
    configuration,
    docs_page,
    endpoints,
    errors,
    explain,
    faults,
    health,
    hour,
    idempotency,
    issuers,
    live,
    metrics,
    openapi,
    outbox,
    rehearsals,
    sagas,
    service,
    workers,
)
from gateway.control.api import routes as route_list
from gateway.control.api.operation import routes as serve
from gateway.control.live.broadcast import Broadcast
from gateway.control.parts import ControlledGateway
from gateway.control.services import Services


def routes(gateway: ControlledGateway, access: Access, broadcast: Broadcast) -> list[web.RouteDef]:
    """Everything below `/api`, with the document that describes it and the page to read that."""
    with_figures = Services(gateway.figures.services)
    with_circuits = Services(circuit.upstream for circuit in gateway.view.circuits)
    about_circuits = [*circuits.operations(gateway), *endpoints.operations(gateway)]
    on_demand = [
        *faults.operations(gateway, with_circuits),
        *chaos.operations(gateway, with_circuits),
        *rehearsals.operations(gateway, with_circuits),
    ]
    about_the_rest = [
        *health.operations(gateway),
        *metrics.operations(gateway),
        *errors.operations(gateway, with_figures),
        *alerts.operations(gateway),
        *explain.operations(gateway),
        *workers.operations(gateway),
        *service.operations(gateway),
        *callers.operations(gateway),
        *idempotency.operations(gateway),
        *outbox.operations(gateway),
        *sagas.operations(gateway),
        *issuers.operations(gateway),
        *live.operations(broadcast),
        *route_list.operations(gateway),
        *hour.operations(gateway),
        *configuration.operations(gateway),
        *clients.operations(gateway),
    ]
    document = partial(
        openapi.document,
        # Where there are no faults, all of theirs but the list only say so.
        [*about_the_rest, *about_circuits, *(on_demand if gateway.faults is not None else on_demand[:1])],
        services=with_circuits.names,
        version=gateway.view.version,
        needs_token=access.needs_token,
        guards_reading=access.guards_reading,
    )
    return [
        *serve([*about_circuits, *on_demand], access, with_circuits),
        *serve(about_the_rest, access, with_figures),
        *openapi.routes(document),
        *docs_page.routes(),
    ]
